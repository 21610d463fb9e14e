"""Shares and whether they differ: intervals by Wilson, and likelihood ratios between two shares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.959963984540054
# exp(7) is about 1000: what was seen is that much likelier with a change than without one.
_SIGNIFICANT = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`hits` of `count`; the share lies between `low` and `high` with 95 % confidence (Wilson's interval)."""

    hits: int
    count: int
    share: float
    low: float
    high: float


def rate(holds: Sequence[bool]) -> Rate:
    """The share of what holds."""
    hits, count = sum(holds), len(holds)
    low, high = wilson(hits, count)
    return Rate(hits=hits, count=count, share=hits / count if count else 0.0, low=low, high=high)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share; all of it when nothing was counted."""
    if not count:
        return 0.0, 1.0
    p, zz = hits / count, _Z95 * _Z95
    middle = (p + zz / (2 * count)) / (1 + zz / count)
    half = _Z95 / (1 + zz / count) * math.sqrt(p * (1 - p) / count + zz / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def likelihood(hits: int, count: int) -> float:
    """Log likelihood of so many hits at their own share."""
    misses = count - hits
    return sum(n * math.log(n / count) for n in (hits, misses) if n)


def smoothed(holds: Sequence[bool]) -> float:
    """The share, kept off 0 and 1, as a model of what is to come."""
    return (sum(holds) + 0.5) / (len(holds) + 1)


def for_second(holds: Sequence[bool], first: float, second: float) -> float:
    """How much likelier the second share makes what was seen than the first, as a logarithm."""
    hits = sum(holds)
    misses = len(holds) - hits
    return hits * math.log(second / first) + misses * math.log((1 - second) / (1 - first))


def splits(holds: Sequence[bool]) -> list[float]:
    """For each place to cut, from 0 to the length, the gain of two shares over one."""
    total, count = sum(holds), len(holds)
    whole, hits, out = likelihood(total, count) if count else 0.0, 0, [0.0]
    for at in range(1, count):
        hits += holds[at - 1]
        out.append(likelihood(hits, at) + likelihood(total - hits, count - at) - whole)
    return [*out, 0.0] if count else out


def first_split(holds: Sequence[bool]) -> int | None:
    """Where the share first changed for good measure; None when it did not."""
    at: int | None = None
    stop = len(holds)
    while stop > 1:
        gains = splits(holds[:stop])
        best = max(range(len(gains)), key=gains.__getitem__)
        if gains[best] < _SIGNIFICANT:
            return at
        at = stop = best
    return at
