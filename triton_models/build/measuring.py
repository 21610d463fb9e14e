"""Times of several engines, taken in turn, and how far their answers are apart.

Owns the method: warm up, then one call of each engine after the other, round by round, so that a clock that drifts or
a machine that is disturbed meets all of them; median and 95th percentile of the rounds; answers compared with a
reference, as numbers and as what becomes of them (which pixels count as text).

Guarantees: reads no clock of its own; the same times give the same figures.

Next: `report` writes the figures down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .engines import Engine, Pixels

TEXT_THRESHOLD = 0.3  # steps/contract.py, Thresholds.detection_threshold
TOLERANCE_MEAN = 0.002
TOLERANCE_FLIPPED = 0.002
"""An answer agrees with the reference when its mean absolute difference, and the share of pixels that change sides at
the threshold, are both at most this. Half precision moves single pixels on the rim of a letter by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds of one engine's calls."""

    engine: str
    calls: int
    median_ms: float
    p95_ms: float
    least_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an engine's maps are from the reference engine's, over all inputs of a case."""

    engine: str
    reference: str
    mean_difference: float
    most_difference: float
    flipped_share: float
    text_share: float
    agrees: bool


def timings(
    engines: Sequence[Engine], inputs: Sequence[Pixels], *, warm_up: int, rounds: int, clock_s: Callable[[], float]
) -> tuple[Timing, ...]:
    """Call every engine once a round, each round with the next input and another engine first.

    Args:
        inputs: Arrays of one shape; several, so that no engine meets one array only.
    """
    for _ in range(warm_up):
        for engine in engines:
            engine(inputs[0])
    taken: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds):
        pixels = inputs[number % len(inputs)]
        first = number % len(engines)
        for engine in (*engines[first:], *engines[:first]):
            started_s = clock_s()
            engine(pixels)
            taken[engine.name].append((clock_s() - started_s) * 1000)
    return tuple(timing(name, milliseconds) for name, milliseconds in taken.items())


def timing(engine: str, milliseconds: Sequence[float]) -> Timing:
    """The figures of one engine's calls."""
    return Timing(
        engine=engine,
        calls=len(milliseconds),
        median_ms=round(float(np.median(milliseconds)), 3),
        p95_ms=round(float(np.percentile(milliseconds, 95)), 3),
        least_ms=round(min(milliseconds), 3),
    )


def agreement(engine: str, answers: Sequence[Pixels], *, reference: str, expected: Sequence[Pixels]) -> Agreement:
    """Compare maps pixel by pixel.

    Args:
        answers: Maps of the engine, each [N, 1, H, W].
        expected: Maps of the reference for the same inputs.
    """
    ours = np.concatenate([answer.ravel() for answer in answers])
    theirs = np.concatenate([answer.ravel() for answer in expected])
    difference = np.abs(ours.astype(np.float64) - theirs)
    flipped = float(np.mean((ours > TEXT_THRESHOLD) != (theirs > TEXT_THRESHOLD)))
    mean = float(difference.mean())
    return Agreement(
        engine=engine,
        reference=reference,
        mean_difference=mean,
        most_difference=float(difference.max()),
        flipped_share=flipped,
        text_share=float(np.mean(theirs > TEXT_THRESHOLD)),
        agrees=mean <= TOLERANCE_MEAN and flipped <= TOLERANCE_FLIPPED,
    )


def pictures(*, batch: int, height_px: int, width_px: int, count: int, seed: int) -> list[Pixels]:
    """Inputs with text on them, as the preprocessing gives them: [batch, 3, H, W], -1 to 1, seeded."""
    import cv2

    random = np.random.default_rng(seed)
    inputs = []
    for _ in range(count):
        frames = []
        for _ in range(batch):
            noise = random.integers(0, 60, (height_px // 8, width_px // 8, 3), dtype=np.uint8)
            frame = cv2.resize(noise, (width_px, height_px)) + np.uint8(random.integers(40, 120))
            for _ in range(random.integers(2, 7)):
                text = "".join(random.choice(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789"), 11))
                place = (int(random.integers(0, width_px // 2)), int(random.integers(40, height_px - 10)))
                cv2.putText(frame, text, place, cv2.FONT_HERSHEY_DUPLEX, float(random.uniform(0.8, 1.8)), (240, 240, 240), 2)
            frames.append(frame.transpose(2, 0, 1))
        inputs.append(np.ascontiguousarray(np.stack(frames), dtype=np.float32) / 127.5 - 1)
    return inputs
