"""The reference page that `rollout_rates` writes from its runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from processors.rollout import MEASURES, Plan
from tests.benchmarks.rollout_world import ALIKENESS, CAMERAS, FRAMES_OF_PASSAGE, WAYS, Case

_METHODS = {
    "t-test": "t-test, looked at after every few frames",
    "frames": "bets, every frame a unit",
    "bets": "bets, passages as units (used)",
}


class Ended(Protocol):
    """What is needed of a run."""

    @property
    def verdict(self) -> str: ...
    @property
    def decided_by(self) -> str | None: ...
    @property
    def frames_candidate(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Runs of one case by one method."""

    case: Case
    method: str
    runs: int
    failed: int
    successful: int
    inconclusive: int
    median: int
    most: int
    by: str


def row(case: Case, method: str, outcomes: Sequence[Ended]) -> Row:
    """Counts, and candidate frames until the verdict: the median, and what 95 % of the runs need at most."""
    verdicts, frames = Counter(each.verdict for each in outcomes), sorted(each.frames_candidate for each in outcomes)
    failed_by = Counter(each.decided_by for each in outcomes if each.verdict == "failed")
    return Row(
        case=case,
        method=method,
        runs=len(outcomes),
        failed=verdicts["failed"],
        successful=verdicts["successful"],
        inconclusive=verdicts["inconclusive"],
        median=frames[len(frames) // 2],
        most=frames[-(-len(frames) * 95 // 100) - 1],
        by=", ".join(f"{name} {count}" for name, count in failed_by.most_common()),
    )


def page(rows: Sequence[Row]) -> str:
    """In Markdown."""
    plan = Plan(paired=True)
    low, high = FRAMES_OF_PASSAGE
    lines = [
        "<!-- Made by tests/benchmarks/rollout_rates.py: run `make bench-rollouts`. -->",
        "",
        "# Rates of rollout verdicts",
        "",
        "Planted candidates in seeded runs: seeds from 0, as many as the column says; the same seed gives the same run again. "
        "`make bench-rollouts` makes this page again. What the numbers rest on: [Verdicts](../explanation/verdicts.md).",
        "",
        f"A run is a made gate: {CAMERAS} cameras at once, passages of {low} to {high} frames, a look after every four frames "
        "of each camera, until a verdict. "
        f"In rows marked *alike*, two frames of a passage agree with a correlation of {ALIKENESS}; in half of the passages what "
        "they share is the same for both arms. With *outages*, most frames of both arms fail for a while, now and then. "
        "*Frames* are the candidate's, until the verdict. None of 200 runs: the rate is below 1.5 %, with 95 % confidence.",
        "",
        f"The default plan: alpha {plan.alpha:g}; at least {plan.units_min} and at most {plan.units_max:,} compared units; "
        f"the first {plan.unit_frames_max} frames of a unit. " + "; ".join(_limit(plan, name) for name in MEASURES) + ".",
        "",
    ]
    for way, share in WAYS.items():
        lines += [f"## {way.capitalize()}", "", *_table([r for r in rows if r.method == "bets" and r.case.share == share]), ""]
    return "\n".join(lines + _comparison(rows)) + "\n"


def _limit(plan: Plan, measure: str) -> str:
    limit = plan.limit(next(m for m in MEASURES if m == measure))
    return f"`{measure}` margin {limit.margin:g}, alpha {limit.alpha:g}"


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| candidate | passages | runs | failed | successful | inconclusive | frames, median | frames, 95 % | failed by |"
    return [head, "|---|---|---|---|---|---|---|---|---|"] + [
        f"| {r.case.name} | {_alike(r.case.alike)} | {r.runs} | {_share(r.failed, r.runs)} | {_share(r.successful, r.runs)} "
        f"| {_share(r.inconclusive, r.runs)} | {r.median:,} | {r.most:,} | {r.by} |"
        for r in rows
    ]


def _comparison(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## Why this method",
        "",
        "An equal candidate, judged by the same rule in the same runs with two other ways to be certain. The share of runs "
        f"called failed is to be {Plan(paired=True).alpha:.0%} at most.",
        "",
        "| rollout | frames of a passage | " + " | ".join(_METHODS.values()) + " |",
        "|---|---|" + "---|" * len(_METHODS),
    ]
    for way, share in WAYS.items():
        for alike in (False, True):
            if not any(r.method != "bets" and r.case.share == share for r in rows):
                continue
            found = {r.method: r for r in rows if r.case.name == "equal" and (r.case.share, r.case.alike) == (share, alike)}
            cells = " | ".join(f"{found[m].failed} of {found[m].runs}" for m in _METHODS if m in found)
            lines.append(f"| {way} | {_alike(alike)} | {cells} |")
    return lines


def _alike(alike: bool) -> str:
    return "alike" if alike else "independent"


def _share(count: int, runs: int) -> str:
    return f"{count / runs:.1%}"
