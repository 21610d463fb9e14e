"""Which records of a partition a step's state does not hold, because they could not be decoded when it came past them.

A record that is redriven from the dead letters is counted if its original was not, and whether that is so is a matter of the
state that reads it: one that was emptied and caught up may decode now what could not be decoded live. So each state keeps the
offsets that it came past without counting them, and counts either the original or its copy, never both. `kept` stores them
beside the states; what lies before `known_from` is not known, and the copy's own word is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from processors.redriven import Redriven

ASIDE_KEY = "@aside"
_RANGES_KEPT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """As it is stored: ranges of offsets, each with its first and the one after its last."""

    known_from: int = 0
    ranges: tuple[tuple[int, ...], ...] = ()


class Aside:
    """Offsets that were passed over uncounted; changes as records are taken."""

    def __init__(self, kept: Kept = Kept()) -> None:
        self._known_from = kept.known_from
        self._ranges = [(r[0], r[1]) for r in kept.ranges]

    def add(self, offset: int) -> None:
        """Come past a record without counting it; offsets only grow."""
        if self._ranges and offset < self._ranges[-1][1]:
            return
        if self._ranges and self._ranges[-1][1] == offset:
            self._ranges[-1] = (self._ranges[-1][0], offset + 1)
        else:
            self._ranges.append((offset, offset + 1))
        self._forget()

    def begin_at(self, offset: int) -> None:
        """What lies before is not known: it was never read."""
        self._known_from = max(self._known_from, offset)

    def is_counted(self, redriven: Redriven) -> bool:
        """Whether the original of a copy is in the state."""
        if redriven.of_offset < self._known_from:
            return redriven.was_counted
        return not any(low <= redriven.of_offset < high for low, high in self._ranges)

    def count(self, redriven: Redriven) -> None:
        """A copy was counted in its original's place."""
        of = redriven.of_offset
        cut = [((low, of), (of + 1, high)) if low <= of < high else ((low, high),) for low, high in self._ranges]
        self._ranges = [(low, high) for parts in cut for low, high in parts if low < high]
        self._forget()

    @property
    def kept(self) -> Kept:
        return Kept(known_from=self._known_from, ranges=tuple(self._ranges))

    def _forget(self) -> None:
        gone: Sequence[tuple[int, int]] = self._ranges[:-_RANGES_KEPT]
        if gone:
            self._known_from = max(self._known_from, gone[-1][1])
            del self._ranges[: len(gone)]
