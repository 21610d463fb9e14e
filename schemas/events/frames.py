"""What devices send: frames, and word of frames that they gave up.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from dataclasses import dataclass

from schemas.types import DeviceId, EventId, FrameRef


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCaptured:
    """A device's frame arrived, and its bytes are in the blob store. Avro: hindsight.frames.FrameCaptured v1."""

    event_id: EventId
    frame: FrameRef
    received_at_us: int
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesDropped:
    """A device's spool gave frames up before they could be sent. Avro: hindsight.frames.FramesDropped v1."""

    event_id: EventId
    device_id: DeviceId
    session_id: str
    first_sequence: int
    last_sequence: int
    frames_count: int
    reason: str
    received_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRefused:
    """A door did not let a frame in; its bytes were not kept. Avro: hindsight.frames.FrameRefused v1."""

    event_id: EventId
    frame: FrameRef
    reason: str
    detail: str
    received_at_us: int
    channel: str
