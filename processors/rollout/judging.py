"""Is a candidate release as good as the incumbent? Samples are folded into a small state, and the state is judged.

Guaranteed, however often `judge` is called and whatever order the samples come in:
- a candidate that is worse in nothing is called failed with a chance of the plan's alpha at most;
- one that is worse than a margin in anything is called successful with a chance of the plan's alpha at most.
Both hold for independent units (passages; see `units`) that were assigned to the arms by chance or read by both.
The state is bounded for ever and made of plain types. What may vary with the order of samples is which frames of a unit come
first, which units are compared with each other, and what the incumbent's first latencies are: never the guarantee.

Failed is what is certainly worse (the lower bound of the worsening is above 0) *and* by more than the margin as far as can be
told (the estimate is). A certain worsening within the margin is tolerated: that is what the margin says. Successful is what
has every measure's upper bound below its margin; all must hold, so none needs a share of alpha. No I/O; the monitor's step
folds, judges after each batch, and sends the verdict as a command to the release processor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

from processors.rollout import comparing, units
from processors.rollout.betting import lower, upper
from processors.rollout.comparing import Comparison
from processors.rollout.plan import Plan
from processors.rollout.samples import MEASURES, Measure, Sample
from processors.rollout.units import Unit

Verdict = Literal["none", "successful", "failed", "inconclusive"]
_SLOW_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a comparison.

    `samples` counts all, `frames_*` those of each arm; `in_progress` and `over` are units, the longest unseen first;
    `first_latencies_ms` are gathered until `slow_ms` is set, and then empty.
    """

    plan: Plan
    samples: int = 0
    frames_incumbent: int = 0
    frames_candidate: int = 0
    in_progress: tuple[Unit, ...] = ()
    over: tuple[str, ...] = ()
    first_latencies_ms: tuple[float, ...] = ()
    slow_ms: float | None = None
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure as the candidate's worsening (0 as good as can be, 1 as bad); positive differences are the candidate's fault.

    `lower` holds at all times at this measure's part of alpha, `upper` at the plan's alpha.
    """

    measure: Measure
    units_incumbent: int
    units_candidate: int
    compared: int
    incumbent: float
    candidate: float
    difference: float
    lower: float
    upper: float
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`decided_by` names the measure that failed, or the last that held success back; None before a verdict."""

    verdict: Verdict
    decided_by: Measure | None
    compared: tuple[Compared, ...]
    frames_incumbent: int
    frames_candidate: int
    slow_ms: float | None


def begin(plan: Plan) -> State:
    """Before the first sample."""
    return State(plan=plan)


def fold(state: State, samples: Iterable[Sample]) -> State:
    """With more samples; in two parts it comes to the same as in one."""
    for sample in samples:
        state = _with_sample(state, sample)
    return state


def judge(state: State) -> Judgement:
    """What can be said now. A verdict other than `none` ends the comparison; asking again later is the caller's to avoid."""
    plan = state.plan
    compared = tuple(_compared(plan, m, state.comparisons[m]) for m in MEASURES if m in state.comparisons)
    counted = [each for each in compared if each.compared]
    failed = next((each for each in counted if each.lower > 0 and each.difference >= each.margin), None)
    held_back = [each for each in counted if each.compared < plan.units_min or each.upper >= each.margin]
    verdict: Verdict = "none"
    decided_by: Measure | None = None
    if failed is not None:
        verdict, decided_by = "failed", failed.measure
    elif counted and not held_back:
        verdict, decided_by = "successful", max(counted, key=lambda each: each.upper - each.margin).measure
    elif max((each.compared for each in counted), default=0) >= plan.units_max:
        verdict, decided_by = "inconclusive", max(held_back, key=lambda each: each.upper - each.margin).measure
    return Judgement(
        verdict=verdict,
        decided_by=decided_by,
        compared=compared,
        frames_incumbent=state.frames_incumbent,
        frames_candidate=state.frames_candidate,
        slow_ms=state.slow_ms,
    )


