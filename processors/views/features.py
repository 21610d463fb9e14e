"""Features of a device: what its results of the last hours say of it. The online side of a feature store; the fold is pure.

Hours are the device's own (`captured_at`), so a feature is what a model of that hour would have been given. A device's last
24 hours that had results are kept. A frame of a wrong clock takes the place of one hour, and not of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.envelope import rfc3339
from schemas.events import ResultDerived

HOUR_US = 3_600_000_000
HOURS_KEPT = 24
_READ, _MILLION = "read", 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What one hour's results add up to: whole numbers, so that their order does not matter.

    `start_us` is a whole hour since the epoch; `confidence_millionths` is summed over readings, each from 0 to 1.
    """

    start_us: int
    results_count: int = 0
    read_count: int = 0
    readings_count: int = 0
    valid_count: int = 0
    invalid_count: int = 0
    confidence_millionths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFeatures:
    """Hours with results, by their beginning in RFC 3339."""

    device_id: str = ""
    hours: Mapping[str, Hour] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Of one window. Rates and the mean are None where there was nothing to take them of.

    `read_rate` is of results, `valid_rate` of readings whose own check digit could be verified, `mean_confidence` of readings.
    """

    results_count: int
    read_rate: float | None
    valid_rate: float | None
    mean_confidence: float | None


def fold_device_features(state: DeviceFeatures, event: Any) -> DeviceFeatures:
    if not isinstance(event, ResultDerived):
        return state
    start_us = event.frame.captured_at_us // HOUR_US * HOUR_US
    name = _name(start_us)
    hours = {**state.hours, name: _with(state.hours.get(name, Hour(start_us=start_us)), event)}
    kept = sorted(hours, key=lambda name: hours[name].start_us)[-HOURS_KEPT:]
    return DeviceFeatures(device_id=event.frame.device_id, hours={name: hours[name] for name in kept})


def features(state: DeviceFeatures, *, hours: int) -> Features:
    """Over the device's newest hour and those before it.

    Args:
        hours: How many hours by the clock, from 1 to 24, the newest one that had results among them.
    """
    newest_us = max((hour.start_us for hour in state.hours.values()), default=0)
    window = [hour for hour in state.hours.values() if hour.start_us > newest_us - hours * HOUR_US]
    results, readings = sum(h.results_count for h in window), sum(h.readings_count for h in window)
    valid, invalid = sum(h.valid_count for h in window), sum(h.invalid_count for h in window)
    return Features(
        results_count=results,
        read_rate=_rate(sum(h.read_count for h in window), results),
        valid_rate=_rate(valid, valid + invalid),
        mean_confidence=_rate(sum(h.confidence_millionths for h in window), readings * _MILLION),
    )


def _with(hour: Hour, event: ResultDerived) -> Hour:
    # What a result supersedes had failed: it had no readings, and its frame is counted.
    proofs = [reading.valid for reading in event.readings]
    return replace(
        hour,
        results_count=hour.results_count + (event.supersedes is None),
        read_count=hour.read_count + (event.outcome == _READ),
        readings_count=hour.readings_count + len(proofs),
        valid_count=hour.valid_count + proofs.count(True),
        invalid_count=hour.invalid_count + proofs.count(False),
        confidence_millionths=hour.confidence_millionths + sum(_millionths(reading.confidence) for reading in event.readings),
    )


def _name(start_us: int) -> str:
    try:
        return rfc3339(start_us)
    except OverflowError:  # a device may claim a year that no calendar has
        return str(start_us)


def _millionths(confidence: float) -> int:
    """Rules are anybody's: what is no number from 0 to 1 stops nothing."""
    return round(min(max(confidence, 0.0), 1.0) * _MILLION) if confidence == confidence else 0


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
