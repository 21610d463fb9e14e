"""What became of frames at the models, as recorded: by window or by frame, repeats dropped, in bounded memory."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from processors.repeats import Seen, writer_of
from schemas.catalogue import INFERENCES
from schemas.codec import decode
from schemas.envelope import header
from schemas.errors import ContractError
from schemas.events import InferenceCompleted, InferenceFailed, InferenceSkipped
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Record, ms_from

Inferred = InferenceCompleted | InferenceFailed | InferenceSkipped

_BACK_RECORDS = 500
_CHUNK_RECORDS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An event of vision.inferences and its place; `appended_at_ms` is the broker's clock."""

    event: Inferred
    partition: int
    offset: int
    appended_at_ms: int


def in_window(past: Past, from_us: int, to_us: int, *, device: str | None = None, before: int = 0) -> Iterator[Found]:
    """Inferences that the broker took in [from_us, to_us), oldest first; of one device when it is named.

    Args:
        before: This many records of each partition from before the window come first.
    Raises:
        ContractError: a bundle was made without the device.
        LogUnavailableError: the log does not answer.
    """
    past.hold(device=device)
    partitions = past.log.partitions(INFERENCES)
    if device is not None:
        partitions = (partition_of(device.encode(), len(partitions)),)
    streams = [_of_partition(past, p, from_us, to_us, device, before) for p in partitions]
    return heapq.merge(*streams, key=lambda found: found.appended_at_ms)


def of_frame(past: Past, frame_id: str) -> Found | None:
    """What became of one frame; None when the log holds nothing of it. Newest records are looked at first.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    for partition in past.log.partitions(INFERENCES):
        bounds = past.log.bounds(INFERENCES, partition)
        for stop in range(bounds.end, bounds.earliest, -_CHUNK_RECORDS):
            for record in past.log.read(INFERENCES, partition, max(bounds.earliest, stop - _CHUNK_RECORDS), stop):
                # Every event that a frame causes has it as its correlation id, so that few need to be decoded.
                if header(record.headers, "ce_correlationid") == frame_id and (found := _found(past, record)) is not None:
                    return found
    return None


def _of_partition(past: Past, partition: int, from_us: int, to_us: int, device: str | None, before: int) -> Iterator[Found]:
    start = past.log.offset_at(INFERENCES, partition, ms_from(from_us))
    stop = past.log.offset_at(INFERENCES, partition, ms_from(to_us))
    first = max(past.log.bounds(INFERENCES, partition).earliest, start - max(before, _BACK_RECORDS))
    seen = Seen()
    for record in past.log.read(INFERENCES, partition, first, stop):
        found = _found(past, record)
        # A repeat may stand in the window of what was first written before it.
        if found is None or seen.is_repeat(found.event, writer_of(record)):
            continue
        seen = seen.with_event(found.event, writer_of(record))
        if record.offset >= start - before and (device is None or found.event.frame.device_id == device):
            yield found


def _found(past: Past, record: Record) -> Found | None:
    try:
        event = decode(record.value, INFERENCES, past.schemas)
    except ContractError:
        return None
    return Found(event=event, partition=record.partition, offset=record.offset, appended_at_ms=record.appended_at_ms)
