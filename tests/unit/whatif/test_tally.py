"""whatif: intervals are Wilson's, counts are bounded, and the worst comes first."""

import pytest

from processors.whatif.tally import wilson


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_the_interval_is_wilsons(count: int, of: int, low: float, high: float) -> None:
    """As published, to four places, and at both ends."""
    found = wilson(count, of)
    assert found.rate == count / of
    assert found.low == pytest.approx(low, abs=6e-5)
    assert found.high == pytest.approx(high, abs=6e-5)


def test_nothing_to_count_has_no_rate() -> None:
    """Neither 0 nor 1."""
    assert (wilson(0, 0).rate, wilson(0, 0).low) == (None, None)
