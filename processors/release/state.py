"""What is known of a pipeline's releases: a fold of vision.releases. Pure.

`core` decides on this state; the view `releases`, the router and every look back fold the same events. A promotion's
event names all that holds from it on, so that a reader may begin at the newest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from schemas.events import (
    CanaryAdvanced,
    CanaryStarted,
    LoadedModelsDiffered,
    ModelHealed,
    ModelRegistered,
    PromotionEnded,
    PromotionRequested,
    RegisterModel,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRegistered,
    ReleaseRolledBack,
    ReportModelHealed,
    RolloutEnded,
    RolloutJudged,
    ShadowStarted,
    ThresholdChanged,
)
from schemas.types import Gate, ReleaseStep

SHADOW, CANARY = "shadow", "canary"
FAILED, SUCCESSFUL, INCONCLUSIVE = "failed", "successful", "inconclusive"
_EARLIER_KEPT = 8
_TOLD_BY_LOADER = (ReleaseLoaded, ReleaseLoadFailed, ModelHealed, LoadedModelsDiffered)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """One release: its pinned steps, its own thresholds, the inference servers that had it when they last said, and the last
    verdict on it."""

    steps: tuple[ReleaseStep, ...]
    parameters: Mapping[str, float]
    registered_at_us: int
    registered_by: str
    parameters_least: Mapping[str, float] = field(default_factory=dict)
    parameters_most: Mapping[str, float] = field(default_factory=dict)
    loaded_on: tuple[str, ...] = ()
    load_error: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A promotion, or a way back, that waits for its release to be loaded."""

    release: str
    issued_by: str
    reason: str
    is_rollback: bool = False
    gate: Gate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A release on trial. `percent` of the units are read by it in a canary; in a shadow it reads beside, and it is 0."""

    rollout_id: str
    kind: str
    release: str
    started_at_us: int
    issued_by: str
    reason: str
    steps_percent: tuple[float, ...] = ()
    percent: float = 0.0
    stage: int = 0
    unit: str = "device"
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one inference server lacks of what should be loaded, and what it has that no release names."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReleases:
    """State of one pipeline. `parameters` are thresholds changed by hand; they hold over a release's own. `models` are the
    digests of the model versions whose files are kept, by "model:version", and `configurations` those of their
    configurations, by the model's name: all versions share one. `earlier` are the releases that read before, the latest first.
    `revision` counts decisions, so that a command can say which state it was made for. `differences` are those of the inference
    servers that do not have what they should, by endpoint; `healed_at_us` says when a model there was last started anew, by
    "endpoint model"."""

    releases: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    in_force: str | None = None
    promoted_at_us: int = 0
    promoted_by: str = ""
    promoted_reason: str = ""
    previous: str | None = None
    pending: Pending | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    configurations: Mapping[str, str] = field(default_factory=dict)
    rollout: Rollout | None = None
    earlier: tuple[str, ...] = ()
    revision: int = 0
    differences: Mapping[str, Difference] = field(default_factory=dict)
    healed_at_us: Mapping[str, int] = field(default_factory=dict)

    def thresholds(self, release: str | None = None) -> Mapping[str, float]:
        """The parameters that a release reads with; of the one in force when none is named."""
        entry = self._entry(release)
        return {**(entry.parameters if entry is not None else {}), **self.parameters}

    def pins(self, release: str | None = None) -> Mapping[str, str]:
        """Digests by step of a release; of the one in force when none is named."""
        entry = self._entry(release)
        return {s.step: s.digest for s in entry.steps} if entry is not None else {}

    def steps_by_model(self, release: str | None = None) -> Mapping[str, str]:
        """The step that each model of a release does; a model of several steps is left out."""
        entry = self._entry(release)
        models = [s.model for s in entry.steps] if entry is not None else []
        return {s.model: s.step for s in entry.steps if models.count(s.model) == 1} if entry is not None else {}

    def _entry(self, release: str | None) -> ReleaseEntry | None:
        name = self.in_force if release is None else release
        return self.releases.get(name) if name is not None else None


INITIAL = PipelineReleases()


def fold(state: PipelineReleases, event: Any) -> PipelineReleases:
    """The state after an event of vision.releases. What it does not know, or cannot place, leaves it as it is."""
    after = _folded(state, event)
    is_decision = after is not state and not isinstance(event, _TOLD_BY_LOADER)
    return replace(after, revision=state.revision + 1) if is_decision else after


def fold_all(events: tuple[Any, ...], state: PipelineReleases) -> PipelineReleases:
    return reduce(fold, events, state)


def model_name(of: RegisterModel | ModelRegistered | ReleaseStep) -> str:
    """A model version's name in the state, such as detection:3."""
    return f"{of.model}:{of.version}"


def place_of(event: ModelHealed | ReportModelHealed) -> str:
    """A model of an inference server, as the state names it."""
    return f"{event.endpoint} {event.model}"


