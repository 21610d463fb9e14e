"""Hundreds of letters are asked for in parts; what was settled is told also when a later part is not."""

from typing import Any

import pytest

from schemas.errors import TransientError
from topology import commands, letters
from topology.settings import Settings


def test_letters_that_were_settled_are_told_when_a_later_part_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names how many are settled and how many were never asked for, and holds the events of the first."""
    asked: list[int] = []

    def late_at_the_second(settings: Any, command: Any, *, until: Any, **_: Any) -> None:
        asked.append(len(command.letter_offsets))
        if len(asked) == 2:
            raise TransientError("nothing settled it", do="look at the worker")

    monkeypatch.setattr(commands, "send", late_at_the_second)
    monkeypatch.setattr(letters, "_some", _settling(letters._some))
    with pytest.raises(letters.Interrupted, match=r"500 letters are settled.*the last 200 letters were not asked for") as told:
        letters.send(Settings(), "discard", tuple(range(1200)), reason="r", beyond_limit=False, wait_s=1.0)
    assert (asked, len(told.value.settled)) == ([500, 500], 500)


def _settling(some: Any) -> Any:
    """Kafka is not here: each letter of a part that was sent is settled."""
    return lambda settings, verb, offsets, *rest: [*some(settings, verb, offsets, *rest), *offsets]
