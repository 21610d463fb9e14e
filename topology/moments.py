"""Moments as people type them: RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago", "now"."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dateparser

from schemas.errors import ContractError

_DO = 'try "2026-11-22 03:47", "2026-11-22T03:47:00Z", "last tue 03:47" or "10m ago"'


def parse_moment(text: str, *, zone: str, now_us: int) -> int:
    """Microseconds since the epoch.

    Args:
        zone: IANA name of the time zone that a time without one is in.
        now_us: What "ago" counts from.
    Raises:
        ContractError: nobody can tell which moment is meant, or there is no such zone.
    """
    try:
        local = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ContractError(f"there is no time zone {zone!r}", do="use a name such as Europe/Berlin or UTC") from error
    exact = _rfc3339(text)
    if exact is not None:
        return exact
    settings = {
        "RELATIVE_BASE": local,
        "PREFER_DATES_FROM": "past",
        "TIMEZONE": zone,
        "RETURN_AS_TIMEZONE_AWARE": True,
    }
    found = dateparser.parse(text, languages=["en"], settings=settings)  # type: ignore[arg-type]  # its stubs want a TypedDict
    if found is None:
        raise ContractError(f"{text!r} is no moment that can be understood", do=_DO)
    return _microseconds(found)


def _rfc3339(text: str) -> int | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return _microseconds(found) if found.tzinfo is not None else None


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def show_moment(at_us: int, zone: str) -> str:
    """A moment in a zone, to the millisecond, with the zone's offset."""
    return datetime.fromtimestamp(at_us / 1e6, ZoneInfo(zone)).isoformat(sep=" ", timespec="milliseconds")
