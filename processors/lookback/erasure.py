"""What an erasure concerns: the frames of a device's time, and every event that was derived from them and stays on the log.

Memory grows with the frames of the time, by some bytes each, and with nothing else.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from processors.dead_letters import PREFIX
from schemas.catalogue import ASSESSMENTS, CANDIDATES, DEAD_LETTERS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.codec import Schemas
from schemas.envelope import header
from schemas.events import FrameCaptured, QualityMeasured, SnapshotTaken
from schemas.types import BlobRef, FrameRef, Stretch
from streams.blob_names import moment_of
from streams.events import events_of
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Record

_DERIVED = (ASSESSMENTS, INFERENCES, CANDIDATES, RESULTS)
Places = dict[str, set[tuple[int, int]]]
Named = tuple[str, str, Stretch | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A device's captures in [from_us, to_us), by the device's clock, microseconds since the epoch."""

    device_id: str
    from_us: int
    to_us: int

    def holds(self, frame: FrameRef) -> bool:
        return frame.device_id == self.device_id and self.from_us <= frame.captured_at_us < self.to_us

    def is_key_of(self, blob: BlobRef) -> bool:
        """Whether an encrypted blob lies under a key of the device and of the time."""
        at_us = moment_of(blob, self.device_id)
        return at_us is not None and self.from_us <= at_us < self.to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """One event that holds something of an erased frame. `what` says how it belongs to it."""

    topic: str
    partition: int
    offset: int
    type: str
    what: str

    @property
    def line(self) -> str:
        """As it is listed, and as the list's digest has it."""
        return f"{self.topic}/{self.partition}/{self.offset} {self.type} {self.what}"


def ends_of(log: EventLog, topic: str) -> tuple[int, ...]:
    """The end of each partition, by its number."""
    return tuple(log.bounds(topic, partition).end for partition in log.partitions(topic))


def frames_of(log: EventLog, schemas: Schemas, span: Span, *, stops: tuple[int, ...] | None = None) -> Iterator[FrameRef]:
    """Frames of the span whose bytes were stored, in the log's order; a frame that came twice comes twice.

    All of vision.frames is read: whoever sends frames may choose their partition, and even their key.

    Args:
        stops: Read each partition up to here, and not to its end.
    """
    return (frame for _, frame in _located(log, schemas, span, stops))


def named_as(blob: BlobRef) -> Named:
    """By what the store tells blobs apart: the key, empty for a plain one, the digest, and the place in a segment."""
    return blob.key_id or "", blob.sha256, blob.segment


def named_elsewhere(log: EventLog, schemas: Schemas, span: Span, names: set[Named]) -> set[Named]:
    """Those of these blobs, by `named_as`, that a frame outside the span names as well, whoever's it is."""
    found: set[Named] = set()
    in_segments: dict[str, list[Named]] = {}
    for name in names:
        if name[2] is not None:
            in_segments.setdefault(name[2].object, []).append(name)
    for partition in log.partitions(FRAMES) if names else ():
        for _, event in events_of(log, schemas, FRAMES, partition):
            if isinstance(event, FrameCaptured) and not span.holds(event.frame):
                blob = event.frame.blob
                found |= {named_as(blob)} & names
                if blob.segment is not None:
                    found |= {n for n in in_segments.get(blob.segment.object, ()) if _overlap(n[2], blob.segment)}
    return found


def _overlap(one: Stretch | None, other: Stretch) -> bool:
    """Only a mistake or a forger names a stretch that another frame's begins or ends in."""
    return one is not None and one.offset < other.offset + other.length and other.offset < one.offset + one.length


