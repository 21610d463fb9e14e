"""Bounds on a mean that hold at all times at once, by betting against each value that the mean might have.

For observations in [-1, 1] and a supposed mean `m`, a player who stakes the share `c` of what may be lost has, after
observing `x`, his wealth times `1 + c (x - m) / (1 + m)`. If the mean is `m` or less, the wealth is a nonnegative
supermartingale, so that it ever reaches `1 / alpha` has the chance `alpha` at most (Ville 1939). Stakes of several sizes are
played side by side and averaged. The lower bound is the largest `m` that lost its bet; the upper one is that of `-x`.
It needs no shape of distribution, no least number of observations, and no plan of when to look.

Source: I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
Statistical Society B 86 (2024) 1-27, the hedged capital process with fixed stakes (section 4 and "grid Kelly", appendix B);
S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of
Statistics 49 (2021) 1055-1080.

Because the stakes are fixed, the wealth is a function of how often each value was observed, not of the order. So counts are
all that is kept, and the bound can be had for any `m` later.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

SCALE = 240_000
"""Parts of 1 in which values are counted: halves, thirds, quarters and twelfths are whole."""
_CELL = 1_000
_STAKES = 2.0 ** -np.arange(7)
_WEIGHTS = np.array(
    [0.4, *[0.1] * 6]
)  # the full stake finds a crash soonest: eight units in a row, where even weights need nine or ten
_STEPS = 24  # halvings of [-1, 1]: the bound is found to 1e-7

Floats = NDArray[np.float64]


def cell(parts: int) -> str:
    """The cell that a value is counted in: an even number is that very value, an odd one lies between its neighbours."""
    whole, rest = divmod(parts, _CELL)
    return str(2 * whole + (1 if rest else 0))


def lower(counts: Mapping[str, int], alpha: float) -> float:
    """The mean is above this, at all times, but for a chance of `alpha`. -1 where nothing is known."""
    return _border(*_values(counts, up=False), alpha)


def upper(counts: Mapping[str, int], alpha: float) -> float:
    """The mean is below this, at all times, but for a chance of `alpha`. 1 where nothing is known."""
    values, numbers = _values(counts, up=True)
    return -_border(-values, numbers, alpha)


def for_above(counts: Mapping[str, int], mean: float) -> float:
    """The logarithm of the wealth that was won on the mean being above `mean`; `log(1 / alpha)` of it is enough to say so."""
    return _log_wealth(*_values(counts, up=False), mean)


def for_below(counts: Mapping[str, int], mean: float) -> float:
    """The logarithm of the wealth that was won on the mean being below `mean`."""
    values, numbers = _values(counts, up=True)
    return _log_wealth(-values, numbers, -mean)


def _log_wealth(values: Floats, numbers: Floats, mean: float) -> float:
    with np.errstate(divide="ignore"):
        grown = np.log1p(np.outer(_STAKES / (1 + mean), values - mean)) @ numbers
    top = float(np.max(grown))
    return top + float(np.log(np.sum(_WEIGHTS * np.exp(grown - top))))


def _border(values: Floats, numbers: Floats, alpha: float) -> float:
    """Wealth falls as the supposed mean rises, so the border is found by halving."""
    low, high, enough = -1.0, 1.0, -float(np.log(alpha))
    if not len(values):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_wealth(values, numbers, middle) >= enough else (low, middle)
    return low


def as_values(counts: Mapping[str, int]) -> tuple[Floats, Floats]:
    """The values that were counted, to half a cell, and how often each was."""
    (low, numbers), (high, _) = _values(counts, up=False), _values(counts, up=True)
    return (low + high) / 2, numbers


def _values(counts: Mapping[str, int], *, up: bool) -> tuple[Floats, Floats]:
    """Each cell's edge that is the less favourable to the bound, and its count."""
    cells = np.array([int(key) for key in counts], dtype=np.int64)
    edges = (cells + 1) // 2 if up else cells // 2
    return edges * (_CELL / SCALE), np.array(list(counts.values()), dtype=np.float64)