def _folded(state: PipelineReleases, event: Any) -> PipelineReleases:
    match event:
        case ModelRegistered():
            own = {} if event.configuration is None else {event.model: event.configuration.blob.sha256}
            models = {**state.models, model_name(event): event.digest}
            return replace(state, models=models, configurations={**state.configurations, **own})
        case ReleaseRegistered():
            entry = ReleaseEntry(
                steps=event.steps,
                parameters=event.parameters,
                registered_at_us=event.registered_at_us,
                registered_by=event.issued_by,
                parameters_least=event.parameters_least,
                parameters_most=event.parameters_most,
            )
            return replace(state, releases={**state.releases, event.release: entry})
        case ReleaseLoaded() | ReleaseLoadFailed() if event.release in state.releases:
            return _loading(state, event)
        case ModelHealed():
            return replace(state, healed_at_us={**state.healed_at_us, place_of(event): event.healed_at_us})
        case LoadedModelsDiffered():
            others = {e: d for e, d in state.differences.items() if e != event.endpoint}
            now = {event.endpoint: Difference(missing=event.missing, unknown=event.unknown)}
            return replace(state, differences={**others, **(now if event.missing or event.unknown else {})})
        case PromotionRequested():
            asked = Pending(
                release=event.release,
                issued_by=event.issued_by,
                reason=event.reason,
                is_rollback=event.is_rollback,
                gate=event.gate,
            )
            return replace(_with_entry(state, event.release, load_error=""), pending=asked)
        case PromotionEnded():
            return replace(state, pending=None)
        case ReleasePromoted() | ReleaseRolledBack():
            return _in_force(state, event)
        case ShadowStarted() | CanaryStarted() | CanaryAdvanced() | RolloutJudged() | RolloutEnded():
            return _on_trial(state, event)
        case ThresholdChanged():
            return replace(state, parameters={**state.parameters, event.name: event.value})
        case _:
            return state


def _with_entry(state: PipelineReleases, release: str, **changes: Any) -> PipelineReleases:
    if release not in state.releases:
        return state
    return replace(state, releases={**state.releases, release: replace(state.releases[release], **changes)})


def _loading(state: PipelineReleases, event: ReleaseLoaded | ReleaseLoadFailed) -> PipelineReleases:
    entry = state.releases[event.release]
    if isinstance(event, ReleaseLoaded):
        endpoints = tuple(sorted({*entry.loaded_on, event.endpoint}))
        return _with_entry(state, event.release, loaded_on=endpoints, load_error="")
    others = tuple(endpoint for endpoint in entry.loaded_on if endpoint != event.endpoint)
    failed = _with_entry(state, event.release, loaded_on=others, load_error=event.error_message)
    is_waited_for = state.pending is not None and state.pending.release == event.release
    return replace(failed, pending=None) if is_waited_for and event.gives_up else failed


def _in_force(state: PipelineReleases, event: ReleasePromoted | ReleaseRolledBack) -> PipelineReleases:
    if isinstance(event, ReleasePromoted):
        at_us, before = event.promoted_at_us, state.in_force
        earlier = tuple(r for r in (before, *state.earlier) if r is not None and r != event.release)[:_EARLIER_KEPT]
    else:
        at_us = event.rolled_back_at_us
        named = state.earlier.index(event.release) + 1 if event.release in state.earlier else 0
        earlier = state.earlier[named:]
    return replace(
        state,
        in_force=event.release,
        previous=event.previous_release,
        promoted_at_us=at_us,
        promoted_by=event.issued_by,
        promoted_reason=event.reason,
        pending=None,
        rollout=None,
        earlier=earlier,
    )


def _on_trial(
    state: PipelineReleases, event: ShadowStarted | CanaryStarted | CanaryAdvanced | RolloutJudged | RolloutEnded
) -> PipelineReleases:
    now = state.rollout
    match event:
        case ShadowStarted() | CanaryStarted():
            is_canary = isinstance(event, CanaryStarted)
            started = Rollout(
                rollout_id=event.rollout_id,
                kind=CANARY if is_canary else SHADOW,
                release=event.release,
                started_at_us=event.started_at_us,
                issued_by=event.issued_by,
                reason=event.reason,
                steps_percent=event.steps_percent if isinstance(event, CanaryStarted) else (),
                percent=event.percent if isinstance(event, CanaryStarted) else 0.0,
                unit=event.unit if isinstance(event, CanaryStarted) else "device",
            )
            return replace(state, rollout=started)
        case _ if now is None or now.rollout_id != event.rollout_id:
            return state
        case CanaryAdvanced():
            return replace(state, rollout=replace(now, stage=event.stage, percent=event.percent, verdict=""))
        case RolloutJudged():
            judged = _with_entry(state, event.release, verdict=event.verdict)
            return replace(judged, rollout=replace(now, verdict=event.verdict))
        case RolloutEnded():
            waits = state.pending
            is_over_too = event.outcome == "rolled_back" and waits is not None and waits.release == event.release
            return replace(state, rollout=None, pending=None if is_over_too else waits)
