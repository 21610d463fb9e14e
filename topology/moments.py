"""Moments as people type them: RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago", "now"."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dateparser

from schemas.errors import ContractError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS_APART_US = 2_000_000
_DO = 'try "2026-11-22 03:47", "2026-11-22T03:47:00Z", "last tue 03:47" or "10m ago"'


def parse_moment(text: str, *, zone: str, now_us: int) -> int:
    """Microseconds since the epoch, in the years 1 to 9999 UTC.

    Args:
        zone: IANA name of the time zone that a time without one is in.
        now_us: What "ago" counts from.
    Raises:
        ContractError: nobody can tell which moment is meant, no calendar has it, or there is no such zone.
    """
    local = (_EPOCH + timedelta(microseconds=now_us)).astimezone(_zone(zone)).replace(tzinfo=None)
    exact = _rfc3339(text)
    if exact is not None:
        return _microseconds(exact, text)
    settings = {
        "RELATIVE_BASE": local,
        "PREFER_DATES_FROM": "past",
        "TIMEZONE": zone,
        "RETURN_AS_TIMEZONE_AWARE": True,
    }
    try:
        found = dateparser.parse(text, languages=["en"], settings=settings)  # type: ignore[arg-type]  # its stubs want a TypedDict
    except Exception as error:  # whatever it makes of odd texts: OverflowError and ValueError were seen
        raise ContractError(f"{text!r} is no moment that can be understood: {error}", do=_DO) from error
    if found is None:
        raise ContractError(f"{text!r} is no moment that can be understood", do=_DO)
    return _microseconds(found, text)


def past_moment(text: str, *, zone: str, now_us: int) -> int:
    """The same, for a question about what was known: a moment that is over, but for 2 s that clocks may be apart.

    Raises:
        ContractError: as `parse_moment`, or the moment lies in the future.
    """
    at_us = parse_moment(text, zone=zone, now_us=now_us)
    if at_us > now_us + _CLOCKS_APART_US:
        raise ContractError(
            f"{text!r} is {show_moment(at_us, zone)}, and now it is {show_moment(now_us, zone)}: nobody knows yet what was known",
            do="ask about a moment that is over",
        )
    return at_us


def show_moment(at_us: int, zone: str) -> str:
    """A moment in a zone, to the millisecond, with the zone's offset. A number that no calendar has, such as the time of a
    device with a broken clock, is shown as the number that it is.

    Raises:
        ContractError: there is no such zone.
    """
    where = _zone(zone)
    try:
        return (_EPOCH + timedelta(microseconds=at_us)).astimezone(where).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError):
        return f"{at_us} us since 1970"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ContractError(f"there is no time zone {name!r}", do="use a name such as Europe/Berlin or UTC") from error


def parse_duration_s(text: str) -> float:
    """Seconds of a span as people type it: "30s", "5m", "1.5h", "2d", or a bare number of seconds.

    Raises:
        ContractError: it is none, or not above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?\s*", text)
    if found is None or not float(found[1]):
        raise ContractError(f"{text!r} is no span of time", do='try "30s", "5m" or "1h"')
    return float(found[1]) * {"ms": 0.001, "m": 60, "min": 60, "h": 3600, "d": 86400}.get(found[2] or "s", 1)


def _rfc3339(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _microseconds(moment: datetime, text: str) -> int:
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (OverflowError, ValueError) as error:
        raise ContractError(f"{text!r} is not in the years 1 to 9999 of UTC", do=_DO) from error
