"""Given events, when a command, then exactly these events in this order; and small builders that several tests share."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from processors.step import Cause
from schemas import ids
from schemas.events import FrameAccepted, FrameCaptured, InferenceCompleted
from schemas.types import BlobRef, DeviceId, EventId, FrameRef, Observation, SourcePosition

BLOB = BlobRef(sha256="ab" * 32, size_bytes=3, media_type="image/jpeg")
AT_US = 1_790_000_000_000_000


def cause(offset: int = 0, topic: str = "vision.frames", index: int = 0) -> Cause:
    """A cause at an offset of partition 0, at a fixed time."""
    position = SourcePosition(topic=topic, partition=0, offset=offset, index=index)
    return Cause(position=position, event_id=f"event-{offset}", correlation_id="c", traceparent="", now_us=AT_US)


def frame(sequence: int = 0, *, device: str = "gate-1", session: str = "s", passage: str | None = None) -> FrameRef:
    """A device's frame."""
    return FrameRef(
        frame_id=ids.frame_id(device, session, sequence),
        device_id=DeviceId(device),
        session_id=session,
        sequence=sequence,
        captured_at_us=AT_US,
        blob=BLOB,
        passage_id=passage,
        labels={},
    )


def captured(sequence: int = 0, *, device: str = "gate-1", session: str = "s", late_us: int = 0) -> FrameCaptured:
    ref = frame(sequence, device=device, session=session)
    return FrameCaptured(event_id=ids.captured_id(ref.frame_id), frame=ref, received_at_us=AT_US + late_us, channel="sdk")


def accepted(sequence: int = 0, *, passage: str | None = None, missing_before: int = 0, offset: int = 0) -> FrameAccepted:
    where = cause(offset).position
    return FrameAccepted(
        event_id=ids.event_id(where, "FrameAccepted"),
        source=where,
        frame=frame(sequence, passage=passage),
        width_px=32,
        height_px=24,
        measures={"sharpness": 50.0, "brightness_mean": 100.0},
        warnings=(),
        missing_before=missing_before,
        assessed_at_us=AT_US,
    )


def seen_text(label: str, *, index: int = 0, at: tuple[float, float] = (0, 0), confidence: float = 0.9) -> Observation:
    """A box of 10 px a sign and 20 px height, its upper left corner at `at`."""
    x, y = at
    right = x + 10 * len(label)
    return Observation(
        index=index,
        kind="text",
        label=label,
        confidence=confidence,
        detection_score=0.9,
        polygon_px=(x, y, right, y, right, y + 20, x, y + 20),
        measures={},
    )


def completed(sequence: int, *texts: str, passage: str | None = "p", release: str = "r1") -> InferenceCompleted:
    where = cause(sequence, "vision.assessments").position
    return InferenceCompleted(
        event_id=EventId(f"inference-{sequence}"),
        source=where,
        frame=frame(sequence, passage=passage),
        pipeline="gate",
        release=release,
        releases_offset=3,
        endpoint="one:8001",
        attempts=1,
        started_at_us=AT_US,
        duration_us=5,
        width_px=32,
        height_px=24,
        parameters={},
        runtime={},
        steps=(),
        observations=tuple(seen_text(t, index=i, at=(0, 100 * i)) for i, t in enumerate(texts)),
        candidates=(),
    )


def folded(fold: Callable[[Any, Any], Any], initial: Any, events: Iterable[Any]) -> Any:
    return reduce(fold, events, initial)


def at(position: SourcePosition, index: int) -> SourcePosition:
    return replace(position, index=index)