def derived_from(log: EventLog, schemas: Schemas, span: Span) -> Iterator[Affected]:
    """Every event that was derived from the span's frames, topic by topic: assessments, inferences, results, alerts and
    measures, snapshots of views that counted them, dead letters. The captures themselves are not listed.
    """
    frames: set[bytes] = set()
    places: Places = {FRAMES: set()}
    for record, frame in _located(log, schemas, span, None):
        frames.add(_short(frame.frame_id))
        places[FRAMES].add((record.partition, record.offset))
    for topic in _DERIVED if frames else ():
        places[topic] = set()
        for record, event in _of_device(log, schemas, topic, span.device_id):
            if _is_of(event, frames):
                places[topic].add((record.partition, record.offset))
                yield _affected(record, event, "of a frame")
    if frames:
        yield from _monitoring(log, schemas, span, frames, places)
        yield from _dead_letters(log, places)


def digest_of_list(affected: Iterable[Affected]) -> tuple[dict[str, int], str]:
    """How many there are of each type, and the sha256 over the list's lines."""
    counts: dict[str, int] = {}
    out = hashlib.sha256()
    for one in affected:
        counts[one.type] = counts.get(one.type, 0) + 1
        out.update(f"{one.line}\n".encode())
    return counts, out.hexdigest()


def _located(log: EventLog, schemas: Schemas, span: Span, stops: tuple[int, ...] | None) -> Iterator[tuple[Record, FrameRef]]:
    for partition in log.partitions(FRAMES):
        for record, event in events_of(log, schemas, FRAMES, partition, stop=None if stops is None else stops[partition]):
            if isinstance(event, FrameCaptured) and span.holds(event.frame):
                yield record, event.frame


def _monitoring(log: EventLog, schemas: Schemas, span: Span, frames: set[bytes], places: Places) -> Iterator[Affected]:
    firsts: dict[tuple[str, int], int] = {}
    for topic, found in places.items():
        for partition, offset in found:
            firsts[topic, partition] = min(offset, firsts.get((topic, partition), offset))
    for partition in log.partitions(MONITORING):
        for record, event in events_of(log, schemas, MONITORING, partition):
            match event:
                case SnapshotTaken():
                    if firsts.get((event.topic, event.partition), event.offset) < event.offset:
                        yield _affected(record, event, f"of view {event.view}, which counted a frame")
                case QualityMeasured():
                    touches = event.window_from_us < span.to_us and span.from_us < event.window_to_us
                    if event.subject == span.device_id and touches:
                        yield _affected(record, event, "of a window that the time touches")
                case _ if _is_of(event, frames):
                    yield _affected(record, event, "of a frame")


def _dead_letters(log: EventLog, places: Places) -> Iterator[Affected]:
    bounds = log.bounds(DEAD_LETTERS, 0)
    for record in log.read(DEAD_LETTERS, 0, bounds.earliest, bounds.end):
        topic, partition, offset = (header(record.headers, f"{PREFIX}{name}") for name in ("topic", "partition", "offset"))
        is_place = partition.isdecimal() and offset.isdecimal()
        if is_place and (int(partition), int(offset)) in places.get(topic, ()):
            what = f"of {topic}/{partition}/{offset}"
            yield Affected(topic=DEAD_LETTERS, partition=0, offset=record.offset, type="dead letter", what=what)


def _of_device(log: EventLog, schemas: Schemas, topic: str, device_id: str) -> Iterator[tuple[Record, Any]]:
    """A device's events of a topic that we write ourselves: all of them lie in the partition that its name chooses."""
    key = device_id.encode()
    partition = partition_of(key, len(log.partitions(topic)))
    return events_of(log, schemas, topic, partition, key=key)


def _is_of(event: Any, frames: set[bytes]) -> bool:
    frame_id = event.frame.frame_id if hasattr(event, "frame") else getattr(event, "frame_id", None)
    return frame_id is not None and _short(frame_id) in frames


def _short(frame_id: str) -> bytes:
    """A frame's id in few bytes; one that is no UUID came from outside, and stands for itself."""
    try:
        return UUID(frame_id).bytes
    except ValueError:
        return frame_id.encode()


def _affected(record: Record, event: Any, what: str) -> Affected:
    return Affected(topic=record.topic, partition=record.partition, offset=record.offset, type=type(event).__name__, what=what)
