"""What somebody asks of the release, the erase or the redrive processor; imperative, and refused by an event when it
cannot be done.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.types import DeviceId, EventId, Gate, ModelFile, ReleaseStep


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterModel:
    """Ask that a model version become known; its files are in the blob store already.

    Avro: hindsight.commands.RegisterModel v2.
    """

    command_id: EventId
    pipeline: str
    model: str
    version: int
    digest: str
    files: tuple[ModelFile, ...]
    issued_by: str
    reason: str
    issued_at_us: int
    configuration: ModelFile | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterRelease:
    """Ask that a release become known. Avro: hindsight.commands.RegisterRelease v2."""

    command_id: EventId
    pipeline: str
    release: str
    steps: tuple[ReleaseStep, ...]
    parameters: Mapping[str, float]
    issued_by: str
    reason: str
    issued_at_us: int
    parameters_least: Mapping[str, float] = field(default_factory=dict)
    parameters_most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteRelease:
    """Ask that a release read the frames. Avro: hindsight.commands.PromoteRelease v2."""

    command_id: EventId
    pipeline: str
    release: str
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None
    gate: Gate | None = None
    despite_verdict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackRelease:
    """Ask that the release before this one read again. Avro: hindsight.commands.RollBackRelease v1."""

    command_id: EventId
    pipeline: str
    release: str | None = None
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartShadow:
    """Ask that a release read beside the one in force. Avro: hindsight.commands.StartShadow v1."""

    command_id: EventId
    pipeline: str
    release: str
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCanary:
    """Ask that a release read a share of the frames. Avro: hindsight.commands.StartCanary v1."""

    command_id: EventId
    pipeline: str
    release: str
    steps_percent: tuple[float, ...]
    unit: str
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortRollout:
    """Ask that the running shadow or canary end. Avro: hindsight.commands.AbortRollout v1."""

    command_id: EventId
    pipeline: str
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVerdict:
    """The judge says what a rollout's samples show. Avro: hindsight.commands.ReportVerdict v1."""

    command_id: EventId
    pipeline: str
    rollout_id: str
    stage: int
    verdict: str
    deciding: str
    measures: Mapping[str, float]
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeThreshold:
    """Ask for another value of a parameter. Avro: hindsight.commands.ChangeThreshold v2."""

    command_id: EventId
    pipeline: str
    name: str
    value: float
    issued_by: str
    reason: str
    issued_at_us: int
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReleaseLoaded:
    """The loader says that a release answers. Avro: hindsight.commands.ReportReleaseLoaded v1."""

    command_id: EventId
    pipeline: str
    release: str
    endpoint: str
    duration_us: int
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReleaseLoadFailed:
    """The loader says that a release could not be loaded. Avro: hindsight.commands.ReportReleaseLoadFailed v2."""

    command_id: EventId
    pipeline: str
    release: str
    endpoint: str
    error_message: str
    issued_at_us: int
    gives_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportModelHealed:
    """The loader says that it has started a model process again. Avro: hindsight.commands.ReportModelHealed v1."""

    command_id: EventId
    pipeline: str
    endpoint: str
    model: str
    release: str
    seen: str
    down_us: int
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLoadedModels:
    """The loader says how what is loaded differs from the log. Avro: hindsight.commands.ReportLoadedModels v1."""

    command_id: EventId
    pipeline: str
    endpoint: str
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseFrames:
    """Ask that a device's frames of a time become unreadable for ever. Avro: hindsight.commands.EraseFrames v1."""

    command_id: EventId
    device_id: DeviceId
    order_id: str
    captured_from_us: int
    captured_to_us: int
    issued_by: str
    reason: str
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveLetters:
    """Ask that the records of dead letters be put onto their topics again. Avro: hindsight.commands.RedriveLetters v1."""

    command_id: EventId
    letter_offsets: tuple[int, ...]
    beyond_limit: bool
    issued_by: str
    reason: str
    issued_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardLetters:
    """Ask that dead letters count as done with; nothing is removed. Avro: hindsight.commands.DiscardLetters v1."""

    command_id: EventId
    letter_offsets: tuple[int, ...]
    issued_by: str
    reason: str
    issued_at_us: int
