"""What a release on trial said of a frame. It never reaches results: nothing but the comparison reads this topic.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.types import Candidate, EventId, FrameRef, Observation, RolloutArm, SourcePosition, StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateCompleted:
    """A release on trial read a frame; this never reaches results. Avro: hindsight.candidates.CandidateCompleted v1."""

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
    rollout: RolloutArm
    measures: Mapping[str, float]
    incumbent_release: str | None = None
    incumbent_measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFailed:
    """A release on trial could not read a frame; the release in force read it. Avro: hindsight.candidates.CandidateFailed v1."""

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
    rollout: RolloutArm
    incumbent_release: str | None = None
    incumbent_measures: Mapping[str, float]
