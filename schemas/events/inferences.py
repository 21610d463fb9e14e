"""What the models said of a frame, or why they said nothing.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.types import Candidate, EventId, FrameRef, Observation, RolloutArm, SourcePosition, StepReport, Superseded


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCompleted:
    """The ensemble answered; everything it said, and what ran. Avro: hindsight.inferences.InferenceCompleted v2."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    pipeline: str
    release: str
    releases_offset: int
    endpoint: str
    attempts: int
    started_at_us: int
    duration_us: int
    width_px: int
    height_px: int
    parameters: Mapping[str, float]
    runtime: Mapping[str, str]
    steps: tuple[StepReport, ...]
    observations: tuple[Observation, ...]
    candidates: tuple[Candidate, ...]
    supersedes: Superseded | None = None
    rollout: RolloutArm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFailed:
    """The ensemble did not answer, after the last retry. Avro: hindsight.inferences.InferenceFailed v2."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    pipeline: str
    release: str
    releases_offset: int
    endpoint: str
    attempts: int
    started_at_us: int
    duration_us: int
    failed_step: str | None = None
    error_class: str
    error_message: str
    supersedes: Superseded | None = None
    rollout: RolloutArm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSkipped:
    """No model was asked, and why. Avro: hindsight.inferences.InferenceSkipped v2."""

    event_id: EventId
    source: SourcePosition
    frame: FrameRef
    pipeline: str
    release: str | None = None
    releases_offset: int
    reason: str
    skipped_at_us: int
    supersedes: Superseded | None = None
