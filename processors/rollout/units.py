"""Frames become units: the first frames of a passage or device, averaged, count as one observation.

Frames of one passage are alike, so that ten of them say little more than one; counting each would call differences certain
that are not. When a unit is over is decided by counts of frames and samples alone, never by what was measured, or the choice
would bend the comparison.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

from processors.rollout.betting import SCALE
from processors.rollout.samples import MEASURES, Arm, Sample, worsening

OPEN_MAX = 64
"""Units in progress at a time; the one that waited longest is over when there are more."""
OVER_MAX = 256
"""Units that are over and still known, so that further frames of them are passed over."""
_ARMS: tuple[Arm, ...] = ("incumbent", "candidate")
_WIDTH = len(MEASURES)
_NONE = (0,) * (2 * _WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit in progress: frames by arm, and for each arm and measure the sum and number of worsenings.

    `key` is a digest of the unit's name; `seen_at` counts samples of the whole comparison.
    """

    key: str
    seen_at: int
    frames: tuple[int, ...] = (0, 0)
    sums: tuple[int, ...] = _NONE
    numbers: tuple[int, ...] = _NONE


def key_of(name: str) -> str:
    """Short, for it is kept many times over."""
    return blake2b(name.encode(), digest_size=6).hexdigest()


def with_sample(unit: Unit, sample: Sample, *, seen_at: int, frames_max: int, readings_max: int, slow_ms: float | None) -> Unit:
    """The unit with one more frame, unless this arm has enough of them."""
    at = _ARMS.index(sample.arm)
    if unit.frames[at] >= frames_max:
        return replace(unit, seen_at=seen_at)
    sums, numbers, frames = list(unit.sums), list(unit.numbers), list(unit.frames)
    frames[at] += 1
    for place, measure in enumerate(MEASURES, start=at * _WIDTH):
        worse = worsening(sample, measure, readings_max=readings_max, slow_ms=slow_ms)
        if worse is not None:
            sums[place] += round(worse * SCALE)
            numbers[place] += 1
    return Unit(key=unit.key, seen_at=seen_at, frames=tuple(frames), sums=tuple(sums), numbers=tuple(numbers))


def is_full(unit: Unit, *, frames_max: int, paired: bool) -> bool:
    """Every arm that is to read it has its frames."""
    return (min if paired else max)(unit.frames) >= frames_max


def means(unit: Unit, arm: Arm) -> Iterator[int | None]:
    """The unit's mean worsening in that arm, for each of MEASURES; nothing where no frame had the measure."""
    start = _ARMS.index(arm) * _WIDTH
    for place in range(start, start + _WIDTH):
        yield round(unit.sums[place] / unit.numbers[place]) if unit.numbers[place] else None
