"""What the log says of a command's letters: the letters, what was said and written of them, and what came of their records.

Each partition is gone through once for all letters of a command, since records lie there in order. `step` asks here before it
decides, and `lookback.cases` asks what came of letters that somebody may redrive.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processors.letters import Letter, case_of, letter_of
from processors.lookback.followed import Sought, followed_all
from processors.redrive.core import Settled
from processors.redriven import redriven_of
from processors.views.letters import LetterState, case_key, fold_letter
from schemas.catalogue import DEAD_LETTERS, INFERENCES, REDRIVES
from schemas.codec import Schemas, decode
from schemas.errors import ContractError
from schemas.events import InferenceFailed, LetterRedriven
from streams.events import events_of
from streams.ports import EventLog
from streams.records import Record

_CLOCK_SLACK_MS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the letter's processor made of its record; `lacks_result` if that is a failure of which derive made no result."""

    event: Any
    lacks_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the events on vision.redrives say as a command sees them.

    Args:
        own: What an earlier try of this command settled, by the letter's place in it.
        done: What commands before it did, by case.
        superseded: Failures that copies of theirs take the place of.
    """

    own: Mapping[int, Settled]
    done: Mapping[str, LetterState]
    superseded: frozenset[str] = field(default=frozenset())


def letter_at(log: EventLog, offset: int) -> Letter | None:
    """One letter; None when the log does not hold it."""
    bounds = log.bounds(DEAD_LETTERS, 0)
    if not bounds.earliest <= offset < bounds.end:
        return None
    record = next(iter(log.read(DEAD_LETTERS, 0, offset, offset + 1)), None)
    return None if record is None or record.offset != offset else letter_of(record)


def keys_of(letter: Letter, schemas: Schemas) -> frozenset[bytes]:
    """What an answer to the letter's record may be keyed by."""
    keys = {letter.key or b""}
    try:
        event = decode(letter.value, letter.topic, schemas)
        keys.add(str(event.frame.device_id if hasattr(event, "frame") else getattr(event, "device_id", "")).encode())
    except ContractError:
        pass
    return frozenset(keys)


def said(log: EventLog, schemas: Schemas, command_offset: int) -> Said:
    """All of vision.redrives, as the command there sees it."""
    own: dict[int, Settled] = {}
    done: dict[str, LetterState] = {}
    superseded: set[str] = set()
    for _, event in events_of(log, schemas, REDRIVES, 0):
        case = case_key(event)
        if event.source.offset == command_offset:
            own.setdefault(event.source.index, event)
        elif case is not None and event.source.offset < command_offset:
            done[case] = fold_letter(done.get(case, LetterState()), event)
            superseded |= {event.supersedes} if isinstance(event, LetterRedriven) and event.supersedes else set()
    return Said(own=own, done=done, superseded=frozenset(superseded))


def copies(
    log: EventLog, letters: Iterable[Letter], command_offset: int, asked_at_ms: int
) -> dict[tuple[str, int], dict[int, Record]]:
    """What the command wrote before its worker died: by topic and partition, and by the letter's place in the command."""
    found: dict[tuple[str, int], dict[int, Record]] = {}
    for topic, partition in {(x.topic, x.partition) for x in letters if x.is_ours and x.partition in log.partitions(x.topic)}:
        here = found.setdefault((topic, partition), {})
        bounds = log.bounds(topic, partition)
        start = max(bounds.earliest, log.offset_at(topic, partition, max(0, asked_at_ms - _CLOCK_SLACK_MS)))
        for record in log.read(topic, partition, start, bounds.end):
            redriven = redriven_of(record)
            if redriven is not None and redriven.source.offset == command_offset:
                here.setdefault(redriven.source.index, record)
    return found


def answers(
    log: EventLog, schemas: Schemas, letters: Iterable[tuple[Letter, frozenset[bytes]]], done: Mapping[str, LetterState]
) -> dict[int, Answer]:
    """What each letter's processor made of its record, by the letter's offset; without those of which it made nothing.

    Args:
        letters: Each with what its answer may be keyed by.
        done: What was done, by case: what derive could not use may have been redriven.
    """
    by_place: dict[tuple[str, str, int], list[tuple[Letter, Sought]]] = defaultdict(list)
    for letter, keys in letters:
        if letter.is_ours:
            sought = Sought(offset=letter.of_offset, at_ms=letter.lay_at_ms, keys=keys)
            by_place[letter.processor, letter.topic, letter.partition].append((letter, sought))
    found: dict[int, tuple[Record, Any]] = {}
    failed: dict[int, list[tuple[Letter, Sought]]] = defaultdict(list)
    for (processor, topic, partition), asked in by_place.items():
        made = followed_all(log, schemas, processor, topic=topic, partition=partition, sought=[s for _, s in asked])
        for letter, sought in asked:
            if sought.offset in made:
                record, event = found[letter.offset] = made[sought.offset]
                if isinstance(event, InferenceFailed):
                    read_at = _last_copy(record, done)
                    after = Sought(offset=read_at, at_ms=record.appended_at_ms, keys=sought.keys)
                    failed[record.partition].append((letter, after))
    lacking: set[int] = set()
    for partition, after_them in failed.items():
        results = followed_all(log, schemas, "derive", topic=INFERENCES, partition=partition, sought=[s for _, s in after_them])
        lacking |= {letter.offset for letter, sought in after_them if sought.offset not in results}
    return {offset: Answer(event=event, lacks_result=offset in lacking) for offset, (_, event) in found.items()}


def _last_copy(record: Record, done: Mapping[str, LetterState]) -> int:
    """Where derive reads an inference: where it lies, or where its last copy does."""
    offset = record.offset
    while (copy := done.get(case_of(INFERENCES, record.partition, offset, "derive"), LetterState()).copy_offset) > offset:
        offset = copy
    return offset
