"""What frames and passages count for after the business rules.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from dataclasses import dataclass

from schemas.types import Conclusion, DeviceId, EventId, FrameId, FrameRef, Reading, SourcePosition, Superseded


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDerived:
    """What one frame counts for: exactly one for each accepted frame, but for those that
    supersede one. Avro: hindsight.results.ResultDerived v2."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    inference_id: EventId
    pipeline: str
    release: str | None = None
    outcome: str
    readings: tuple[Reading, ...]
    conclusion: Conclusion | None = None
    rules: str
    detail: str
    derived_at_us: int
    supersedes: Superseded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCorrected:
    """A later frame changed what an already published passage says. Avro: hindsight.results.ResultCorrected v1."""

    event_id: EventId
    source: SourcePosition
    device_id: DeviceId
    pipeline: str
    frame_id: FrameId
    previous: Conclusion
    conclusion: Conclusion
    rules: str
    derived_at_us: int
