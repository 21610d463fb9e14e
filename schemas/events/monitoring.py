"""How well it goes, and what somebody should look at.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.types import BlobRef, EventId, FrameId, RolloutSample, SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasured:
    """Quality of a subject over a window. Avro: hindsight.monitoring.QualityMeasured v1."""

    event_id: EventId
    source: SourcePosition
    subject: str
    pipeline: str
    release: str | None = None
    window_from_us: int
    window_to_us: int
    samples_count: int
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected:
    """A measure of a subject no longer looks like its reference. Avro: hindsight.monitoring.DriftDetected v1."""

    event_id: EventId
    source: SourcePosition
    subject: str
    measure: str
    test: str
    statistic: float
    threshold: float
    detected_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSampled:
    """Frames that the sides of a rollout read, in numbers, some at a time. Avro: hindsight.monitoring.RolloutSampled v1."""

    event_id: EventId
    source: SourcePosition
    subject: str
    pipeline: str
    rollout_id: str
    kind: str
    stage: int
    samples: tuple[RolloutSample, ...]
    sampled_at_us: int
    releases_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRaised:
    """Somebody should look. Avro: hindsight.monitoring.AlertRaised v1."""

    event_id: EventId
    source: SourcePosition
    alert_id: EventId
    subject: str
    kind: str
    severity: str
    message: str
    frame_id: FrameId | None = None
    passage_id: str | None = None
    evidence: Mapping[str, str]
    raised_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCleared:
    """The reason for an alert is gone. Avro: hindsight.monitoring.AlertCleared v1."""

    event_id: EventId
    source: SourcePosition
    alert_id: EventId
    subject: str
    kind: str
    reason: str
    cleared_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken:
    """A view's state at a position is in the blob store. Avro: hindsight.monitoring.SnapshotTaken v1."""

    event_id: EventId
    view: str
    topic: str
    partition: int
    offset: int
    blob: BlobRef
    digest: str
    keys_count: int
    taken_at_us: int
