"""Asking the redrive processor about dead letters, some hundreds at a time, and waiting for its answer to each."""

from typing import Any

from schemas.catalogue import REDRIVES
from schemas.errors import HindsightError, TransientError
from schemas.events import DiscardLetters, LetterDiscarded, LetterRedriven, LetterRefused, RedriveLetters
from streams.records import system_clock
from topology import commands
from topology.settings import Settings

_AT_ONCE = 500


class Interrupted(TransientError):
    """Not all letters were settled; `settled` are the events of those that were."""

    def __init__(self, settled: tuple[Any, ...], unasked: int, error: HindsightError) -> None:
        left = f"; the last {unasked} letters were not asked for" if unasked > 0 else ""
        super().__init__(f"{len(settled)} letters are settled, and then: {error}{left}", do=error.do)
        self.settled = settled


def send(
    settings: Settings, verb: str, offsets: tuple[int, ...], *, reason: str, beyond_limit: bool, wait_s: float
) -> tuple[Any, ...]:
    """The events that settle each letter, in the letters' order.

    Args:
        verb: redrive or discard.
        wait_s: The longest wait for each few hundred letters.
    Raises:
        TransientError: nothing settled them in time; it may still be done.
        Interrupted: the same, when some are settled.
    """
    found: list[Any] = []
    for start in range(0, len(offsets), _AT_ONCE):
        try:
            found += _some(settings, verb, offsets[start : start + _AT_ONCE], reason, beyond_limit, wait_s)
        except HindsightError as error:
            if not found:
                raise
            raise Interrupted(tuple(found), len(offsets) - start - _AT_ONCE, error) from error
    return tuple(found)


def _some(settings: Settings, verb: str, offsets: tuple[int, ...], reason: str, beyond_limit: bool, wait_s: float) -> list[Any]:
    command_id, who, now_us = commands.new_command_id(), commands.who(), system_clock()
    command: RedriveLetters | DiscardLetters
    if verb == "redrive":
        command = RedriveLetters(
            command_id=command_id,
            letter_offsets=offsets,
            beyond_limit=beyond_limit,
            issued_by=who,
            reason=reason,
            issued_at_us=now_us,
        )
    else:
        command = DiscardLetters(command_id=command_id, letter_offsets=offsets, issued_by=who, reason=reason, issued_at_us=now_us)
    settled: dict[int, Any] = {}

    def all_settled(event: Any) -> bool:
        if isinstance(event, LetterRedriven | LetterDiscarded | LetterRefused) and event.command_id == command_id:
            settled.setdefault(event.source.index, event)
        return len(settled) == len(offsets)

    commands.send(settings, command, until=all_settled, timeout_s=wait_s, topic=REDRIVES)
    return [settled[index] for index in sorted(settled)]
