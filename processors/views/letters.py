"""The fold behind the view `letters`: what was done with each case of the dead letters. Pure.

A case is a record that one processor could not use (`processors.letters`); one that is not in the view is open.
"""

from dataclasses import dataclass
from typing import Any

from processors.letters import case_of
from schemas.events import LetterDiscarded, LetterRedriven

REDRIVEN, DISCARDED = "redriven", "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterState:
    """What was done with a case. `copy_offset` is where a redriven record lies again, on its old partition; else -1."""

    state: str = ""
    letter_offset: int = -1
    copy_offset: int = -1
    attempt: int = 0
    command_id: str = ""
    by: str = ""
    reason: str = ""
    at_us: int = 0


def case_key(event: Any) -> str | None:
    """The case that an event is about; None for a refusal, after which all is as before."""
    if not isinstance(event, LetterRedriven | LetterDiscarded):
        return None
    if not event.topic:
        return f"letter {event.letter_offset}"
    return case_of(event.topic, event.partition, event.offset, event.processor)


def fold_letter(state: LetterState, event: Any) -> LetterState:
    match event:
        case LetterRedriven():
            return LetterState(
                state=REDRIVEN,
                letter_offset=event.letter_offset,
                copy_offset=event.copy_offset,
                attempt=event.attempt,
                command_id=event.command_id,
                by=event.issued_by,
                reason=event.reason,
                at_us=event.redriven_at_us,
            )
        case LetterDiscarded():
            return LetterState(
                state=DISCARDED,
                letter_offset=event.letter_offset,
                command_id=event.command_id,
                by=event.issued_by,
                reason=event.reason,
                at_us=event.discarded_at_us,
            )
        case _:
            return state
