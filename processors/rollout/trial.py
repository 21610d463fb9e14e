"""The judge: folds the samples of a trial, and says what they show as soon as they show it.

Reads vision.monitoring, writes `ReportVerdict` to vision.commands; `release` decides what follows. A verdict is told once for
each stage of a trial, and once more if what went well fails later. Samples that come late, of a stage or a trial that is over,
are passed over.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from processors.rollout import folding, judging
from processors.rollout.plan import Plan
from processors.rollout.samples import MEASURES, Sample
from processors.step import Cause
from schemas import ids
from schemas.catalogue import MONITORING
from schemas.events import ReportVerdict, RolloutSampled
from schemas.types import RolloutSample

_OVER_KEPT = 16
_NONE, _FAILED = "none", "failed"
_NAMES = {"latency_ms", *MEASURES} - {"latency"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a pipeline's trial showed so far in its present stage; `told` is the verdict that was given on it."""

    rollout_id: str = ""
    stage: int = 0
    comparison: folding.State | None = None
    told: str = ""
    over: tuple[str, ...] = ()
    releases_offset: int = 0


class JudgeStep:
    """Reads vision.monitoring. State: by pipeline, its trial.

    Args:
        plan: How a trial is judged, by its kind: shadow or canary.
    """

    name = "judge"
    topic = MONITORING
    state_type = Trial
    initial = Trial()

    def __init__(self, plan: Callable[[str], Plan]) -> None:
        self._plan = plan

    def key(self, event: Any) -> str | None:
        return str(event.subject) if isinstance(event, RolloutSampled) else None

    def decide(self, state: Trial, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        if not isinstance(event, RolloutSampled):
            return ()
        before, after = self._begun(state, event), self.fold(state, event)
        if before is None or not after.told or after.told == before.told or after.comparison is None:
            return ()
        judgement = judging.judge(after.comparison)
        return (
            ReportVerdict(
                command_id=ids.event_id(cause.position, "ReportVerdict"),
                pipeline=event.pipeline,
                rollout_id=event.rollout_id,
                stage=event.stage,
                verdict=after.told,
                deciding=judgement.decided_by or "",
                measures=judging.measures(judgement),
                issued_at_us=cause.now_us,
            ),
        )

    def fold(self, state: Trial, event: Any) -> Trial:
        begun = self._begun(state, event) if isinstance(event, RolloutSampled) else None
        if begun is None or begun.told == _FAILED or begun.comparison is None:
            return begun or state
        folded = folding.fold(begun.comparison, map(_sample, event.samples))
        verdict, _ = judging.verdict(folded)
        # What went well is watched on: it can still fail, by the same bound.
        told = verdict if verdict == _FAILED or (not begun.told and verdict != _NONE) else begun.told
        return replace(begun, comparison=folded, told=told, releases_offset=max(begun.releases_offset, event.releases_offset))

    def _begun(self, state: Trial, event: RolloutSampled) -> Trial | None:
        """The state as this event finds it: another trial or a later stage begins anew. None when it belongs to none of them."""
        if event.rollout_id in state.over or (event.rollout_id == state.rollout_id and event.stage < state.stage):
            return None
        if (event.rollout_id, event.stage) == (state.rollout_id, state.stage):
            return state
        is_another = event.rollout_id != state.rollout_id
        if is_another and event.releases_offset < state.releases_offset:
            return None  # a late sample of a trial before this one
        over = (*state.over, state.rollout_id)[-_OVER_KEPT:] if is_another and state.rollout_id else state.over
        comparison = folding.begin(self._plan(event.kind))
        offset = event.releases_offset
        return Trial(rollout_id=event.rollout_id, stage=event.stage, comparison=comparison, over=over, releases_offset=offset)


def _sample(sample: RolloutSample) -> Sample:
    """A sample as the comparison takes it; measures that it does not compare are left out."""
    known = {name: value for name, value in sample.measures.items() if name in _NAMES}
    return Sample(arm="candidate" if sample.arm == "candidate" else "incumbent", unit=sample.unit, **known)
