"""Rules of a yard: whoever stands in the zone is read, and the first one raises an alert."""

from processors.rules.contract import AlertWanted
from schemas.types import Conclusion, FrameRef, Observation, Reading

NAME = "yard_zone"
VERSION = 1

ZONE_PX = ((250.0, 150.0), (560.0, 150.0), (700.0, 560.0), (150.0, 560.0))
"""Corners of the part of the yard that is watched, in pixels of the camera's picture."""
_MINUTE_US = 60_000_000


def read(observations: tuple[Observation, ...]) -> tuple[Reading, ...]:
    """One reading for each person whose feet are in the zone."""
    return tuple(
        Reading(
            kind="person_in_zone",
            label="person",
            confidence=o.confidence,
            valid=None,  # nothing proves that it is a person
            observation_index=o.index,
            polygon_px=o.polygon_px,
        )
        for o in observations
        if o.kind == "person" and _is_inside(_feet(o))
    )


def passage_of(frame: FrameRef) -> str | None:
    """What one camera sees in one minute belongs together, unless the device says what does."""
    return frame.passage_id or f"{frame.device_id}-{frame.captured_at_us // _MINUTE_US}"


def ballot(readings: tuple[Reading, ...]) -> Reading | None:
    """A frame votes for the person that it is surest of."""
    return max(readings, key=lambda r: (r.confidence, -r.observation_index), default=None)


def alerts(conclusion: Conclusion) -> tuple[AlertWanted, ...]:
    """Somebody is in the zone."""
    if conclusion.label is None:
        return ()
    seen = f"{conclusion.votes_for} of {conclusion.frames_count} frames"
    return (
        AlertWanted(kind="person_in_zone", severity="warning", message="somebody is in the zone", evidence={"seen_in": seen}),
    )


def _feet(o: Observation) -> tuple[float, float]:
    """The middle of the lower edge of what was seen."""
    xs, ys = o.polygon_px[0::2], o.polygon_px[1::2]
    return (min(xs) + max(xs)) / 2, max(ys)


def _is_inside(point: tuple[float, float]) -> bool:
    """Whether a point lies in the zone: a ray from it crosses the border an odd number of times."""
    x, y = point
    edges = zip(ZONE_PX, (*ZONE_PX[1:], ZONE_PX[0]), strict=True)
    crossed = [(y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 for (x1, y1), (x2, y2) in edges]
    return sum(crossed) % 2 == 1
