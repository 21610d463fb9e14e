"""How often verdicts on planted candidates are right, and after how many frames: `make bench-rollouts`.

    python -m tests.benchmarks.rollout_rates [--seeds 200]      writes docs/reference/rollout-rates.md

Every run is `rollout_world`'s made gate and a monitor that folds each batch and looks after every few. Beside the method that
is used, the page has two that are not sound, in the same runs: a t-test that is looked at again and again, and bets that take
every frame for an observation of its own.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import inf, sqrt
from pathlib import Path
from statistics import NormalDist

from processors.rollout import MEASURES, Plan, Sample, State, begin, fold, verdict
from processors.rollout.betting import as_values
from processors.rollout.comparing import Comparison
from tests.benchmarks import rollout_page
from tests.benchmarks.rollout_world import WAYS, Case, cases, samples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "rollout-rates.md"
LOOKS_EVERY = 4
_T_TEST_UNITS_MIN = 10

Found = tuple[str, str | None]
Look = Callable[[State], Found]
Batches = Iterator[list[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended, and after how many of the candidate's frames."""

    verdict: str
    decided_by: str | None
    frames_candidate: int


def run(case: Case, seed: int, *, look: Look = verdict, each_frame_a_unit: bool = False, plan: Plan | None = None) -> Outcome:
    """Until a verdict."""
    state = begin(plan or Plan(paired=case.share is None))
    batches = samples(case, seed)
    if each_frame_a_unit:
        batches = _frames_as_units(batches)
    while True:
        state = fold(state, [sample for _ in range(LOOKS_EVERY) for sample in next(batches)])
        found, decided_by = look(state)
        if found != "none":
            return Outcome(verdict=found, decided_by=decided_by, frames_candidate=state.frames_candidate)


def t_test(state: State) -> Found:
    """The same rule for a verdict with a one-sided t-test of the same alphas, sound for one look alone."""
    plan, counted = state.plan, [m for m in MEASURES if m in state.comparisons and state.comparisons[m].compared]
    for measure in counted:
        limit, comparison = plan.limit(measure), state.comparisons[measure]
        if comparison.mean() >= limit.margin and _t(comparison, 0.0) >= _quantile(limit.alpha):
            return "failed", measure
    enough = [state.comparisons[m].compared >= plan.units_min for m in counted]
    if counted and all(enough) and all(-_t(state.comparisons[m], plan.limit(m).margin) >= _quantile(plan.alpha) for m in counted):
        return "successful", None
    return ("inconclusive" if any(state.comparisons[m].compared >= plan.units_max for m in counted) else "none"), None


def _quantile(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha)


def _t(comparison: Comparison, mean: float) -> float:
    values, numbers = as_values(comparison.counts)
    count = float(numbers.sum())
    if count < _T_TEST_UNITS_MIN:
        return 0.0
    middle = float(values @ numbers) / count
    spread = sqrt(float((values - middle) ** 2 @ numbers) / (count - 1) / count)
    return (middle - mean) / spread if spread else inf * (middle - mean) if middle != mean else 0.0


def _frames_as_units(batches: Batches) -> Batches:
    for number, batch in enumerate(batches):
        yield [replace(sample, unit=f"{sample.unit}/{number}") for sample in batch]


def _outcomes(seeds: int, job: tuple[Case, str]) -> list[Outcome]:
    case, method = job
    look = t_test if method == "t-test" else verdict
    plan = Plan(paired=case.share is None, unit_frames_max=1) if method == "frames" else None
    return [run(case, seed, look=look, each_frame_a_unit=method == "frames", plan=plan) for seed in range(seeds)]


def main() -> None:
    """Runs all and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    jobs = [(case, "bets") for share in WAYS.values() for case in cases(share)]
    jobs += [
        (case, method)
        for case, _ in jobs
        if case.name == "equal" and case.share != WAYS["canary 10 %"]
        for method in ("t-test", "frames")
    ]
    rows = []
    with multiprocessing.Pool(chosen.processes) as pool:
        for (case, method), outcomes in zip(jobs, pool.imap(partial(_outcomes, chosen.seeds), jobs), strict=True):
            row = rollout_page.row(case, method, outcomes)
            rows.append(row)
            print(row, flush=True)
    chosen.page.write_text(rollout_page.page(rows))


if __name__ == "__main__":
    main()
