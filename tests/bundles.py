"""Pasts to make bundles of, in memory: frames of several devices through the chain, with blobs, and bundles of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.bundling.creating import Order, create_bundle
from processors.bundling.spans import Window
from schemas import ids
from schemas.catalogue import TOPIC_OF, TOPICS, full_name
from schemas.codec import FixedSchemas, encode
from schemas.events import FrameAccepted, FrameCaptured, InferenceCompleted, ResultDerived
from schemas.types import DeviceId, EventId, FrameRef, SourcePosition
from streams.bundle.manifest import Manifest
from streams.bundle.signing import Signer
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from streams.records import Outgoing, Position

START_US = 1_790_000_000_000_000
PIPELINE = "gate_reader"


@dataclass
class World:
    """A system in memory whose clock goes on by one millisecond with each record."""

    partitions: int = 2
    now_us: int = START_US
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    schemas: FixedSchemas = field(default_factory=FixedSchemas)

    def __post_init__(self) -> None:
        self.log = MemoryLog(lambda: self.now_us, partitions=self.partitions)

    def past(self) -> Past:
        return Past(log=self.log, schemas=self.schemas, blobs=self.blobs, source="memory")

    def append(self, event: Any, key: str, partition: int | None = None) -> Position:
        headers = (("ce_type", full_name(type(event)).encode()), ("ce_source", b"hindsight/test"))
        return self.raw(
            Outgoing(
                topic=TOPIC_OF[type(event)],
                key=key.encode(),
                value=encode(event, self.schemas),
                headers=headers,
                partition=partition,
            )
        )

    def raw(self, outgoing: Outgoing) -> Position:
        self.now_us += 1000
        return self.log.append_now(outgoing)

    def captured(self, device: str, sequence: int, image: bytes | None = None) -> tuple[FrameRef, Position]:
        """A frame arrives, with its image stored."""
        blob = self.blobs.put(image if image is not None else f"image {device} {sequence}".encode(), "image/jpeg")
        frame = FrameRef(
            frame_id=ids.frame_id(device, "s", sequence),
            device_id=DeviceId(device),
            session_id="s",
            sequence=sequence,
            captured_at_us=self.now_us,
            blob=blob,
            labels={},
        )
        event = FrameCaptured(event_id=ids.captured_id(frame.frame_id), frame=frame, received_at_us=self.now_us, channel="sdk")
        return frame, self.append(event, device)

    def accepted(self, frame: FrameRef, cause: Position) -> Position:
        event = FrameAccepted(
            event_id=EventId(f"accepted {frame.frame_id}"),
            source=_source(cause),
            frame=frame,
            width_px=32,
            height_px=24,
            measures={"sharpness": 50.0, "brightness_mean": 100.0},
            warnings=(),
            missing_before=0,
            assessed_at_us=self.now_us,
        )
        return self.append(event, frame.device_id, cause.partition)

    def inferred(self, frame: FrameRef, cause: Position) -> Position:
        event = InferenceCompleted(
            event_id=EventId(f"inference {frame.frame_id}"),
            source=_source(cause),
            frame=frame,
            pipeline=PIPELINE,
            release="r1",
            releases_offset=0,
            endpoint="one:8001",
            attempts=1,
            started_at_us=self.now_us,
            duration_us=5,
            width_px=32,
            height_px=24,
            parameters={},
            runtime={},
            steps=(),
            observations=(),
            candidates=(),
        )
        return self.append(event, frame.device_id, cause.partition)

    def derived(self, frame: FrameRef, cause: Position) -> Position:
        event = ResultDerived(
            event_id=EventId(f"result {frame.frame_id}"),
            source=_source(cause),
            frame=frame,
            inference_id=EventId(f"inference {frame.frame_id}"),
            pipeline=PIPELINE,
            release="r1",
            outcome="nothing_read",
            readings=(),
            rules="none@1",
            detail="",
            derived_at_us=self.now_us,
        )
        return self.append(event, frame.device_id, cause.partition)

    def pass_by(self, device: str, sequence: int, image: bytes | None = None) -> FrameRef:
        """A frame goes all the way."""
        frame, at = self.captured(device, sequence, image)
        self.derived(frame, self.inferred(frame, self.accepted(frame, at)))
        return frame


def run_of(devices: Sequence[str], frames_each: int, *, partitions: int = 2) -> World:
    """Frames of devices in turn, each all the way."""
    world = World(partitions=partitions)
    for sequence in range(frames_each):
        for device in devices:
            world.pass_by(device, sequence)
    return world


def bundled(
    past: Past,
    path: Path,
    *,
    from_us: int = 0,
    to_us: int = 2**52,
    devices: Sequence[str] | None = None,
    with_models: bool = False,
    signer: Signer | None = None,
) -> Manifest:
    """A bundle of a window, of everything unless told otherwise."""
    window = Window(from_us=from_us, to_us=to_us, devices=None if devices is None else frozenset(devices), pipeline=PIPELINE)
    order = Order(
        window=window, with_models=with_models, signer=signer, created_at_us=START_US, created_by="test", program="hindsight test"
    )
    return create_bundle(past, path, order)


def everything(log: Any) -> dict[tuple[str, int], list[Any]]:
    """Every record of a log, from its earliest ones on."""
    return {(t, p): list(log.read(t, p, 0, log.bounds(t, p).end)) for t in TOPICS for p in log.partitions(t)}


def _source(cause: Position) -> SourcePosition:
    return SourcePosition(topic=cause.topic, partition=cause.partition, offset=cause.offset, index=0)
