"""What frames prove that are alike, and where their share changed: frames of one passage are no independent observations.

A passage whose frames are all alike counts once, and one whose frames have nothing in common counts each of them; how alike
they are is estimated from the frames themselves. A frame of no passage stands alone and counts, less where such frames are
plainly like the one before them.

Source: Kish (1965), Survey Sampling, for the design effect 1 + (m - 1) rho; Donner and Klar (2000), Design and Analysis of
Cluster Randomization Trials, for rho by analysis of variance.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from processors.lookback.rates import Rate, rate, splits

# exp(7) is about 1000: what was seen is that much likelier with a change than without one.
_SIGNIFICANT = 7.0
# 100 times.
SUGGESTIVE = 4.6
# Estimates from few passages are drawn to the careful side, as if so many more had been seen with frames all alike.
_CAREFUL_PASSAGES = 3
_NEXT_GAP_MOST = 2
_NEXT_SIGNIFICANT = 2.0


class Seen(Protocol):
    """What is asked of a row."""

    @property
    def device(self) -> str: ...
    @property
    def session(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def passage(self) -> str | None: ...
    @property
    def holds(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """How alike frames of one passage are, and a lone frame and the next, from 0 (not at all) to 1."""

    within: float
    next: float


ALL_ALIKE = Alike(within=1.0, next=0.0)
UNLIKE = Alike(within=0.0, next=0.0)


def first_change(rows: Sequence[Seen], alike: Alike | None = None, *, least: float = _SIGNIFICANT) -> int | None:
    """Where the share first changed for good measure; None when it did not.

    Args:
        alike: How alike frames are; estimated when not given.
        least: How much likelier, as a logarithm, a change must make what was seen.
    """
    at: int | None = None
    stop = len(rows)
    while stop > 1:
        found = gains(rows[:stop], alike)
        best = max(range(len(found)), key=found.__getitem__)
        if found[best] < least:
            return at
        at = stop = best
    return at


def gains(rows: Sequence[Seen], alike: Alike | None = None) -> list[float]:
    """For each place to cut, from 0 to the length, how much likelier two shares make what was seen, as a logarithm."""
    return splits(_holds(rows), weights(rows, alike or likeness(rows)))


def weights(rows: Sequence[Seen], alike: Alike) -> list[float]:
    """How much each frame counts; together, how many independent observations they are worth."""
    frames = Counter(map(_passage, rows))
    lone = (1 - alike.next) / (1 + alike.next)
    return [lone if r.passage is None else 1 / (1 + (frames[_passage(r)] - 1) * alike.within) for r in rows]


def share(rows: Sequence[Seen], alike: Alike | None = None) -> Rate:
    """The share of the rows that hold."""
    return rate(_holds(rows), weights(rows, alike or likeness(rows, cut=0)), passages_count(rows))


def passages_count(rows: Sequence[Seen]) -> int:
    """How many passages rows are of; one that stands alone counts as a passage."""
    return len(set(map(_passage, rows)))


def likeness(rows: Sequence[Seen], cut: int | None = None) -> Alike:
    """How alike frames are beside their share, which may change once: at the cut, or where it most likely did."""
    if cut is None:
        rough = splits(_holds(rows), weights(rows, ALL_ALIKE))
        cut = max(range(len(rough)), key=rough.__getitem__)
    off: list[float] = []
    for side in (rows[:cut], rows[cut:]):
        mean = sum(_holds(side)) / max(1, len(side))
        off += [r.holds - mean for r in side]
    return Alike(within=_within(rows, off, cut), next=_next(rows, off))


def _within(rows: Sequence[Seen], off: Sequence[float], cut: int) -> float:
    passages: dict[Hashable, list[int]] = {}
    for n, row in enumerate(rows):
        if row.passage is not None:
            passages.setdefault((_passage(row), n < cut), []).append(n)
    count, sides = len(passages), 2 if 0 < cut < len(rows) else 1
    members = [n for ns in passages.values() for n in ns]
    inside = spare = 0.0
    for ns in passages.values():
        hits = sum(rows[n].holds for n in ns)
        inside, spare = inside + hits * (len(ns) - hits) / len(ns), spare + len(ns) - 1
    if not spare or count <= sides:
        return 1.0
    whole = sum(off[n] ** 2 for n in members) / len(members) * count / (count - sides)
    within = max(0.0, 1 - inside / spare / whole) if whole else 1.0
    return (count * within + _CAREFUL_PASSAGES) / (count + _CAREFUL_PASSAGES)


def _next(rows: Sequence[Seen], off: Sequence[float]) -> float:
    by_stream: dict[tuple[str, str], list[int]] = {}
    for n, row in enumerate(rows):
        if row.passage is None:
            by_stream.setdefault((row.device, row.session), []).append(n)
    near = [
        (a, b)
        for stream in by_stream.values()
        for a, b in pairwise(stream)
        if 0 < rows[b].sequence - rows[a].sequence <= _NEXT_GAP_MOST
    ]
    whole = sum(off[a] ** 2 + off[b] ** 2 for a, b in near) / 2
    found = sum(off[a] * off[b] for a, b in near) / whole if whole else 0.0
    return min(found, 0.95) if found * math.sqrt(len(near)) > _NEXT_SIGNIFICANT else 0.0


def _passage(row: Seen) -> Hashable:
    return (row.device, row.session, row.sequence if row.passage is None else row.passage, row.passage is None)


def _holds(rows: Sequence[Seen]) -> list[bool]:
    return [r.holds for r in rows]
