"""Shares and how much they differ: intervals by Wilson, and likelihood ratios between two shares.

Each observation has a weight, by which one that is like others counts less; `passages` gives it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.959963984540054
_NOTHING = 1e-9  # what is left of a sum that comes to 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`hits` of `count` frames; the share lies between `low` and `high` with 95 % confidence (Wilson's interval).

    `passages_count` is how many passages the frames are of; one that stands alone counts as a passage.
    """

    hits: int
    count: int
    passages_count: int
    share: float
    low: float
    high: float


def rate(holds: Sequence[bool], weights: Sequence[float], passages_count: int) -> Rate:
    """The share of what holds; the interval is that of as many independent observations as the weights add up to."""
    hits, count = sum(holds), len(holds)
    share = hits / count if count else 0.0
    low, high = wilson(share * sum(weights), sum(weights))
    return Rate(hits=hits, count=count, passages_count=passages_count, share=share, low=low, high=high)


def wilson(hits: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval for a share; all of it when nothing was counted."""
    if not count:
        return 0.0, 1.0
    p, zz = hits / count, _Z95 * _Z95
    middle = (p + zz / (2 * count)) / (1 + zz / count)
    half = _Z95 / (1 + zz / count) * math.sqrt(p * (1 - p) / count + zz / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def likelihood(hits: float, count: float) -> float:
    """Log likelihood of so many hits at their own share."""
    return sum(n * math.log(n / count) for n in (hits, count - hits) if n > _NOTHING)


def smoothed(holds: Sequence[bool], weights: Sequence[float]) -> float:
    """The share, kept off 0 and 1, as a model of what is to come."""
    return (_weighed(holds, weights) + 0.5) / (sum(weights) + 1)


def for_second(holds: Sequence[bool], weights: Sequence[float], first: float, second: float) -> float:
    """How much likelier the second share makes what was seen than the first, as a logarithm."""
    hits = _weighed(holds, weights)
    misses = sum(weights) - hits
    return hits * math.log(second / first) + misses * math.log((1 - second) / (1 - first))


def splits(holds: Sequence[bool], weights: Sequence[float]) -> list[float]:
    """For each place to cut, from 0 to the length, the gain of two shares over one."""
    total, count = _weighed(holds, weights), sum(weights)
    whole, hits, seen, out = likelihood(total, count) if holds else 0.0, 0.0, 0.0, [0.0]
    for held, weight in list(zip(holds, weights, strict=True))[:-1]:
        hits, seen = hits + weight * held, seen + weight
        out.append(likelihood(hits, seen) + likelihood(total - hits, count - seen) - whole)
    return [*out, 0.0] if holds else out


def _weighed(holds: Sequence[bool], weights: Sequence[float]) -> float:
    return sum(weight for held, weight in zip(holds, weights, strict=True) if held)
