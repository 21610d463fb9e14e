"""Which models may read, and which release does.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.types import EventId, Gate, ModelFile, ReleaseStep, SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegistered:
    """A model version is known, by digest. Avro: hindsight.releases.ModelRegistered v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    model: str
    version: int
    digest: str
    files: tuple[ModelFile, ...]
    issued_by: str
    reason: str
    registered_at_us: int
    configuration: ModelFile | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRegistered:
    """A release is known: every step pinned. Avro: hindsight.releases.ReleaseRegistered v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    steps: tuple[ReleaseStep, ...]
    parameters: Mapping[str, float]
    issued_by: str
    reason: str
    registered_at_us: int
    parameters_least: Mapping[str, float] = field(default_factory=dict)
    parameters_most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLoaded:
    """The inference server answers with this release. Avro: hindsight.releases.ReleaseLoaded v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    endpoint: str
    duration_us: int
    loaded_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLoadFailed:
    """The inference server could not load this release. Avro: hindsight.releases.ReleaseLoadFailed v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    endpoint: str
    error_message: str
    failed_at_us: int
    gives_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealed:
    """A model process had died, and was started again. Avro: hindsight.releases.ModelHealed v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    endpoint: str
    model: str
    release: str
    seen: str
    down_us: int
    healed_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModelsDiffered:
    """An inference server has loaded something else than the log says, or agrees again: then both are empty.

    Avro: hindsight.releases.LoadedModelsDiffered v1.
    """

    event_id: EventId
    source: SourcePosition
    pipeline: str
    endpoint: str
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    seen_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRequested:
    """A promotion waits until its release is loaded. Avro: hindsight.releases.PromotionRequested v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    issued_by: str
    reason: str
    requested_at_us: int
    is_rollback: bool = False
    gate: Gate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStarted:
    """A release reads beside the one in force; its readings never reach results. Avro: hindsight.releases.ShadowStarted v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    issued_by: str
    reason: str
    started_at_us: int
    rollout_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStarted:
    """A release reads a share of the frames. Avro: hindsight.releases.CanaryStarted v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    percent: float
    issued_by: str
    reason: str
    started_at_us: int
    rollout_id: str = ""
    steps_percent: tuple[float, ...] = ()
    unit: str = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAdvanced:
    """The canary went well so far, and its release reads a larger share. Avro: hindsight.releases.CanaryAdvanced v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    rollout_id: str
    stage: int
    percent: float
    previous_percent: float
    advanced_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutJudged:
    """The comparison of candidate and incumbent came to a verdict. Avro: hindsight.releases.RolloutJudged v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    verdict: str
    measures: Mapping[str, float]
    judged_at_us: int
    rollout_id: str = ""
    stage: int = 0
    deciding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded:
    """A shadow or canary is over; the release in force reads everything. Avro: hindsight.releases.RolloutEnded v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    rollout_id: str
    kind: str
    outcome: str
    issued_by: str
    reason: str
    ended_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEnded:
    """A promotion that waited was called off; who reads stays as it is. Avro: hindsight.releases.PromotionEnded v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    is_rollback: bool
    issued_by: str
    reason: str
    ended_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePromoted:
    """This release reads the frames from here on. Avro: hindsight.releases.ReleasePromoted v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    previous_release: str | None = None
    issued_by: str
    reason: str
    promoted_at_us: int
    steps: tuple[ReleaseStep, ...] = ()
    parameters: Mapping[str, float] | None = None
    overrides: Mapping[str, float] | None = None
    gate: Gate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRolledBack:
    """An earlier release reads again. Avro: hindsight.releases.ReleaseRolledBack v2."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    release: str
    previous_release: str
    issued_by: str
    reason: str
    rolled_back_at_us: int
    steps: tuple[ReleaseStep, ...] = ()
    parameters: Mapping[str, float] | None = None
    overrides: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChanged:
    """A parameter of the pipeline has another value from here on. Avro: hindsight.releases.ThresholdChanged v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    name: str
    value: float
    previous_value: float | None = None
    issued_by: str
    reason: str
    changed_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused:
    """A command was not carried out, and why. Avro: hindsight.releases.CommandRefused v1."""

    event_id: EventId
    source: SourcePosition
    pipeline: str
    command_id: EventId
    command: str
    release: str | None = None
    refusal: str
    detail: str
    issued_by: str
    refused_at_us: int
