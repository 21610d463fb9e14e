"""Finding records on the log: what a record caused, where an id lies, and what a device's partition held.

Bytes of headers are compared before anything is decoded, so a long scan costs little more than reading. Of an event that
was written twice (at least once on the log) the first copy counts; later ones are its `repeats`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from processors.repeats import source_of
from schemas.codec import decode
from schemas.envelope import header
from schemas.errors import ContractError
from streams.events import newest_first
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Record

Say = Callable[[str], None]

REPEATS_WITHIN = 1000
FAR = 200_000
_LOOK_AT_SOURCE_EACH = 64
_CHUNK = 2000
# Partitions may be led by brokers whose clocks differ a little.
_CLOCK_SLACK_MS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record lies, and when the broker took it; microseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    appended_at_us: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the log where it lies first; `event` is None when it cannot be decoded, and `unreadable` says why."""

    place: Place
    event_id: str
    key: str
    type: str
    writer: str
    trace_id: str
    event: Any
    unreadable: str = ""
    repeats: tuple[Place, ...] = ()


def place_of(record: Record) -> Place:
    return Place(
        topic=record.topic, partition=record.partition, offset=record.offset, appended_at_us=record.appended_at_ms * 1000
    )


def entry_of(record: Record, past: Past) -> Entry:
    """A record as an entry, decoded."""
    event, unreadable = None, ""
    try:
        event = decode(record.value, record.topic, past.schemas)
    except ContractError as error:
        unreadable = str(error)
    named = header(record.headers, "ce_type").rpartition(".")[2]
    trace = header(record.headers, "traceparent").split("-")
    return Entry(
        place=place_of(record),
        event_id=header(record.headers, "ce_id") or str(getattr(event, "event_id", "")),
        key=(record.key or b"").decode("utf-8", "replace"),
        type=type(event).__name__ if event is not None else named,
        writer=header(record.headers, "ce_source"),
        trace_id=trace[1] if len(trace) == 4 else "",
        event=event,
        unreadable=unreadable,
    )


def entry_at(past: Past, topic: str, partition: int, offset: int) -> Entry | None:
    """The event at a position; None when the log does not hold it (any more)."""
    if partition not in past.log.partitions(topic):
        return None
    bounds = past.log.bounds(topic, partition)
    if not bounds.earliest <= offset < bounds.end:
        return None
    record = next(iter(past.log.read(topic, partition, offset, offset + 1)), None)
    return None if record is None or record.offset != offset else entry_of(record, past)


def header_bytes(record: Record, name: str) -> bytes:
    """One header as it lies on the log; empty when it is absent."""
    for key, value in record.headers:
        if key == name:
            return value or b""
    return b""


def is_type(record: Record, *names: str) -> bool:
    """Whether the record says of itself that it is one of these events."""
    return header_bytes(record, "ce_type").rpartition(b".")[2].decode("utf-8", "replace") in names


def start_of(past: Past, topic: str, partition: int, at_us: int) -> int:
    """First offset that can have been appended at or after a moment, with slack for clocks of other brokers."""
    if partition not in past.log.partitions(topic):
        return 0
    found = past.log.offset_at(topic, partition, at_us // 1000 - _CLOCK_SLACK_MS)
    return max(found, past.log.bounds(topic, partition).earliest)


def caused_by(past: Past, topic: str, causes: Iterable[Entry]) -> Mapping[str, tuple[Entry, ...]]:
    """What events of one device caused on another topic, by the causes' event ids; first copies, each with its repeats.

    What follows from a frame lies by its key, wherever the frame lies. Reads forward from the earliest cause's append time.
    Sources only grow along a partition, so the scan ends soon after one beyond the last cause; at the latest after FAR
    records.
    """
    found: dict[str, tuple[Entry, ...]] = {}
    groups: dict[tuple[int, int], list[Entry]] = {}
    for cause in causes:
        found[cause.event_id] = ()
        if (partition := partition_by_key(past, topic, cause.key)) is not None:
            groups.setdefault((partition, cause.place.partition), []).append(cause)
    for (partition, _), together in groups.items():
        found |= _caused_on(past, topic, partition, together)
    return found


def partition_by_key(past: Past, topic: str, key: str) -> int | None:
    """Where events of a key lie on a derived topic; None when the log has no such partition."""
    partitions = past.log.partitions(topic)
    if not partitions:
        return None
    found = partition_of(key.encode(), len(partitions))
    return found if found in partitions else None


def _caused_on(past: Past, topic: str, partition: int, causes: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    """The same for causes of one partition whose offspring lies on one partition."""
    wanted = {c.event_id.encode(): c for c in causes}
    found: dict[str, dict[str, Entry]] = {c.event_id: {} for c in wanted.values()}
    places = [c.place for c in wanted.values()]
    last = max(places, key=lambda p: p.offset)
    start = start_of(past, topic, partition, min(p.appended_at_us for p in places))
    stop = min(past.log.bounds(topic, partition).end, start + FAR)
    beyond: int | None = None
    for number, record in enumerate(past.log.read(topic, partition, start, stop)):
        cause = wanted.get(header_bytes(record, "ce_causationid"))
        if cause is not None:
            _add(found[cause.event_id], record, past)
        elif beyond is None and number % _LOOK_AT_SOURCE_EACH == 0 and _is_beyond(record, past, last):
            beyond = number
        if beyond is not None and number - beyond > REPEATS_WITHIN:
            break
    return {cause: tuple(entries.values()) for cause, entries in found.items()}


def is_from(entry: Entry, cause: Entry) -> bool:
    """Whether this very copy of the cause led to the event."""
    source = source_of(entry.event)
    return source is not None and (source.partition, source.offset) == (cause.place.partition, cause.place.offset)


def _add(found: dict[str, Entry], record: Record, past: Past) -> None:
    """Keep the first copy; a later one of the same id is its repeat."""
    own_id = header(record.headers, "ce_id")
    if own_id in found:
        found[own_id] = replace(found[own_id], repeats=(*found[own_id].repeats, place_of(record)))
    else:
        found[own_id] = entry_of(record, past)


def _is_beyond(record: Record, past: Past, place: Place) -> bool:
    try:
        source = source_of(decode(record.value, record.topic, past.schemas))
    except ContractError:
        return False
    if source is None or (source.topic, source.partition) != (place.topic, place.partition):
        return False
    return source.offset > place.offset


def backwards(past: Past, topic: str, partition: int, stop: int, *, most: int = FAR) -> Iterator[Record]:
    """Records before `stop`, the newest first, at most `most` offsets back; in chunks, each read forward."""
    if partition not in past.log.partitions(topic):
        return
    lowest = max(past.log.bounds(topic, partition).earliest, stop - most)
    yield from newest_first(partial(past.log.read, topic, partition), lowest, stop, first=100, most=_CHUNK, times=4)


def keyed(records: Iterable[Record], key: str) -> Iterator[Record]:
    """Only the records of one key."""
    wanted = key.encode()
    return (r for r in records if r.key == wanted)
