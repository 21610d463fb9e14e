"""What one processor made of one record: the first event that names the record as its source."""

from collections.abc import Iterable
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
    out = WRITES_TO.get(processor)
    partitions = () if out is None else log.partitions(out)
    if out is None or not partitions:
        return None
    writer = f"hindsight/{processor}"
    for number in sorted({partition_of(key, len(partitions)) for key in keys} & set(partitions)):
        bounds = log.bounds(out, number)
        start = max(bounds.earliest, log.offset_at(out, number, max(0, at_ms - _CLOCK_SLACK_MS)))
        for record in log.read(out, number, start, bounds.end):
            if writer_of(record) != writer:
                continue
            try:
                event = decode(record.value, out, schemas)
            except ContractError:
                continue
            source = source_of(event)
            if source is None or (source.topic, source.partition) != (topic, partition) or source.offset < offset:
                continue
            if source.offset == offset:
                return record, event
            break
    return None