def measures(judgement: Judgement) -> Mapping[str, float]:
    """The numbers, flat, for an event's map: `valid.difference`, `valid.lower`, `frames.candidate` and so on."""
    numbers = {"frames.incumbent": float(judgement.frames_incumbent), "frames.candidate": float(judgement.frames_candidate)}
    if judgement.slow_ms is not None:
        numbers["latency.slow_ms"] = judgement.slow_ms
    for each in judgement.compared:
        numbers |= {
            f"{each.measure}.{name}": float(getattr(each, name))
            for name in (
                "units_incumbent",
                "units_candidate",
                "compared",
                "incumbent",
                "candidate",
                "difference",
                "lower",
                "upper",
                "margin",
            )
        }
    return dict(sorted(numbers.items()))


def _compared(plan: Plan, measure: Measure, comparison: Comparison) -> Compared:
    limit = plan.limit(measure)
    return Compared(
        measure=measure,
        units_incumbent=comparison.incumbent.units,
        units_candidate=comparison.candidate.units,
        compared=comparison.compared,
        incumbent=comparison.incumbent.mean(),
        candidate=comparison.candidate.mean(),
        difference=comparison.mean(),
        lower=lower(comparison.counts, limit.alpha),
        upper=upper(comparison.counts, plan.alpha),
        margin=limit.margin,
    )


def _with_sample(state: State, sample: Sample) -> State:
    plan, seen_at, key = state.plan, state.samples + 1, units.key_of(sample.unit)
    state = _counted(state, sample)
    if key in state.over:
        return _without_overdue(replace(state, over=(*(k for k in state.over if k != key), key)))
    unit = next((each for each in state.in_progress if each.key == key), None) or Unit(key=key, seen_at=seen_at)
    unit = units.with_sample(
        unit,
        sample,
        seen_at=seen_at,
        frames_max=plan.unit_frames_max,
        readings_max=plan.readings_max,
        slow_ms=state.slow_ms,
    )
    others = tuple(each for each in state.in_progress if each.key != key)
    if units.is_full(unit, frames_max=plan.unit_frames_max, paired=plan.paired):
        state = _closed(replace(state, in_progress=others), unit)
    else:
        state = replace(state, in_progress=(*others, unit))
    return _timed(_without_overdue(state), sample)


def _counted(state: State, sample: Sample) -> State:
    incumbent = sample.arm == "incumbent"
    return replace(
        state,
        samples=state.samples + 1,
        frames_incumbent=state.frames_incumbent + incumbent,
        frames_candidate=state.frames_candidate + (not incumbent),
    )


def _timed(state: State, sample: Sample) -> State:
    """The incumbent's first latencies set what slow is, and none of them is compared: the threshold owes nothing to the comparison."""
    if state.slow_ms is not None or sample.arm != "incumbent" or sample.latency_ms is None:
        return state
    gathered = (*state.first_latencies_ms, sample.latency_ms)
    if len(gathered) < state.plan.latency_samples:
        return replace(state, first_latencies_ms=gathered)
    return replace(state, first_latencies_ms=(), slow_ms=sorted(gathered)[ceil(_SLOW_SHARE * len(gathered)) - 1])


def _without_overdue(state: State) -> State:
    """Units in progress stand in the order in which they were last seen, so the first is the one to look at."""
    while state.in_progress and (
        len(state.in_progress) > units.OPEN_MAX
        or state.samples - state.in_progress[0].seen_at >= state.plan.unit_patience_samples
    ):
        first, *rest = state.in_progress
        state = _closed(replace(state, in_progress=tuple(rest)), first)
    return state


def _closed(state: State, unit: Unit) -> State:
    comparisons = dict(state.comparisons)
    for measure, old, new in zip(MEASURES, units.means(unit, "incumbent"), units.means(unit, "candidate"), strict=True):
        comparison = comparisons.get(measure, Comparison())
        if old is not None and new is not None:
            comparisons[measure] = comparing.both(comparison, old, new)
        elif not state.plan.paired and old is not None:
            comparisons[measure] = comparing.one(comparison, "incumbent", old)
        elif not state.plan.paired and new is not None:
            comparisons[measure] = comparing.one(comparison, "candidate", new)
    return replace(state, comparisons=comparisons, over=(*state.over, unit.key)[-units.OVER_MAX :])
