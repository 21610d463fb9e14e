"""Verdicts on planted candidates; a short version of tests/benchmarks/rollout_rates.py, with its made gate."""

import pytest

from processors.rollout import Limit, Plan, Sample, begin, fold, judge, measures, verdict
from schemas.errors import ConfigurationError
from tests.benchmarks.rollout_rates import run, t_test
from tests.benchmarks.rollout_world import PLANTED, WAYS, Case

RUNS = 100


def case(name: str, share: float | None, *, alike: bool = True) -> Case:
    return Case(name=name, candidate=PLANTED[name], share=share, alike=alike)


def false_alarms(**how: object) -> int:
    """Of an equal candidate in a shadow, watched for 120 units."""
    plan = Plan(paired=True, units_max=120)
    runs = [run(case("equal", None), seed, **({"plan": plan} | how)) for seed in range(RUNS)]  # type: ignore[arg-type]
    return sum(each.verdict == "failed" for each in runs)


def test_an_equal_candidate_is_seldom_failed_however_often_one_looks() -> None:
    """At most 5 of 100 runs, with frames of a passage alike."""
    assert false_alarms() <= 5


def test_a_t_test_that_is_looked_at_again_and_again_would_be_caught() -> None:
    """The same runs, judged by a t-test of the same alphas, go wrong more often than is allowed: the check above can fail."""
    assert false_alarms(look=t_test) > 5


def test_frames_taken_as_units_would_be_caught() -> None:
    """The same runs, with each frame an observation of its own, go wrong more often than is allowed."""
    plan = Plan(paired=True, units_max=600, unit_frames_max=1)
    assert false_alarms(plan=plan, each_frame_a_unit=True) > 5


@pytest.mark.parametrize("share", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("name", "by", "frames_max"),
    [
        ("errors 0 to 1", "error", 120),
        ("errors 0 to 0.3", "error", 500),
        ("latency 1.5 times", "latency", 500),
        ("confidence 0.90 to 0.80", "confidence", 1500),
        ("valid 0.95 to 0.80", "valid", 2500),
        ("reads 0.90 to 0.75", "readings", 2500),
    ],
)
def test_a_planted_fault_fails_by_its_measure(name: str, by: str, frames_max: int, share: float | None) -> None:
    """In each of five runs, within a number of the candidate's frames, in shadow and canary."""
    for seed in range(5):
        outcome = run(case(name, share), seed)
        assert (outcome.verdict, outcome.decided_by) == ("failed", by)
        assert outcome.frames_candidate <= frames_max


@pytest.mark.parametrize("share", WAYS.values(), ids=WAYS)
def test_a_better_candidate_succeeds(share: float | None) -> None:
    """In each of three runs."""
    assert {run(case("better", share), seed).verdict for seed in range(3)} == {"successful"}


def pairs(count: int, incumbent: dict[str, float], candidate: dict[str, float]) -> list[Sample]:
    """Units of one frame each."""
    return [
        sample
        for number in range(count)
        for sample in (
            Sample(arm="incumbent", unit=f"{number}", **incumbent),
            Sample(arm="candidate", unit=f"{number}", **candidate),
        )
    ]


SINGLE = Plan(paired=True, unit_frames_max=1)


def test_a_certain_worsening_within_the_margin_is_tolerated() -> None:
    """A candidate that is always less confident by 0.02, of a margin of 0.05, is certainly worse, and successful."""
    state = fold(begin(SINGLE), pairs(600, {"confidence": 0.92}, {"confidence": 0.90}))
    judgement = judge(state)
    assert judgement.verdict == "successful"
    assert judgement.compared[0].lower > 0


def test_nothing_is_successful_before_the_least_number_of_units() -> None:
    """However sure it looks."""
    start = begin(Plan(paired=True, unit_frames_max=1, units_min=50))
    assert verdict(fold(start, pairs(49, {"valid": 0.0}, {"valid": 1.0}))) == ("none", None)
    assert verdict(fold(start, pairs(50, {"valid": 0.0}, {"valid": 1.0}))) == ("successful", "valid")


def test_a_measure_that_few_units_have_holds_success_back() -> None:
    """All measures that both arms have must be as good, and one seen in ten units is not known to be."""
    rare = [Sample(arm=s.arm, unit="r" + s.unit, valid=1.0) for s in pairs(10, {"valid": 1.0}, {"valid": 1.0})]
    state = fold(begin(SINGLE), [*pairs(1000, {"error": 0.0}, {"error": 0.0}), *rare])
    assert verdict(state) == ("none", None)


def test_the_bound_of_units_ends_an_undecided_comparison() -> None:
    """With the measure that was furthest from success."""
    start = begin(Plan(paired=True, unit_frames_max=1, units_max=60))
    assert verdict(fold(start, pairs(59, {"valid": 1.0, "error": 0.0}, {"valid": 1.0, "error": 0.0}))) == ("none", None)
    found, by = verdict(fold(start, pairs(60, {"valid": 1.0, "error": 0.0}, {"valid": 1.0, "error": 0.0})))
    assert (found, by) == ("inconclusive", "error")


def test_before_a_sample_there_is_no_verdict() -> None:
    """And no measures but the numbers of frames."""
    judgement = judge(begin(SINGLE))
    assert judgement.verdict == "none"
    assert measures(judgement) == {"frames.candidate": 0.0, "frames.incumbent": 0.0}


def test_the_numbers_are_flat_for_an_event() -> None:
    """Each measure with its units, shares, difference, bounds and margin; frames of both arms; what slow is."""
    plan = Plan(paired=True, unit_frames_max=1, latency_samples=2)
    numbers = measures(judge(fold(begin(plan), pairs(40, {"valid": 1.0, "latency_ms": 20}, {"valid": 0.5, "latency_ms": 30}))))
    assert numbers["latency.slow_ms"] == 20
    assert numbers["frames.candidate"] == 40
    assert (numbers["valid.incumbent"], numbers["valid.candidate"], numbers["valid.difference"]) == (0.0, 0.5, 0.5)
    assert 0 < numbers["valid.lower"] < 0.5 < numbers["valid.upper"] <= 1
    assert all(isinstance(value, float) for value in numbers.values())


@pytest.mark.parametrize(
    "plan", [{"alpha": 0.01}, {"valid": Limit(margin=0, alpha=0.01)}, {"units_min": 0}, {"units_min": 10, "units_max": 5}]
)
def test_a_plan_that_can_not_be_held_is_refused(plan: dict[str, object]) -> None:
    """With what to do about it."""
    with pytest.raises(ConfigurationError) as refused:
        Plan(paired=True, **plan)  # type: ignore[arg-type]
    assert refused.value.do
