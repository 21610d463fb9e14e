"""Which letters may be redriven or discarded, and the events that say what was done. Pure."""

from dataclasses import dataclass
from typing import Any, assert_never

from processors.letters import Letter
from processors.redriven import REDRIVABLE
from processors.step import Cause
from processors.views.letters import DISCARDED, LetterState
from schemas import ids
from schemas.catalogue import COMMANDS
from schemas.events import DiscardLetters, InferenceFailed, LetterDiscarded, LetterRedriven, LetterRefused, RedriveLetters
from schemas.types import EventId, SourcePosition

Settled = LetterRedriven | LetterDiscarded | LetterRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Redone:
    """The record lies on its topic again, at `copy_offset` of its old partition."""

    letter: Letter
    copy_offset: int
    supersedes: EventId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """The letter is done with."""

    letter: Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was done with one letter."""

    letter_offset: int
    refusal: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the log says of a letter before the command.

    Args:
        done: What earlier commands did with its case.
        is_named_before: Whether the same command names the case in an earlier place.
        partitions: Of the record's topic.
        end: Of the record's partition; None where the log is not the whole one.
        is_behind: Whether the processor has not come past the record yet, and was waited for.
        followed: The first event that the processor made of the record, if any.
        lacks_result: Whether that is a failure of which derive has made no result.
        is_superseded: Whether the record is a failure whose frame was redriven since.
    """

    done: LetterState
    is_named_before: bool
    partitions: tuple[int, ...]
    followed: Any
    end: int | None = None
    is_behind: bool = False
    lacks_result: bool = False
    is_superseded: bool = False


def refusal_of_discard(letter: Letter, known: Known) -> Refused | None:
    """Why a letter cannot be discarded: something was done with it, or it is named twice."""
    return _done(letter, known)


def refusal_of_redrive(letter: Letter, known: Known, *, attempts_max: int, beyond_limit: bool) -> Refused | None:
    """Why a letter's record is not put onto its topic again, or None.

    Args:
        beyond_limit: Whether this one letter was named by somebody who knows that its record failed that often.
    """
    done = _done(letter, known)
    if done is not None:
        return done
    if not letter.is_ours:
        return _no(letter, "not_a_letter", "it does not say which record it is, and who could not use it; it can be discarded")
    if letter.left_out:
        return _no(letter, "left_out", f"the letter holds no {letter.left_out} of {letter.of}: it was too long to be kept aside")
    if letter.topic == COMMANDS:
        return _no(letter, "command", "a command is not given twice: whoever gave it gives it again, and discards this letter")
    if REDRIVABLE.get(letter.topic) != letter.processor:
        detail = f"{letter.processor} reads {letter.of} where it lies: run `hindsight views rebuild {letter.processor}`"
        return _no(letter, "read_in_place", f"{detail}, and discard this letter")
    if letter.partition not in known.partitions:
        return _no(letter, "no_such_place", f"{letter.topic} has no partition {letter.partition}")
    if known.end is not None and letter.of_offset >= known.end:
        return _no(letter, "no_such_place", f"{letter.of} is beyond the log's end at {known.end}: the letter is of another log")
    if known.is_behind:
        return _no(letter, "not_answered_yet", f"{letter.processor} has not come past {letter.of}; is one running?")
    if letter.attempts >= attempts_max and not beyond_limit:
        detail = f"its record was redriven {letter.attempts} times, and {attempts_max} is the most"
        return _no(letter, "attempts", f"{detail}; --beyond-limit with this one --offset does it once more")
    return _answered(letter, known)


def decide(
    command: RedriveLetters | DiscardLetters, outcomes: tuple[Redone | Put | Refused, ...], cause: Cause
) -> tuple[Settled, ...]:
    """One event for each letter that the command names, in its order."""
    return tuple(_event(command, outcome, cause, index) for index, outcome in enumerate(outcomes))


