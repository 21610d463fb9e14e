"""One frame read by one arm, and each of its measures as a worsening between 0 (as good as can be) and 1.

All measures are optional: a frame on which the arm failed has `error` only, a pipeline without check digits has no `valid`.
"""

from dataclasses import dataclass
from typing import Literal

Arm = Literal["incumbent", "candidate"]
Measure = Literal["error", "valid", "readings", "confidence", "latency"]
MEASURES: tuple[Measure, ...] = ("error", "valid", "readings", "confidence", "latency")
"""In the order in which they are looked at: the first that fails is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one arm made of one frame.

    Args:
        arm: Which release read the frame.
        unit: What the frame is alike with, a passage or else a device. Frames of one unit count as one observation.
        valid: Share of readings that pass the rules' check, 1 or 0 for a single one.
        readings: How many readings the frame gave.
        confidence: 0 to 1.
        latency_ms: How long the arm took for the frame.
        error: 1 where the arm failed on the frame, else 0.
    """

    arm: Arm
    unit: str
    valid: float | None = None
    readings: float | None = None
    confidence: float | None = None
    latency_ms: float | None = None
    error: float | None = None


def worsening(sample: Sample, measure: Measure, *, readings_max: int, slow_ms: float | None) -> float | None:
    """0 to 1, more is worse; nothing where the sample does not have the measure, or where no threshold says what slow is."""
    match measure:
        case "error":
            return _within(sample.error)
        case "valid":
            return _less(sample.valid)
        case "readings":
            return _less(None if sample.readings is None else sample.readings / readings_max)
        case "confidence":
            return _less(sample.confidence)
        case "latency":
            return None if sample.latency_ms is None or slow_ms is None else float(sample.latency_ms > slow_ms)


def _within(value: float | None) -> float | None:
    return None if value is None else min(1.0, max(0.0, value))


def _less(value: float | None) -> float | None:
    held = _within(value)
    return None if held is None else 1.0 - held
