"""Telling repeats from news: by source, for each writer apart; and names that nobody may take."""

import pytest

from processors.repeats import SOURCES_KEY, Seen, refuse_reserved
from schemas.errors import ContractError
from tests.given import accepted, captured


def test_only_what_lies_beyond_the_last_source_is_news() -> None:
    """The same source, and every one before it, is a repeat; the next one is not."""
    seen = Seen().with_event(accepted(offset=5))
    assert [seen.is_repeat(accepted(offset=n)) for n in (4, 5, 6)] == [True, True, False]


def test_writers_count_apart() -> None:
    """Two processors that read the same topic do not make each other's events repeats."""
    seen = Seen().with_event(accepted(offset=9), "hindsight/derive")
    assert seen.is_repeat(accepted(offset=5), "hindsight/derive")
    assert not seen.is_repeat(accepted(offset=5), "hindsight/monitor")


def test_a_repeat_does_not_turn_the_count_back() -> None:
    """Counting an older source leaves what was seen as it is."""
    seen = Seen().with_event(accepted(offset=9))
    assert seen.with_event(accepted(offset=3)) == seen


def test_what_came_from_outside_is_never_a_repeat() -> None:
    """An event without a source is always news, and is not remembered."""
    assert Seen().with_event(captured(0)) == Seen()
    assert not Seen().is_repeat(captured(0))


def test_the_name_of_the_sources_is_nobodys_key() -> None:
    """A device that calls itself by it is refused; any other name goes, and so does none."""
    with pytest.raises(ContractError):
        refuse_reserved(SOURCES_KEY)
    refuse_reserved("gate-1")
    refuse_reserved(None)