def outcome_of(said: Settled, letter: Letter | None) -> Redone | Put | Refused:
    """What an earlier try of the command settled stays as it is."""
    match said:
        case LetterRedriven() if letter is not None:
            return Redone(letter=letter, copy_offset=said.copy_offset, supersedes=said.supersedes)
        case LetterDiscarded() if letter is not None:
            return Put(letter=letter)
        case LetterRefused():
            return Refused(letter_offset=said.letter_offset, refusal=said.refusal, detail=said.detail)
        case _:
            return Refused(letter_offset=said.letter_offset, refusal="no_such_letter", detail="retention removed it meanwhile")


def place(cause: Cause, index: int) -> SourcePosition:
    """The command as the cause of what it asks of one letter."""
    at = cause.position
    return SourcePosition(topic=at.topic, partition=at.partition, offset=at.offset, index=index)


def _done(letter: Letter, known: Known) -> Refused | None:
    done = known.done
    if done.state == DISCARDED:
        return _no(letter, "discarded", f"{done.by} discarded it: {done.reason or 'no reason given'}")
    if done.state:
        detail = f"{done.by} redrove it as letter {done.letter_offset}; if it failed again, it has a newer letter"
        return _no(letter, "already_redriven", detail)
    if known.is_named_before:
        return _no(letter, "named_twice", f"another letter of this command is of {letter.of} for {letter.processor} too")
    return None


def _answered(letter: Letter, known: Known) -> Refused | None:
    """A failure that is recorded, and has its result, is superseded; any other answer stands."""
    followed = known.followed
    if known.is_superseded:
        return _no(letter, "already_answered", f"the frame of {letter.of} was redriven for infer since, and has its new answer")
    if known.lacks_result:
        detail = f"the failure of {letter.of} has no result that a new answer could take the place of"
        return _no(letter, "no_result_yet", f"{detail}: redrive what derive kept aside of it first, or see that derive runs")
    if followed is None and letter.superseded is not None:
        return _no(letter, "not_answered_yet", f"its failure is not on the log yet: is a {letter.processor} running?")
    if followed is not None and not isinstance(followed, InferenceFailed):
        return _no(letter, "already_answered", f"{letter.of} has its {type(followed).__name__}: {followed.event_id}")
    return None


def _event(command: RedriveLetters | DiscardLetters, outcome: Redone | Put | Refused, cause: Cause, index: int) -> Settled:
    source = place(cause, index)
    match outcome:
        case Redone(letter=letter):
            return LetterRedriven(
                event_id=ids.event_id(source, "LetterRedriven"),
                source=source,
                letter_offset=letter.offset,
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.of_offset,
                processor=letter.processor,
                copy_offset=outcome.copy_offset,
                attempt=letter.attempts + 1,
                supersedes=outcome.supersedes,
                command_id=command.command_id,
                issued_by=command.issued_by,
                reason=command.reason,
                redriven_at_us=cause.now_us,
            )
        case Put(letter=letter):
            return LetterDiscarded(
                event_id=ids.event_id(source, "LetterDiscarded"),
                source=source,
                letter_offset=letter.offset,
                topic=letter.topic if letter.is_ours else "",
                partition=letter.partition if letter.is_ours else -1,
                offset=letter.of_offset if letter.is_ours else -1,
                processor=letter.processor,
                command_id=command.command_id,
                issued_by=command.issued_by,
                reason=command.reason,
                discarded_at_us=cause.now_us,
            )
        case Refused():
            return LetterRefused(
                event_id=ids.event_id(source, "LetterRefused"),
                source=source,
                letter_offset=outcome.letter_offset,
                action="redrive" if isinstance(command, RedriveLetters) else "discard",
                refusal=outcome.refusal,
                detail=outcome.detail,
                command_id=command.command_id,
                issued_by=command.issued_by,
                refused_at_us=cause.now_us,
            )
        case _:
            assert_never(outcome)


def _no(letter: Letter, refusal: str, detail: str) -> Refused:
    return Refused(letter_offset=letter.offset, refusal=refusal, detail=detail)
