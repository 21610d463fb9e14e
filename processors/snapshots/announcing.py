"""`SnapshotTaken` on vision.monitoring: making it, and finding it, the newest first.

The key is the view's name, so all snapshots of a view are on one partition. The id is derived from view, partition and
position: whoever takes the same one again says the same.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from processors.snapshots.manifest import Kept, Manifest
from schemas import ids
from schemas.catalogue import MONITORING
from schemas.codec import Schemas, decode, encode
from schemas.envelope import envelope_of, to_headers
from schemas.errors import ContractError
from schemas.events import SnapshotTaken
from schemas.types import BlobRef
from streams.events import newest_first
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Outgoing, Record

_CHUNK_FIRST = 100
_CHUNK_MOST = 20_000
WRITER = "hindsight/snapshots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One announcement, and where on vision.monitoring it lies."""

    taken: SnapshotTaken
    partition: int
    offset: int


def event_of(manifest: Manifest, blob: BlobRef, taken_at_us: int) -> SnapshotTaken:
    """The announcement of a snapshot."""
    name = ids.named_id("snapshot", manifest.view, str(manifest.partition), str(manifest.offset))
    return SnapshotTaken(
        event_id=name,
        view=manifest.view,
        topic=manifest.topic,
        partition=manifest.partition,
        offset=manifest.offset,
        blob=blob,
        digest=manifest.digest,
        keys_count=manifest.keys_count,
        taken_at_us=taken_at_us,
    )


def outgoing(event: SnapshotTaken, schemas: Schemas) -> Outgoing:
    """The record of an announcement."""
    envelope = envelope_of(
        event, source=WRITER, time_us=event.taken_at_us, correlation_id=event.event_id, causation_id=event.event_id
    )
    return Outgoing(topic=MONITORING, key=event.view.encode(), value=encode(event, schemas), headers=to_headers(envelope))


def announced(log: EventLog, schemas: Schemas, view: str, partition: int, *, most: int | None = None) -> Iterator[Announced]:
    """Announcements of a view's partition, the newest first, each position once.

    Args:
        most: Records to look through at most; all when None.
    Raises:
        LogUnavailableError: the log does not answer.
    """
    place = partition_of(view.encode(), len(log.partitions(MONITORING)))
    said: set[tuple[int, str]] = set()
    for one in announcements(log, schemas, place, (view,), most=most):
        name = (one.taken.offset, one.taken.blob.sha256)
        if (one.taken.view, one.taken.partition) == (view, partition) and name not in said:
            said.add(name)
            yield one


def announcements(
    log: EventLog, schemas: Schemas, place: int, views: Collection[str], *, most: int | None = None
) -> Iterator[Announced]:
    """Announcements of several views on one partition of vision.monitoring, the newest first, each as often as it was made.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    for record in _backwards(log, place, frozenset(view.encode() for view in views), most):
        try:
            event = decode(record.value, MONITORING, schemas)
        except ContractError:
            continue
        if isinstance(event, SnapshotTaken):
            yield Announced(taken=event, partition=place, offset=record.offset)


def kept_as(manifest: Manifest, blob: BlobRef) -> Kept:
    """A snapshot by name."""
    return Kept(
        offset=manifest.offset,
        fold=manifest.fold,
        known_from_ms=manifest.known_from_ms,
        known_until_ms=manifest.known_until_ms,
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
    )


def _backwards(log: EventLog, partition: int, keys: frozenset[bytes], most: int | None) -> Iterator[Record]:
    """Records of some keys from the end of vision.monitoring to its start, read in chunks that grow."""
    bounds = log.bounds(MONITORING, partition)
    lowest = bounds.earliest if most is None else max(bounds.earliest, bounds.end - most)

    def read(start: int, stop: int) -> Iterator[Record]:
        return (r for r in log.read(MONITORING, partition, start, stop) if r.key in keys)

    yield from newest_first(read, lowest, bounds.end, first=_CHUNK_FIRST, most=_CHUNK_MOST)
    if 0 < bounds.earliest == lowest:
        # A bundle keeps announcements from before its window below its earliest offset; a broker has nothing there.
        yield from reversed(list(read(0, bounds.earliest)))
