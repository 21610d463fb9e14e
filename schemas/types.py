"""The parts that events share, and the names of ids. Described field by field in the `.avsc` files that use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

EventId = NewType("EventId", str)
FrameId = NewType("FrameId", str)
DeviceId = NewType("DeviceId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of an object that holds the bytes of several blobs. Avro: hindsight.types.Stretch."""

    object: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """Where bytes are kept, by content: a claim check for the blob store. Avro: hindsight.types.BlobRef."""

    sha256: str
    size_bytes: int
    media_type: str
    key_id: str | None = None
    segment: Stretch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePosition:
    """The record that caused an event. Along one partition these only grow, so a reader drops repeats by comparing one
    position. Avro: hindsight.types.SourcePosition."""

    topic: str
    partition: int
    offset: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRef:
    """Which frame: identity, place in its device's stream, and bytes. Avro: hindsight.types.FrameRef."""

    frame_id: FrameId
    device_id: DeviceId
    session_id: str
    sequence: int
    captured_at_us: int
    blob: BlobRef
    passage_id: str | None = None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step of the ensemble did for this frame. Avro: hindsight.types.StepReport."""

    step: str
    model: str
    version: int
    variant: str
    digest: str | None = None
    duration_us: int | None = None
    output_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that the models report in the frame. Avro: hindsight.types.Observation."""

    index: int
    kind: str
    label: str
    confidence: float
    detection_score: float
    polygon_px: tuple[float, ...]
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something seen and left out, kept so that silence can be explained. Avro: hindsight.types.Candidate."""

    stage: str
    reason: str
    kind: str
    label: str
    confidence: float
    detection_score: float
    polygon_px: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An observation after the business rules. Avro: hindsight.types.Reading."""

    kind: str
    label: str
    confidence: float
    valid: bool | None = None
    observation_index: int
    polygon_px: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the votes of a passage's frames say so far. Avro: hindsight.types.Conclusion."""

    passage_id: str
    frames_count: int
    kind: str
    label: str | None = None
    valid: bool | None = None
    confidence: float
    votes_for: int
    votes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """An answer for a frame that another one takes the place of, since its record was redriven from the dead letters. It was an
    `InferenceFailed`. Avro: hindsight.types.Superseded."""

    inference_id: EventId
    release: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStep:
    """One pinned step of a release. Avro: hindsight.types.ReleaseStep."""

    step: str
    model: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model version. Avro: hindsight.types.ModelFile."""

    path: str
    blob: BlobRef


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutArm:
    """Which side of a running rollout read a frame. Avro: hindsight.types.RolloutArm."""

    rollout_id: str
    kind: str
    stage: int
    arm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSample:
    """What one side of a rollout made of one frame, in numbers. Avro: hindsight.types.RolloutSample."""

    arm: str
    unit: str
    frame_id: FrameId
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition that a promotion was held to, and what it was found to be. Avro: hindsight.types.Gate."""

    name: str
    window_from_us: int
    window_to_us: int
    conditions: Mapping[str, float]
    measures: Mapping[str, float]
    passed: bool
    detail: str
