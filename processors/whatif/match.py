"""Which reading of one answer is which of the other: the same, moved, changed, lost or gained. Pure."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from schemas.types import Candidate, Reading

SAME_PLACE_IOU = 0.3
"""From here on two boxes with different texts are one thing that is read otherwise."""
MOVED_BELOW_IOU = 0.8
"""Below this the same text stands elsewhere."""


class Kind(enum.StrEnum):
    """What became of a reading."""

    SAME = "same"
    MOVED = "moved"
    CHANGED = "changed"
    LOST = "lost"
    GAINED = "gained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A reading as it was recorded and as it would have been; one of them is None when it was lost or gained."""

    kind: Kind
    actual: Reading | None
    other: Reading | None
    iou: float | None = None


def changes(actual: tuple[Reading, ...], other: tuple[Reading, ...]) -> tuple[Change, ...]:
    """Pair the readings of one frame: equal texts first, those that overlap most; then different texts in one place."""
    left, right = list(range(len(actual))), list(range(len(other)))
    ious = {(a, b): iou(actual[a].polygon_px, other[b].polygon_px) for a in left for b in right}
    found: list[Change] = []
    for only_equal in (True, False):
        pairs = [
            (a, b)
            for a in left
            for b in right
            if _says_the_same(actual[a], other[b]) is only_equal and (only_equal or ious[a, b] >= SAME_PLACE_IOU)
        ]
        for a, b in _best_first(pairs, ious):
            if a in left and b in right:
                left.remove(a)
                right.remove(b)
                kind = Kind.CHANGED if not only_equal else Kind.MOVED if ious[a, b] < MOVED_BELOW_IOU else Kind.SAME
                found.append(Change(kind=kind, actual=actual[a], other=other[b], iou=ious[a, b]))
    found += [Change(kind=Kind.LOST, actual=actual[a], other=None) for a in left]
    found += [Change(kind=Kind.GAINED, actual=None, other=other[b]) for b in right]
    return tuple(found)


def left_out(reading: Reading, candidates: tuple[Candidate, ...]) -> Candidate | None:
    """What the other answer saw in a lost reading's place and left out, with its reason; the one that overlaps most."""
    best = max(candidates, key=lambda c: iou(reading.polygon_px, c.polygon_px), default=None)
    return best if best is not None and iou(reading.polygon_px, best.polygon_px) >= SAME_PLACE_IOU else None


def why_left_out(change: Change, candidates: tuple[Candidate, ...]) -> str:
    """Why a reading was lost, as the models said it: "" when they say nothing of that place."""
    if change.kind is not Kind.LOST or change.actual is None or (seen := left_out(change.actual, candidates)) is None:
        return ""
    label = f" {seen.label!r}" if seen.label else ""
    return f"{seen.stage} saw{label} with confidence {seen.confidence:.3f} and left it out: {seen.reason}"


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two polygons' convex hulls, 0 to 1; 0 when one of them has no area.

    Args:
        one, other: x and y in turn, in pixels.
    """
    if one == other and len(one) >= 6:
        return 1.0
    first, second = _hull(one), _hull(other)
    if first is None or second is None:
        return 0.0
    try:
        shared, _ = cv2.intersectConvexConvex(first, second)
    except cv2.error:  # numbers that no picture has
        return 0.0
    whole = cv2.contourArea(first) + cv2.contourArea(second) - shared
    return float(min(1.0, max(0.0, shared / whole))) if whole > 0 else 0.0


def _hull(polygon: tuple[float, ...]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None":
    with np.errstate(over="ignore"):  # becomes infinite, and is no corner
        corners = np.asarray(polygon, dtype=np.float32)
    if len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        return None
    hull = cv2.convexHull(corners.reshape(-1, 1, 2))
    return np.asarray(hull, dtype=np.float32) if len(hull) >= 3 else None


def _says_the_same(one: Reading, other: Reading) -> bool:
    return (one.kind, one.label) == (other.kind, other.label)


def _best_first(pairs: list[tuple[int, int]], ious: dict[tuple[int, int], float]) -> Iterator[tuple[int, int]]:
    yield from sorted(pairs, key=lambda pair: (-ious[pair], pair))
