"""Dead letters with what became of them: each letter, whose record it was, what was done about it, and what followed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from processors.letters import Letter, case_of, letter_of
from processors.lookback.followed import followed
from processors.redrive import core
from processors.redrive.looking import answers
from processors.views.catalogue import VIEWS
from processors.views.letters import DISCARDED, REDRIVEN, LetterState
from processors.views.replay import fold_log
from schemas.catalogue import DEAD_LETTERS, REDRIVES, TOPICS
from schemas.codec import decode
from schemas.errors import ContractError
from streams.past import Past
from streams.records import Record

OPEN, AGAIN, SAME = "open", "failed again", "same as"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters: empty or None means any. Moments in microseconds, both included."""

    error_class: str = ""
    device: str = ""
    processor: str = ""
    from_us: int | None = None
    to_us: int | None = None

    def takes(self, case: "Case") -> bool:
        letter = case.letter
        return (
            self.error_class in ("", letter.error_class)
            and self.device in ("", case.device)
            and self.processor in ("", letter.processor)
            and (self.from_us is None or self.from_us <= letter.appended_at_us)
            and (self.to_us is None or letter.appended_at_us <= self.to_us)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One letter and what is known of it.

    `event` is None where the record cannot be decoded, as `unreadable` says. `state` is open, redriven, failed again,
    discarded, or same as another letter, whose offset is `other`: of the same record and processor, or the newer failure.
    """

    letter: Letter
    event: Any
    unreadable: str
    device: str
    frame_id: str
    state: str
    done: LetterState
    other: int | None = None

    @property
    def step(self) -> str:
        """The step that failed, where the letter names one."""
        return self.letter.more.get("step", "")

    @property
    def is_open(self) -> bool:
        return self.state == OPEN


def cases(past: Past, wanted: Wanted) -> tuple[Case, ...]:
    """The letters that are wanted, in their order, without their records' bytes.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    done, found = _done(past), list[Case]()
    firsts: dict[str, int] = {}
    for record in _letters(past):
        name = letter_of(record).case
        first = firsts.setdefault(name, record.offset)
        if wanted.from_us is not None and record.appended_at_ms * 1000 < wanted.from_us:
            continue
        case = _same(_case(past, record, done), first)
        found.append(replace(case, event=None, letter=replace(case.letter, value=None, headers=())))
    return tuple(case for case in (_with_newer(c, firsts) for c in found) if wanted.takes(case))


def case_at(past: Past, offset: int) -> Case | None:
    """One letter with its record; None when the log does not hold it (any more)."""
    if 0 not in past.log.partitions(DEAD_LETTERS):
        return None
    bounds = past.log.bounds(DEAD_LETTERS, 0)
    if not bounds.earliest <= offset < bounds.end:
        return None
    record = next(iter(past.log.read(DEAD_LETTERS, 0, offset, offset + 1)), None)
    if record is None or record.offset != offset:
        return None
    case = _case(past, record, _done(past))
    firsts: dict[str, int] = {}
    for one in _letters(past):
        firsts.setdefault(letter_of(one).case, one.offset)
    return _with_newer(_same(case, firsts[case.letter.case]), firsts)


def _same(case: Case, first: int) -> Case:
    """An open letter of a case that has an earlier one."""
    return replace(case, state=SAME, other=first) if first != case.letter.offset and case.is_open else case


def answer_of(past: Past, case: Case, offset: int, at_ms: int) -> tuple[Record, Any] | None:
    """What the letter's processor made of the record at one offset of its partition: where it lay first, or of its copy.

    Args:
        at_ms: When it was appended, at the latest.
    """
    letter = case.letter
    if not letter.is_ours:
        return None
    return followed(
        past.log,
        past.schemas,
        letter.processor,
        topic=letter.topic,
        partition=letter.partition,
        offset=offset,
        at_ms=at_ms,
        keys={letter.key or b"", case.device.encode()},
    )


def refusal(past: Past, case: Case, *, attempts_max: int) -> core.Refused | None:
    """Why the redrive processor would not redrive it now, as far as the log says; None when it would."""
    return refusals(past, (case,), attempts_max=attempts_max).get(case.letter.offset)


def refusals(past: Past, found: Sequence[Case], *, attempts_max: int) -> dict[int, core.Refused]:
    """The same of many letters, by their offsets; each partition is gone through once."""
    keyed = [(case.letter, frozenset({case.letter.key or b"", case.device.encode()})) for case in found]
    answered = answers(past.log, past.schemas, keyed, _done(past))
    refused: dict[int, core.Refused] = {}
    for case in found:
        letter, answer = case.letter, answered.get(case.letter.offset)
        known = core.Known(
            done=case.done,
            is_named_before=False,
            partitions=past.log.partitions(letter.topic) if letter.is_ours else (),
            followed=None if answer is None else answer.event,
            lacks_result=answer is not None and answer.lacks_result,
        )
        no = core.refusal_of_redrive(letter, known, attempts_max=attempts_max, beyond_limit=False)
        refused |= {} if no is None else {letter.offset: no}
    return refused


def _letters(past: Past) -> Iterator[Record]:
    if 0 not in past.log.partitions(DEAD_LETTERS):
        return iter(())
    bounds = past.log.bounds(DEAD_LETTERS, 0)
    return past.log.read(DEAD_LETTERS, 0, bounds.earliest, bounds.end)


def _done(past: Past) -> dict[str, LetterState]:
    if 0 not in past.log.partitions(REDRIVES):
        return {}
    end = past.log.bounds(REDRIVES, 0).end
    return dict(fold_log(VIEWS["letters"], past.log, past.schemas, 0, end).states)


def _case(past: Past, record: Record, done: dict[str, LetterState]) -> Case:
    letter = letter_of(record)
    event, unreadable = None, "the letter does not say which topic's record it is"
    if letter.topic in TOPICS:
        try:
            event, unreadable = decode(letter.value, letter.topic, past.schemas), ""
        except ContractError as error:
            unreadable = f"its {letter.left_out} is not here" if letter.left_out else str(error)
    frame = getattr(event, "frame", None)
    device = str(frame.device_id) if frame is not None else str(getattr(event, "device_id", letter.device))
    state = done.get(letter.case, LetterState())
    return Case(
        letter=letter,
        event=event,
        unreadable=unreadable,
        device=device,
        frame_id=str(frame.frame_id) if frame is not None else letter.more.get("frame_id", ""),
        state={REDRIVEN: REDRIVEN, DISCARDED: DISCARDED}.get(state.state, OPEN),
        done=state,
    )


def _with_newer(case: Case, firsts: dict[str, int]) -> Case:
    """A redriven letter whose copy was kept aside as well has failed again."""
    letter = case.letter
    newer = firsts.get(case_of(letter.topic, letter.partition, case.done.copy_offset, letter.processor))
    return replace(case, state=AGAIN, other=newer) if case.state == REDRIVEN and newer is not None else case
