"""Where each partition of a bundle begins and ends.

A window alone does not answer "what was known": a state at its start is the fold of all before it. So a topic that views fold
begins where the newest snapshot before the window does, or, when a view has none that is whole, at the start of the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from processors.snapshots import manifest as manifests
from processors.snapshots.announcing import Announced, announcements
from processors.snapshots.manifest import Manifest
from processors.snapshots.taking import piece_ref
from processors.views.catalogue import VIEWS
from schemas.catalogue import (
    COMMANDS,
    DEAD_LETTERS,
    ERASURES,
    MONITORING,
    REDRIVES,
    RELEASES,
    TOPICS,
)
from schemas.errors import ContractError
from schemas.events import SnapshotTaken
from schemas.types import BlobRef
from streams.past import Past
from streams.records import Bounds, Record

_WHOLE = (RELEASES, COMMANDS, ERASURES, REDRIVES)
_DLQ_KEY = "hindsight_dlq_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a bundle is asked to hold: moments in microseconds since the epoch, both included; `devices` None means all."""

    from_us: int
    to_us: int
    devices: frozenset[str] | None
    pipeline: str

    def keeps(self, record: Record) -> bool:
        """Whether a record of the window belongs to the bundle, by its key alone."""
        if self.devices is None or record.topic in _WHOLE:
            return True
        if record.topic == DEAD_LETTERS:
            found = [value for name, value in record.headers if name == _DLQ_KEY]
            return not found or _text(found[0]) in self.devices
        key = _text(record.key)
        if record.topic == MONITORING and (key == self.pipeline or key in VIEWS):
            return True
        return key in self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One partition: from `earliest` on the bundle has all of it, from `start` on the window runs, up to `stop`."""

    topic: str
    partition: int
    earliest: int
    start: int
    stop: int
    log: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot to start from, and the blobs that it consists of."""

    announced: Announced
    blobs: tuple[BlobRef, ...]


def spans_of(past: Past, window: Window, snapshots: Mapping[tuple[str, int], Snapshot]) -> tuple[Span, ...]:
    """Every partition of every topic, in the catalogue's order."""
    return tuple(_span(past, window, snapshots, topic, p) for topic in TOPICS for p in past.log.partitions(topic))


def _span(past: Past, window: Window, snapshots: Mapping[tuple[str, int], Snapshot], topic: str, partition: int) -> Span:
    bounds = past.log.bounds(topic, partition)
    start = past.log.offset_at(topic, partition, window.from_us // 1000)
    stop = max(start, past.log.offset_at(topic, partition, window.to_us // 1000 + 1))
    if topic == ERASURES:
        # Orders after the window say why its blobs are gone.
        stop = max(stop, bounds.end)
    views = [view.name for view in VIEWS.values() if view.topic == topic]
    earliest = start
    if topic in _WHOLE:
        earliest = bounds.earliest
    elif views:
        # The record before a snapshot is how one tells that it is of this log.
        known = [snapshots[view, partition].announced.taken.offset - 1 if (view, partition) in snapshots else 0 for view in views]
        earliest = min(start, *known)
    return Span(
        topic=topic,
        partition=partition,
        earliest=max(bounds.earliest, earliest),
        start=start,
        stop=stop,
        log=Bounds(earliest=bounds.earliest, end=max(bounds.end, stop)),
    )


def newest_snapshots(past: Past, window: Window) -> Mapping[tuple[str, int], Snapshot]:
    """For each view and partition the newest snapshot before the window whose blobs are all there."""
    places = {(v.name, p) for v in VIEWS.values() if v.topic not in _WHOLE for p in past.log.partitions(v.topic)}
    latest = {
        (topic, p): past.log.offset_at(topic, p, window.from_us // 1000)
        for topic in {VIEWS[view].topic for view, _ in places}
        for p in past.log.partitions(topic)
    }
    found: dict[tuple[str, int], Snapshot] = {}
    for partition in past.log.partitions(MONITORING):
        for one in announcements(past.log, past.schemas, partition, VIEWS):
            missing, taken = places - found.keys(), one.taken
            if not missing:
                break
            if (taken.view, taken.partition) not in missing:
                continue
            is_before = taken.topic == VIEWS[taken.view].topic and taken.offset <= latest[taken.topic, taken.partition]
            if is_before and (blobs := _whole(taken, past)) is not None:
                found[taken.view, taken.partition] = Snapshot(announced=one, blobs=blobs)
    return found


def parts_of(past: Past, blob: BlobRef) -> tuple[BlobRef, ...]:
    """The blobs that a snapshot's manifest names.

    Raises:
        ContractError: the manifest is gone, damaged, or is none.
        BlobStoreUnavailableError: the store does not answer.
    """
    return _pieces_of(manifests.unpack(past.blobs.get(blob)))


def _pieces_of(manifest: Manifest) -> tuple[BlobRef, ...]:
    return tuple(piece_ref(piece) for piece in manifest.pieces if piece is not None)


def _whole(taken: SnapshotTaken, past: Past) -> tuple[BlobRef, ...] | None:
    """The blobs of a snapshot; None when one of them is not to be had, or another version of the view made it."""
    try:
        manifest = manifests.unpack(past.blobs.get(taken.blob))
        if manifest.fold != manifests.fold_of(VIEWS[taken.view]):
            return None
        parts = _pieces_of(manifest)
        for part in parts:
            past.blobs.get(part)  # one that is damaged is there, and states cannot start from it
        return (taken.blob, *parts)
    except ContractError:
        return None


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None
