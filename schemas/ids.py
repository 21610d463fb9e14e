"""Ids are derived, never drawn: the same cause gives the same id, so doing work twice is seen as one thing."""

from uuid import UUID, uuid5

from schemas.types import DeviceId, EventId, FrameId, SourcePosition

NAMESPACE = UUID("6f0c5cde-5f0b-5a37-9d6b-3a70e2a7b347")


def frame_id(device_id: str, session_id: str, sequence: int) -> FrameId:
    """The frame's id, the same however often the device sends it."""
    return FrameId(_derive("frame", device_id, session_id, str(sequence)))


def event_id(source: SourcePosition, event_name: str) -> EventId:
    """The id of the event that `source` caused; `source.index` tells several apart."""
    return EventId(_derive("event", source.topic, str(source.partition), str(source.offset), str(source.index), event_name))


def captured_id(frame: FrameId) -> EventId:
    """The id of the event by which a frame enters the log."""
    return EventId(_derive("captured", frame))


def named_id(*parts: str) -> EventId:
    """An id derived from what makes a thing the same thing, such as an alert's kind and passage."""
    return EventId(_derive("named", *parts))


def device_id(name: str) -> DeviceId:
    return DeviceId(name)


def _derive(*parts: str) -> str:
    return str(uuid5(NAMESPACE, "\x1f".join(parts)))
