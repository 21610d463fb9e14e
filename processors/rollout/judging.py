"""Is a candidate release as good as the incumbent? Judges the state that `folding` keeps.

Guaranteed, however often it is asked and whatever order the samples come in:
- a candidate that is worse in nothing is called failed with a chance of the plan's alpha at most;
- one that is worse than a margin in anything is called successful with a chance of the plan's alpha at most.
Both hold for independent units (passages; see `units`) that were assigned to the arms by chance or read by both.

Failed is what is certainly worse (the lower bound of the worsening is above 0) *and* by more than the margin as far as can be
told (the estimate is). A certain worsening within the margin is tolerated: that is what the margin says. Successful is what
has every measure's upper bound below its margin; all must hold, so none needs a share of alpha. No I/O; the judge
folds, judges after each batch, and sends the verdict as a command to the release processor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log
from typing import Literal

from processors.rollout.betting import for_above, for_below, lower, upper
from processors.rollout.comparing import Comparison
from processors.rollout.folding import State
from processors.rollout.plan import Limit, Plan
from processors.rollout.samples import MEASURES, Measure

Verdict = Literal["none", "successful", "failed", "inconclusive"]


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


def verdict(state: State) -> tuple[Verdict, Measure | None]:
    """The verdict and the measure that decided it; cheaper than `judge`, which has the numbers too."""
    plan = state.plan
    counted = [measure for measure in MEASURES if measure in state.comparisons and state.comparisons[measure].compared]
    for measure in counted:
        if _fails(plan.limit(measure), state.comparisons[measure]):
            return "failed", measure
    ended = any(state.comparisons[measure].compared >= plan.units_max for measure in counted)
    if not counted or not (ended or all(_short_of_success(plan, m, state.comparisons[m]) <= 0 for m in counted)):
        return "none", None
    short = {measure: _short_of_success(plan, measure, state.comparisons[measure]) for measure in counted}
    last = max(counted, key=lambda measure: short[measure])
    return ("successful" if short[last] <= 0 else "inconclusive"), last


def judge(state: State) -> Judgement:
    """What can be said now. A verdict other than `none` ends the comparison; asking again later is the caller's to avoid."""
    found, decided_by = verdict(state)
    return Judgement(
        verdict=found,
        decided_by=decided_by,
        compared=tuple(_compared(state.plan, m, state.comparisons[m]) for m in MEASURES if m in state.comparisons),
        frames_incumbent=state.frames_incumbent,
        frames_candidate=state.frames_candidate,
        slow_ms=state.slow_ms,
    )


def measures(judgement: Judgement) -> Mapping[str, float]:
    """The numbers, flat, for an event's map: `valid.difference`, `valid.lower`, `frames.candidate` and so on."""
    numbers = {"frames.incumbent": float(judgement.frames_incumbent), "frames.candidate": float(judgement.frames_candidate)}
    if judgement.slow_ms is not None:
        numbers["latency.slow_ms"] = float(judgement.slow_ms)
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


def _fails(limit: Limit, comparison: Comparison) -> bool:
    return comparison.mean() >= limit.margin and for_above(comparison.counts, 0.0) >= -log(limit.alpha)


def _short_of_success(plan: Plan, measure: Measure, comparison: Comparison) -> float:
    """How much evidence lacks that the worsening is below the margin; 0 or less: none does."""
    if comparison.compared < plan.units_min:
        return inf
    return -log(plan.alpha) - for_below(comparison.counts, plan.limit(measure).margin)


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
