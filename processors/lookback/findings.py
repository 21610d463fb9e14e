"""The form of a finding, and what those who look for them are given."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from processors.lookback.likeness import compact
from processors.lookback.scan import Entry, Place
from processors.lookback.window import Story, Window
from processors.rules.contract import Rules
from streams.past import Past

_NAMED_MOST = 6
_PLACES_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found, with the positions that prove it.

    `reason` is a code; `explains` whether it is a reason for the absence; `rank` orders findings of one reason, 0 first.
    """

    reason: str
    says: str
    evidence: tuple[Place, ...]
    sequences: tuple[int, ...] = ()
    explains: bool = True
    rank: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question, and the window that it is about."""

    past: Past
    window: Window
    expected: str | None
    rules: Rules | None
    pipeline: str
    moment: Callable[[int], str]

    @property
    def wanted(self) -> str:
        return self.expected if self.expected is not None else "it"


def places(*entries: Entry | None) -> tuple[Place, ...]:
    return tuple(e.place for e in entries if e is not None)[:_PLACES_MOST]


def named(stories: Iterable[Story]) -> str:
    """frame #3, or 2 frames (#3, #4), and not too many of them."""
    return counted([s.sequence for s in stories])


def counted(numbers: Sequence[int]) -> str:
    """The same for sequence numbers."""
    if len(numbers) == 1:
        return f"frame #{numbers[0]}"
    some = ", ".join(f"#{n}" for n in numbers[:_NAMED_MOST])
    return f"{len(numbers)} frames ({some}{', ...' if len(numbers) > _NAMED_MOST else ''})"


def seconds(duration_us: int) -> str:
    return f"{duration_us / 1e6:.1f} s"


def signs(count: int) -> str:
    return "1 sign" if count == 1 else f"{count} signs"


def was_read_by(story: Story, expected: str | None) -> bool:
    """Whether a frame's result has the expected text, or any where none is expected."""
    readings = story.result.event.readings if story.result is not None else ()
    return any(expected is None or compact(r.label) == compact(expected) for r in readings)
