"""The comparison of one measure: units of both arms become differences, of which only counts are kept.

A difference is the candidate's worsening less the incumbent's, between -1 and 1. A unit that both arms read gives one by
itself. In a canary a unit that one arm read waits for units of the other, nearest in time, so that a change that comes over
both arms (rain, night) does not look like a difference between them.
All numbers are whole (parts of `betting.SCALE`), so sums are the same in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from processors.rollout.betting import SCALE, cell
from processors.rollout.samples import Arm

_WAITING_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One arm's units of a measure: how many, the sum of their worsenings, and those that wait for the other arm."""

    units: int = 0
    total: int = 0
    waiting: tuple[int, ...] = ()

    def mean(self) -> float:
        """The arm's mean worsening over its units."""
        return self.total / self.units / SCALE if self.units else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`counts` of differences by `betting.cell`; `compared` is how many there are, `total` their sum."""

    incumbent: Side = field(default=Side())
    candidate: Side = field(default=Side())
    compared: int = 0
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def mean(self) -> float:
        """The mean difference: how much worse the candidate is."""
        return self.total / self.compared / SCALE if self.compared else 0.0


def both(comparison: Comparison, incumbent: int, candidate: int) -> Comparison:
    """With a unit that both arms read."""
    return _compared(
        replace(comparison, incumbent=_with(comparison.incumbent, incumbent), candidate=_with(comparison.candidate, candidate)),
        candidate - incumbent,
    )


def one(comparison: Comparison, arm: Arm, value: int) -> Comparison:
    """With a unit that one arm read: compared with the mean of those that wait in the other arm, or set to wait.

    Half of those that wait are taken: one at a time where the arms have equal traffic, as many as come where they do not.
    """
    other_arm: Arm = "incumbent" if arm == "candidate" else "candidate"
    side, other = _with(_side(comparison, arm), value), _side(comparison, other_arm)
    if not other.waiting:
        return _put(comparison, arm, replace(side, waiting=(*side.waiting, value)[-_WAITING_MAX:]))
    taken = max(1, len(other.waiting) // 2)
    against = round(sum(other.waiting[:taken]) / taken)
    comparison = _put(_put(comparison, arm, side), other_arm, replace(other, waiting=other.waiting[taken:]))
    return _compared(comparison, value - against if arm == "candidate" else against - value)


def _side(comparison: Comparison, arm: Arm) -> Side:
    return comparison.candidate if arm == "candidate" else comparison.incumbent


def _put(comparison: Comparison, arm: Arm, side: Side) -> Comparison:
    return replace(comparison, candidate=side) if arm == "candidate" else replace(comparison, incumbent=side)


def _with(side: Side, value: int) -> Side:
    return replace(side, units=side.units + 1, total=side.total + value)


def _compared(comparison: Comparison, difference: int) -> Comparison:
    key = cell(difference)
    counts = {**comparison.counts, key: comparison.counts.get(key, 0) + 1}
    return replace(comparison, compared=comparison.compared + 1, total=comparison.total + difference, counts=counts)
