"""Whether a frame can be used, and why not.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.types import EventId, FrameRef, SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAccepted:
    """The frame is an image fit to be read. Avro: hindsight.assessments.FrameAccepted v1."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    width_px: int
    height_px: int
    measures: Mapping[str, float]
    warnings: tuple[str, ...]
    missing_before: int
    assessed_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRejected:
    """The frame cannot be used, and why. Avro: hindsight.assessments.FrameRejected v1."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    blob_stored: bool
    reasons: tuple[str, ...]
    detail: str
    assessed_at_us: int
