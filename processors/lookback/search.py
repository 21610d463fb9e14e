"""From what a person has in hand (an id, a position) to a record of the log.

An id says nothing of where it lies, so the newest records are looked at first, a chunk of each partition in turn. A device
narrows that to one partition of each topic; a moment is looked around before all the rest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from processors.lookback.scan import Entry, Say, entry_at, entry_of, header_bytes, is_type
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RESULTS, TOPICS
from schemas.envelope import header
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Record

SEARCHED = (RESULTS, FRAMES, MONITORING, ASSESSMENTS, INFERENCES)
_POSITION = re.compile(r"(?P<topic>vision\.[a-z-]+)/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})", re.ASCII)
_CHUNK = 5000
_AROUND_MS = 600_000
_SAY_EACH = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A piece of one partition that is still to be looked at: start <= offset < stop."""

    topic: str
    partition: int
    start: int
    stop: int


def find(past: Past, target: str, *, device: str | None = None, at_us: int | None = None, say: Say = lambda _: None) -> Entry:
    """The event that a position names, or that has an id: its own, its frame's, or its alert's.

    Args:
        target: An event's, frame's or alert's id, or `topic/partition/offset`.
        device: Look at this device's partitions only.
        at_us: Look around this moment first.
        say: Told now and then how far the search is.
    Raises:
        ContractError: there is no such record.
        LogUnavailableError: the log does not answer.
    """
    if (named := _POSITION.fullmatch(target)) is not None:
        return _at_position(past, named["topic"], int(named["partition"]), int(named["offset"]))
    count = 0
    for record in _searched(past, device, at_us):
        count += 1
        if count % _SAY_EACH == 0:
            say(f"{count} records looked at for {target}")
        if _is_it(record, target, past):
            return entry_of(record, past)
    where = f"the partitions of {device}" if device is not None else "any partition"
    raise ContractError(
        f"{target} was not found: {count} records of {where} were looked at in {past.source}",
        do="check the id; `hindsight results --format json` prints ids of results and frames, `hindsight at` those of alerts",
    )


def _at_position(past: Past, topic: str, partition: int, offset: int) -> Entry:
    if topic not in TOPICS:
        raise ContractError(f"there is no topic {topic}", do=f"choose from {', '.join(TOPICS)}")
    found = entry_at(past, topic, partition, offset)
    if found is not None:
        return found
    if partition not in past.log.partitions(topic):
        raise ContractError(f"{topic} has no partition {partition} in {past.source}")
    bounds = past.log.bounds(topic, partition)
    raise ContractError(
        f"{topic}/{partition}/{offset} is not in {past.source}, which keeps offsets {bounds.earliest} to {bounds.end - 1} there",
        do="what is gone was removed by the topic's retention, or lies outside of the bundle's window",
    )


def _searched(past: Past, device: str | None, at_us: int | None) -> Iterator[Record]:
    """Records newest first, by turns over the partitions; first those around the moment, when there is one."""
    near, rest = _spans(past, device, at_us)
    for spans in (near, rest):
        while spans:
            left = []
            for span in spans:
                low = max(span.start, span.stop - _CHUNK)
                yield from reversed(list(past.log.read(span.topic, span.partition, low, span.stop)))
                if low > span.start:
                    left.append(_Span(topic=span.topic, partition=span.partition, start=span.start, stop=low))
            spans = left


def _spans(past: Past, device: str | None, at_us: int | None) -> tuple[list[_Span], list[_Span]]:
    near, rest = [], []
    for topic in SEARCHED:
        partitions = past.log.partitions(topic)
        # Frames lie where whoever sent them put them; what follows from them lies by its key.
        if device is not None and partitions and topic != FRAMES:
            partitions = (partition_of(device.encode(), len(partitions)),)
        for partition in partitions:
            bounds = past.log.bounds(topic, partition)
            if at_us is None:
                rest.append(_Span(topic=topic, partition=partition, start=bounds.earliest, stop=bounds.end))
                continue
            first = max(bounds.earliest, past.log.offset_at(topic, partition, at_us // 1000 - _AROUND_MS))
            last = max(first, past.log.offset_at(topic, partition, at_us // 1000 + _AROUND_MS))
            near.append(_Span(topic=topic, partition=partition, start=first, stop=last))
            rest.append(_Span(topic=topic, partition=partition, start=last, stop=bounds.end))
            rest.append(_Span(topic=topic, partition=partition, start=bounds.earliest, stop=first))
    return [s for s in near if s.start < s.stop], [s for s in rest if s.start < s.stop]


def _is_it(record: Record, target: str, past: Past) -> bool:
    wanted = target.encode()
    if header_bytes(record, "ce_id") == wanted or header_bytes(record, "ce_correlationid") == wanted:
        return True
    if not is_type(record, "AlertRaised", "AlertCleared") and header(record.headers, "ce_id"):
        return False
    found = entry_of(record, past).event
    frame = getattr(found, "frame", None)
    ids = (getattr(found, "alert_id", None), getattr(found, "event_id", None), getattr(frame, "frame_id", None))
    return target in ids
