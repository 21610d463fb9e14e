"""Moments as people type them: whatever the text or the number, there is an answer or a clear refusal."""

from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ContractError
from topology.moments import parse_moment, past_moment, show_moment

NOW_US = 1_790_000_000_000_000
ZONES = sorted(available_timezones())
EXTREMES = (
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999+00:00",
    "10000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00+14:00",
    "0001-01-01",
    "9999-12-31 23:59",
    "99999999999 years ago",
    "in 99999999999 minutes",
)
_PIECES = ("0001", "9999", "-", "12", "31", "T", ":", "59", "+14:00", "Z", " ", "last", "in", "ago", "99999", "m", "year")


def moments() -> st.SearchStrategy[str]:
    """What somebody may type: anything, pieces of moments, moments of any year and zone, and the far ends of calendars."""
    pieces = st.lists(st.sampled_from(_PIECES), max_size=9).map("".join)
    dates = st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
    return st.one_of(st.text(max_size=20), pieces, dates, st.sampled_from(EXTREMES))


@given(moments(), st.sampled_from(ZONES))
def test_any_text_is_a_moment_that_can_be_shown_or_is_refused(text: str, zone: str) -> None:
    """Nothing but ContractError comes out, and what is understood is shown in any zone, also at the ends of the calendar."""
    try:
        at_us = parse_moment(text, zone=zone, now_us=NOW_US)
    except ContractError:
        return
    assert show_moment(at_us, zone)
    assert parse_moment(show_moment(at_us, "UTC"), zone=zone, now_us=NOW_US) == at_us // 1000 * 1000


@pytest.mark.parametrize("text", EXTREMES)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_the_far_ends_of_calendars(text: str, zone: str) -> None:
    """Each is a moment or is refused, whichever side of UTC the zone lies on."""
    with suppress(ContractError):
        assert show_moment(parse_moment(text, zone=zone, now_us=NOW_US), zone)


@given(st.integers(), st.sampled_from(ZONES))
def test_any_number_is_shown(at_us: int, zone: str) -> None:
    """A device may claim any time: a look back shows it, in the calendar where that has it and as the number elsewhere."""
    assert show_moment(at_us, zone)


@given(st.integers(0, 2**52), st.sampled_from(ZONES))
def test_what_is_shown_is_the_moment(at_us: int, zone: str) -> None:
    """Read back, it is the same millisecond."""
    shown = datetime.fromisoformat(show_moment(at_us, zone))
    assert (shown - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == pytest.approx(at_us // 1000 / 1000, abs=1e-3)


@given(st.one_of(st.text(max_size=10), st.sampled_from(["Europe", "", "x" * 5000, "../UTC", "a\0b", "\ud800", "zone.tab"])))
def test_any_other_name_is_no_zone(name: str) -> None:
    """A folder of zones, a path and garbage are refused alike, and so are moments in them."""
    if name in ZONES:
        return
    for ask in (lambda: show_moment(0, name), lambda: parse_moment("10m ago", zone=name, now_us=NOW_US)):
        with pytest.raises(ContractError, match="time zone"):
            ask()


def test_a_moment_that_is_to_come_is_refused() -> None:
    """What was known then, nobody knows yet; two seconds are forgiven, since clocks differ."""
    assert past_moment("now", zone="UTC", now_us=NOW_US) == NOW_US
    a_second_ahead = show_moment(NOW_US + 1_000_000, "UTC")
    assert past_moment(a_second_ahead, zone="UTC", now_us=NOW_US) == NOW_US + 1_000_000
    for text in (show_moment(NOW_US + 3_000_000, "UTC"), "in 1 hour", "2099-01-01", "9999-12-31T23:59:59Z"):
        with pytest.raises(ContractError, match="now it is"):
            past_moment(text, zone="UTC", now_us=NOW_US)
