"""Bounds that hold at all times: their arithmetic against the definition, and how often they are wrong by simulation."""

from collections import Counter
from math import exp, log, prod
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.rollout.betting import SCALE, cell, for_above, for_below, lower, upper

STAKES = {1.0: 0.4} | {2.0**-k: 0.1 for k in range(1, 7)}
TWELFTHS = st.integers(-12, 12).map(lambda n: n * SCALE // 12)


def counts(parts: list[int]) -> dict[str, int]:
    return dict(Counter(cell(each) for each in parts))


def wealth(values: list[float], mean: float) -> float:
    """By the definition, one observation after the other."""
    return sum(weight * prod(1 + stake * (x - mean) / (1 + mean) for x in values) for stake, weight in STAKES.items())


@given(st.lists(TWELFTHS, max_size=30), st.floats(-0.9, 0.9))
def test_counts_give_the_wealth_of_the_bets_played_one_by_one(parts: list[int], mean: float) -> None:
    """Counts of values are enough: the wealth is that of the definition, on either side."""
    values = [each / SCALE for each in parts]
    assert exp(for_above(counts(parts), mean)) == pytest.approx(wealth(values, mean), rel=1e-6, abs=1e-12)
    assert exp(for_below(counts(parts), mean)) == pytest.approx(wealth([-x for x in values], -mean), rel=1e-6, abs=1e-12)


@given(st.lists(st.integers(-SCALE, SCALE), max_size=30))
def test_a_value_between_cells_counts_for_neither_bound(parts: list[int]) -> None:
    """Rounding never makes a bound tighter than the values themselves would."""
    values = [each / SCALE for each in parts]
    assert exp(for_above(counts(parts), 0.1)) <= wealth(values, 0.1) * (1 + 1e-9)
    assert exp(for_below(counts(parts), 0.1)) <= wealth([-x for x in values], -0.1) * (1 + 1e-9)


@settings(max_examples=40)
@given(st.lists(TWELFTHS, min_size=1, max_size=40), st.sampled_from((0.05, 0.005)))
def test_the_bounds_are_where_the_wealth_reaches_one_in_alpha(parts: list[int], alpha: float) -> None:
    """Just below the lower bound the bet is won, just above it is not; likewise the upper one; the mean lies between."""
    held, mean = counts(parts), sum(parts) / len(parts) / SCALE
    low, high = lower(held, alpha), upper(held, alpha)
    assert low <= mean <= high
    if low > -0.999:
        assert for_above(held, low - 1e-5) >= log(1 / alpha) > for_above(held, low + 1e-5)
    if high < 0.999:
        assert for_below(held, high + 1e-5) >= log(1 / alpha) > for_below(held, high - 1e-5)


def test_nothing_seen_says_nothing() -> None:
    """Without observations the bounds are those of the scale."""
    assert (lower({}, 0.05), upper({}, 0.05)) == (-1.0, 1.0)


@pytest.mark.parametrize("p_worse", [0.5, 0.1, 0.02])
def test_a_bound_that_is_looked_at_after_each_observation_is_seldom_wrong(p_worse: float) -> None:
    """Of 300 walks without drift, steep ones and rare ones, the bound of 5 % is ever wrong in 5 % at most."""
    rise, fall = SCALE, -round(SCALE * p_worse / (1 - p_worse))
    wrong = 0
    for seed in range(300):
        chance, held, found = Random(f"{seed} {p_worse}"), Counter[str](), False
        for _ in range(200):
            held[cell(rise if chance.random() < p_worse else fall)] += 1
            found = found or for_above(held, 0.0) >= log(1 / 0.05)
        wrong += found
    assert wrong <= 15
