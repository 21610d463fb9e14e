"""Shares and their intervals, held against known values."""

import random

import pytest

from processors.lookback import rates


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # From Newcombe (1998), Statistics in Medicine 17, table I, method 3: Wilson's score interval.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_wilsons(hits: int, count: int, low: float, high: float) -> None:
    """The four cases that the comparison of methods in the literature prints."""
    assert rates.wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_a_change_is_found_where_it_is() -> None:
    """The first of two changes, to the record when the shares are far apart; none where there is none."""
    assert rates.first_split([False] * 50 + [True] * 50 + [False] * 50) == 50
    assert rates.first_split([False] * 100) is None
    assert rates.first_split([]) is None
    assert rates.first_split([True]) is None
    rng = random.Random(5)
    flat = [rng.random() < 0.3 for _ in range(400)]
    assert rates.first_split(flat) is None
    found = rates.first_split([rng.random() < 0.05 for _ in range(400)] + [rng.random() < 0.6 for _ in range(400)])
    assert found is not None
    assert abs(found - 400) <= 8


def test_false_alarms_are_rare() -> None:
    """Of 300 series of one share, few are said to change."""
    rng = random.Random(7)
    alarms = sum(rates.first_split([rng.random() < 0.2 for _ in range(600)]) is not None for _ in range(300))
    assert alarms <= 12
