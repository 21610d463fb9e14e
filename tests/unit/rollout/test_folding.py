"""Samples folded into a state: in any cut the same, bounded, plain, and with passages as the thing that counts."""

import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.rollout import Plan, Sample, State, begin, fold, judge
from schemas.plain import canonical_json, from_plain

SHARE = st.none() | st.floats(0, 1)
SAMPLES = st.lists(
    st.builds(
        Sample,
        arm=st.sampled_from(("incumbent", "candidate")),
        unit=st.sampled_from("abcdefgh"),
        valid=SHARE,
        readings=st.none() | st.integers(0, 9),
        confidence=SHARE,
        latency_ms=st.none() | st.floats(0, 1000),
        error=st.none() | st.sampled_from((0.0, 1.0)),
    ),
    max_size=60,
)
SMALL = {"unit_frames_max": 2, "unit_patience_samples": 7, "latency_samples": 5}


@settings(max_examples=60)
@given(SAMPLES, st.integers(0, 60), st.booleans())
def test_a_fold_in_two_parts_equals_the_fold_of_the_whole(samples: list[Sample], cut: int, paired: bool) -> None:
    """At every cut, with a way through JSON between the parts."""
    start = begin(Plan(paired=paired, **SMALL))
    first = from_plain(State, json.loads(canonical_json(fold(start, samples[:cut]))))
    assert fold(first, samples[cut:]) == fold(start, samples)


def test_a_fold_leaves_its_state_as_it_was() -> None:
    """Folding the same state twice gives the same twice."""
    start = fold(begin(Plan(paired=True)), passages(3, 0, 20))
    before = canonical_json(start)
    assert fold(start, passages(4, 20, 40)) == fold(start, passages(4, 20, 40))
    assert canonical_json(start) == before


def test_the_state_stays_small() -> None:
    """Five thousand passages later it is still less than 60 kB, in shadow and canary."""
    for paired in (True, False):
        state = fold(begin(Plan(paired=paired)), passages(1, 0, 5_000))
        assert len(canonical_json(state)) < 60_000


def test_an_arm_that_waits_for_the_other_for_long_keeps_the_state_small() -> None:
    """A thousand passages of the incumbent alone leave the last sixteen waiting."""
    samples = [Sample(arm="incumbent", unit=f"{n}", valid=n / 1000) for n in range(1000)]
    state = fold(begin(Plan(paired=False, unit_frames_max=1)), samples)
    assert len(state.comparisons["valid"].incumbent.waiting) == 16
    assert not state.comparisons["valid"].counts


def test_passages_in_another_order_come_to_the_same_in_a_shadow() -> None:
    """Once units are over and slow is known, the counts do not depend on which came first."""
    start = fold(begin(Plan(paired=True)), passages(1, 0, 200))
    units = [passages(2, number, number + 1) for number in range(200, 260)]
    one = fold(start, [sample for unit in units for sample in unit])
    other = fold(start, [sample for unit in reversed(units) for sample in unit])
    assert one.comparisons == other.comparisons


def test_frames_of_one_passage_count_once() -> None:
    """A passage of 500 frames on which the candidate fails, and the incumbent does not, is one unit."""
    samples = [
        sample
        for _ in range(500)
        for sample in (
            Sample(arm="incumbent", unit="long", error=0.0, valid=1.0),
            Sample(arm="candidate", unit="long", error=1.0),
        )
    ]
    judgement = judge(fold(begin(Plan(paired=True)), samples))
    assert judgement.verdict == "none"
    assert [(each.measure, each.compared, each.difference) for each in judgement.compared] == [("error", 1, 1.0)]


def test_a_short_passage_counts_when_it_was_not_seen_for_long() -> None:
    """A single frame makes a unit once enough other samples have come."""
    plan = Plan(paired=True, unit_patience_samples=10)
    state = fold(begin(plan), [Sample(arm=arm, unit="short", error=0.0) for arm in ("incumbent", "candidate")])
    assert not state.comparisons
    state = fold(state, [Sample(arm="incumbent", unit="other", error=0.0) for _ in range(10)])
    assert state.comparisons["error"].compared == 1


def test_slow_is_what_the_incumbent_was_slower_than_in_5_of_100_first_samples() -> None:
    """The threshold comes of the incumbent's first samples alone, and those are compared with nothing."""
    plan = Plan(paired=False, latency_samples=100, unit_frames_max=1)
    samples = [Sample(arm="incumbent", unit=f"i{n}", latency_ms=float(n)) for n in range(1, 101)]
    samples += [Sample(arm="candidate", unit=f"c{n}", latency_ms=5000.0) for n in range(40)]
    state = fold(begin(plan), [*samples[100:], *samples[:100]])
    assert state.slow_ms == 95.0
    assert not state.comparisons


def test_a_shadow_s_unit_that_one_arm_read_is_not_compared() -> None:
    """Where the candidate has no answer at all, nothing is said; a failure is to be told as an error."""
    state = fold(
        begin(Plan(paired=True, unit_patience_samples=1)), [Sample(arm="incumbent", unit=f"{n}", valid=1.0) for n in range(9)]
    )
    assert not state.comparisons


def passages(seed: int, first: int, last: int) -> list[Sample]:
    """Passages of four frames that both arms read."""
    made = []
    for number in range(first, last):
        chance = Random(f"{seed} {number}")
        made += [
            Sample(
                arm=arm,
                unit=f"passage-{number}",
                error=0.0,
                readings=chance.randint(0, 3),
                valid=float(chance.random() < 0.9),
                confidence=chance.random(),
                latency_ms=chance.lognormvariate(3, 0.2),
            )
            for _ in range(4)
            for arm in ("incumbent", "candidate")
        ]
    return made
