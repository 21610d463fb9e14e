"""Shares and their intervals, held against known values."""

import math

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


def test_an_interval_is_that_of_what_frames_are_worth() -> None:
    """296 frames that are worth 148 have the interval of 148."""
    told = rates.rate([True] * 30 + [False] * 266, [0.5] * 296, 148)
    assert (told.hits, told.count, told.passages_count) == (30, 296, 148)
    assert (told.low, told.high) == pytest.approx(rates.wilson(15, 148))


def test_weights_count_as_copies_would() -> None:
    """Two halves gain what a whole one does, at every place between them."""
    holds = [False, False, False, True, True]
    halves = rates.splits([h for h in holds for _ in range(2)], [0.5] * 10)
    assert halves[::2] == pytest.approx(rates.splits(holds, [1.0] * 5), abs=1e-7)
    assert max(halves) == pytest.approx(-3 * math.log(3 / 5) - 2 * math.log(2 / 5))
    assert rates.for_second([True, True], [0.5, 0.5], 0.2, 0.4) == pytest.approx(math.log(2))
