"""What one processor made of one record: the first event that names the record as its source."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from processors.repeats import source_of, writer_of
from schemas.catalogue import ASSESSMENTS, INFERENCES, RESULTS
from schemas.codec import Schemas, decode
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Record

WRITES_TO = MappingProxyType({"assess": ASSESSMENTS, "infer": INFERENCES, "derive": RESULTS})
_CLOCK_SLACK_MS = 5000
_READ_ON_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """One record whose answer is looked for: where it lies, when it was appended at the latest, and the answer's likely keys."""

    offset: int
    at_ms: int
    keys: frozenset[bytes]


def followed(
    log: EventLog, schemas: Schemas, processor: str, *, topic: str, partition: int, offset: int, at_ms: int, keys: Iterable[bytes]
) -> tuple[Record, Any] | None:
    """The record and the event, or None; the scan ends where the processor has come further than the record.

    Args:
        at_ms: When the record was appended, at the latest.
        keys: What the event may be keyed by.
    Raises:
        LogUnavailableError: the log does not answer.
    """
    sought = Sought(offset=offset, at_ms=at_ms, keys=frozenset(keys))
    return followed_all(log, schemas, processor, topic=topic, partition=partition, sought=(sought,)).get(offset)


def followed_all(
    log: EventLog, schemas: Schemas, processor: str, *, topic: str, partition: int, sought: Sequence[Sought]
) -> dict[int, tuple[Record, Any]]:
    """The same of many records of one partition, by their offsets; those that lie near each other are looked for in one pass.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    found: dict[int, tuple[Record, Any]] = {}
    out = WRITES_TO.get(processor)
    partitions = () if out is None else log.partitions(out)
    if out is None or not partitions:
        return found
    by_number: dict[int, list[Sought]] = {}
    for one in sorted(sought, key=lambda one: one.offset):
        for number in {partition_of(key, len(partitions)) for key in one.keys} & set(partitions):
            by_number.setdefault(number, []).append(one)
    for number, here in sorted(by_number.items()):
        for near in _near(here):
            for record, event in _pass(log, schemas, f"hindsight/{processor}", (topic, partition), (out, number), near):
                found.setdefault(event.source.offset, (record, event))
    return found


def _near(sought: Sequence[Sought]) -> Iterator[list[Sought]]:
    """Cut where so long goes by that a new start is quicker than reading on."""
    near: list[Sought] = []
    for one in sought:
        if near and one.at_ms - near[-1].at_ms > _READ_ON_MS:
            yield near
            near = []
        near.append(one)
    if near:
        yield near


def _pass(
    log: EventLog, schemas: Schemas, writer: str, of: tuple[str, int], out: tuple[str, int], near: Sequence[Sought]
) -> Iterator[tuple[Record, Any]]:
    wanted = {one.offset for one in near}
    last, bounds = max(wanted), log.bounds(*out)
    start = max(bounds.earliest, log.offset_at(*out, max(0, min(one.at_ms for one in near) - _CLOCK_SLACK_MS)))
    for record in log.read(*out, start, bounds.end):
        if writer_of(record) != writer:
            continue
        try:
            event = decode(record.value, out[0], schemas)
        except ContractError:
            continue
        source = source_of(event)
        if source is None or (source.topic, source.partition) != of:
            continue
        if source.offset in wanted:
            wanted.discard(source.offset)
            yield record, event
        if source.offset > last or not wanted:
            return
