"""A log in memory as a real run leaves one: frames with pictures, what was read on them, results, alerts, a promotion.

What derive decides is what it decides here, by its own core; a clock gives each record a time of its own.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from processors.derive import core as derive
from processors.emit import key_of
from processors.rules import container_codes as rules
from processors.step import Cause
from schemas import ids
from schemas.catalogue import TOPIC_OF, TOPICS
from schemas.codec import FixedSchemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.events import FrameAccepted, FrameCaptured, FrameRejected, FramesErased, InferenceCompleted, ReleasePromoted
from schemas.types import BlobRef, Candidate, DeviceId, FrameRef, Observation, SourcePosition
from streams.memory import MemoryBlobStore, MemoryLog
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Outgoing, Position

START_US = 1_790_000_000_000_000
STEP_US = 100_000
WIDTH_PX, HEIGHT_PX = 640, 480
BOX = (100.0, 200.0, 300.0, 200.0, 300.0, 260.0, 100.0, 260.0)


def picture(number: int = 0, *, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX, ending: str = ".png") -> bytes:
    """A plain picture whose shade tells its number."""
    image = np.full((height_px, width_px, 3), (60, 60, 40 + number % 64), np.uint8)
    ok, encoded = cv2.imencode(ending, image)
    assert ok, "OpenCV encodes every uint8 BGR picture"
    return bytes(encoded.tobytes())


def observation(label: str, *, index: int = 0, polygon: tuple[float, ...] = BOX) -> Observation:
    return Observation(
        index=index, kind="text", label=label, confidence=0.91, detection_score=0.9, polygon_px=polygon, measures={}
    )


def candidate(label: str, *, polygon: tuple[float, ...] = (10, 10, 60, 10, 60, 30, 10, 30)) -> Candidate:
    return Candidate(
        stage="detection", reason="score", kind="text", label=label, confidence=0.2, detection_score=0.3, polygon_px=polygon
    )


@dataclass(slots=True)
class Recorded:
    """The log and the blobs while they grow; every method appends what one frame or event of a run leaves."""

    partitions: int = 4
    now_us: int = START_US
    step_us: int = 1000
    log: MemoryLog = field(init=False)
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    schemas: FixedSchemas = field(default_factory=FixedSchemas)
    passages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = MemoryLog(lambda: self.now_us, partitions=self.partitions)

    @property
    def past(self) -> Past:
        return Past(log=self.log, schemas=self.schemas, blobs=self.blobs, source="a test's log")

    def append(self, event: Any, *, writer: str = "test", key: str | None = None, partition: int | None = None) -> Position:
        """One event as its writer appends it, `step_us` after the one before."""
        self.now_us += self.step_us
        envelope = envelope_of(
            event,
            source=f"hindsight/{writer}",
            time_us=self.now_us,
            correlation_id="c",
            causation_id="b",
            traceparent="00-ab-cd-01",
        )
        topic = TOPIC_OF[type(event)]
        return self.log.append_now(
            Outgoing(
                topic=topic,
                key=(key_of(event) if key is None else key).encode(),
                value=encode(event, self.schemas),
                headers=to_headers(envelope),
                partition=partition if TOPICS[topic].chained else 0,
            )
        )

    def ref(self, sequence: int, *, device: str, image: bytes | None, captured_at_us: int | None = None) -> FrameRef:
        """A frame, its image stored; None for one that is gone."""
        gone = BlobRef(sha256=f"{sequence:064x}", size_bytes=3, media_type="image/jpeg")
        return FrameRef(
            frame_id=ids.frame_id(device, "s", sequence),
            device_id=DeviceId(device),
            session_id="s",
            sequence=sequence,
            captured_at_us=START_US + sequence * STEP_US if captured_at_us is None else captured_at_us,
            blob=gone if image is None else self.blobs.put(image, "image/png"),
            passage_id=f"{device}-p",
            labels={},
        )

    def capture(self, frame: FrameRef) -> SourcePosition:
        """Only the frame."""
        event = FrameCaptured(
            event_id=ids.captured_id(frame.frame_id), frame=frame, received_at_us=frame.captured_at_us + 5, channel="sdk"
        )
        return as_source(self.append(event, writer="gateway"))

    def reject(self, frame: FrameRef, at: SourcePosition, reason: str) -> None:
        event = FrameRejected(
            event_id=ids.event_id(at, "FrameRejected"),
            source=at,
            frame=frame,
            blob_stored=True,
            reasons=(reason,),
            detail="as the test says",
            assessed_at_us=self.now_us,
        )
        self.append(event, writer="assess", partition=at.partition)

    def accept(self, frame: FrameRef, at: SourcePosition) -> SourcePosition:
        event = FrameAccepted(
            event_id=ids.event_id(at, "FrameAccepted"),
            source=at,
            frame=frame,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            measures={"sharpness": 50.5},
            warnings=(),
            missing_before=0,
            assessed_at_us=self.now_us,
        )
        return as_source(self.append(event, writer="assess", partition=at.partition))

    def infer(
        self, frame: FrameRef, at: SourcePosition, observations: tuple[Observation, ...], candidates: tuple[Candidate, ...] = ()
    ) -> SourcePosition:
        """The inference and what derive makes of it."""
        event = InferenceCompleted(
            event_id=ids.event_id(at, "InferenceCompleted"),
            source=at,
            frame=frame,
            pipeline="gate",
            release="r1",
            releases_offset=0,
            endpoint="one:8001",
            attempts=1,
            started_at_us=self.now_us,
            duration_us=5000,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            parameters={},
            runtime={},
            steps=(),
            observations=observations,
            candidates=candidates,
        )
        where = as_source(self.append(event, writer="infer", partition=at.partition))
        state = self.passages.get(frame.device_id, derive.INITIAL)
        cause = Cause(position=where, event_id=event.event_id, correlation_id="c", traceparent="", now_us=self.now_us)
        for derived in derive.decide(rules, state, event, cause):
            self.append(derived, writer="derive", partition=at.partition)
        self.passages[frame.device_id] = derive.fold(rules, state, event)
        return where

    def frame(
        self,
        sequence: int,
        *labels: str,
        device: str = "gate-1",
        image: bytes | None = b"",
        captured_at_us: int | None = None,
        polygon: tuple[float, ...] = BOX,
        candidates: tuple[Candidate, ...] = (),
    ) -> FrameRef:
        """A frame and everything that follows from it; a picture of its own when `image` is empty."""
        content = picture(sequence) if image == b"" else image
        ref = self.ref(sequence, device=device, image=content, captured_at_us=captured_at_us)
        seen = tuple(observation(label, index=i, polygon=polygon) for i, label in enumerate(labels))
        self.infer(ref, self.accept(ref, self.capture(ref)), seen, candidates)
        return ref

    def promote(self, release: str) -> None:
        source = SourcePosition(topic="vision.commands", partition=0, offset=0, index=0)
        event = ReleasePromoted(
            event_id=ids.event_id(source, release),
            source=replace(source, offset=self.log.bounds("vision.releases", 0).end),
            pipeline="gate",
            release=release,
            previous_release=None,
            issued_by="eve",
            reason="it reads better",
            promoted_at_us=self.now_us,
        )
        self.append(event, writer="release")


def erased(device: str, *, order_id: str = "GDPR-17") -> FramesErased:
    """Word that a device's frames were erased."""
    source = SourcePosition(topic="vision.commands", partition=0, offset=0, index=0)
    return FramesErased(
        event_id=ids.event_id(source, "FramesErased"),
        source=source,
        device_id=DeviceId(device),
        order_id=order_id,
        captured_from_us=START_US,
        captured_to_us=START_US + 1,
        frames_count=1,
        frames_offsets=(1,),
        key_ids=(),
        encrypted_count=0,
        removed_count=1,
        kept_sha256=(),
        kept_count=0,
        derived_counts={},
        derived_digest="",
        issued_by="kim",
        reason="subject request",
        ordered_at_us=START_US,
        erased_at_us=START_US,
    )


def as_source(position: Position) -> SourcePosition:
    return SourcePosition(topic=position.topic, partition=position.partition, offset=position.offset, index=0)


def partition_of_device(device: str, partitions: int = 4) -> int:
    return partition_of(device.encode(), partitions)


def a_run() -> Recorded:
    """Two devices of several frames each, an alert that comes and goes, a correction, a promotion."""
    recorded = Recorded()
    recorded.promote("r1")
    for sequence in range(3):
        recorded.frame(sequence, candidates=(candidate("MSK?", polygon=BOX),))
        recorded.frame(sequence, "MSKU0000001" if sequence < 2 else "CSQU3054383", device="gate-2")
    recorded.promote("r2")
    recorded.frame(3, "CSQU3054383")
    return recorded
