"""A record that lies on its topic again because somebody redrove its dead letter: what its headers say, and how readers take it.

Such a record is the original, byte for byte, with headers of ours beside it. It is meant for one reader, the processor that
could not use the original: every other one has counted the original, or finds it where it lay when its view is rebuilt,
and passes over the copy. The named reader tells repeats by the command that redrove it and the letter's place in that
command, which only grow, and not by the event's own source, which is as old as the original. `repeats` asks here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, INFERENCES
from schemas.envelope import Headers, header
from schemas.types import EventId, SourcePosition, Superseded
from streams.records import Record

PREFIX = "hindsight_redrive_"
REDRIVABLE: Mapping[str, str] = MappingProxyType({FRAMES: "assess", ASSESSMENTS: "infer", INFERENCES: "derive"})
"""Which reader of a topic takes a record again. Whatever else reads it is not helped by a copy at the end of the log."""
REDRIVER = "redrive"
_COMMAND = f"{PREFIX}command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """One redrive of one record.

    Args:
        source: The command's offset on vision.commands, and the letter's place among those that it names.
        reader: The processor that it is for.
        attempt: How often the record has been redriven with this one, from 1.
        letter_offset: The letter on vision.dead-letters.
        of_offset: Where the record lay before, on the same partition; -1 if that is not told.
        was_counted: Whether the reader decoded the original and folded it before it failed.
        supersedes: The failed answer that the reader gave for the original, if it gave one.
    """

    source: SourcePosition
    reader: str
    attempt: int
    letter_offset: int
    of_offset: int = -1
    command_id: str = ""
    was_counted: bool = False
    supersedes: Superseded | None = None


def redriven_of(record: Record) -> Redriven | None:
    """How a record was redriven; None for one that was not, also when its headers only look so."""
    for name, _ in record.headers:
        if name == _COMMAND:
            break
    else:
        return None
    told = {n: header(record.headers, PREFIX + n) for n in ("command", "index", "attempt", "letter")}
    numbers = {n: number_of(text) for n, text in told.items()}
    reader = header(record.headers, f"{PREFIX}for")
    readers = REDRIVABLE.values() if record.topic == DEAD_LETTERS else (REDRIVABLE.get(record.topic),)
    if min(numbers.values()) < 0 or reader not in readers:
        return None
    outcome_id = header(record.headers, f"{PREFIX}supersedes")
    release = header(record.headers, f"{PREFIX}superseded_release") or None
    return Redriven(
        source=SourcePosition(topic=COMMANDS, partition=0, offset=numbers["command"], index=numbers["index"]),
        reader=reader,
        attempt=numbers["attempt"],
        letter_offset=numbers["letter"],
        of_offset=number_of(header(record.headers, f"{PREFIX}of")),
        command_id=header(record.headers, f"{PREFIX}id"),
        was_counted=header(record.headers, f"{PREFIX}counted") == "1",
        supersedes=Superseded(inference_id=EventId(outcome_id), release=release) if outcome_id else None,
    )


def is_for_another(record: Record, reader: str) -> bool:
    """Whether a record was redriven, and not for this reader."""
    redriven = redriven_of(record)
    return redriven is not None and redriven.reader != reader


def is_counted(redriven: Redriven | None) -> bool:
    """Whether the reader's state holds the record already, from its first time."""
    return redriven is not None and redriven.was_counted


def headers_of(redriven: Redriven) -> Headers:
    """What stands beside the original's own headers."""
    told = {
        "command": str(redriven.source.offset),
        "index": str(redriven.source.index),
        "id": redriven.command_id,
        "attempt": str(redriven.attempt),
        "letter": str(redriven.letter_offset),
        "of": str(redriven.of_offset),
        "for": redriven.reader,
        "counted": "1" if redriven.was_counted else "0",
    }
    if redriven.supersedes is not None:
        told["supersedes"] = redriven.supersedes.inference_id
        if redriven.supersedes.release is not None:
            told["superseded_release"] = redriven.supersedes.release
    return tuple((f"{PREFIX}{name}", text.encode()) for name, text in told.items())


def without_ours(headers: Iterable[tuple[str, bytes]], *prefixes: str) -> Headers:
    """Headers but for those under the prefixes."""
    return tuple((name, value) for name, value in headers if not name.startswith(prefixes))


def number_of(text: str) -> int:
    """A whole number from 0 up to 63 bits; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
