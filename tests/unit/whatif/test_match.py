"""whatif: which reading is which, by text and by place."""

import math
from dataclasses import replace

import pytest

from processors.whatif.match import Kind, changes, iou
from schemas.types import Reading

SQUARE = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0)


def moved(polygon: tuple[float, ...], x: float, y: float = 0) -> tuple[float, ...]:
    return tuple(v + (x if i % 2 == 0 else y) for i, v in enumerate(polygon))


def reading(label: str, polygon: tuple[float, ...] = SQUARE, *, kind: str = "text", valid: bool | None = None) -> Reading:
    return Reading(kind=kind, label=label, confidence=0.9, valid=valid, observation_index=0, polygon_px=polygon)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (SQUARE, SQUARE, 1.0),
        (SQUARE, moved(SQUARE, 5), 50 / 150),
        (SQUARE, moved(SQUARE, 5, 5), 25 / 175),
        (SQUARE, moved(SQUARE, 20), 0.0),
        (SQUARE, tuple(reversed(SQUARE)), 1.0),
        ((5.0, 0.0, 10.0, 5.0, 5.0, 10.0, 0.0, 5.0), SQUARE, 0.5),
        (SQUARE, (), 0.0),
        (SQUARE, (1.0, 1.0, 2.0, 2.0, 3.0, 3.0), 0.0),
        (SQUARE, (math.nan, 0.0, 10.0, 0.0, 10.0, 10.0), 0.0),
        (SQUARE, (1e300, 0.0, 10.0, 0.0, 10.0, 10.0), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(one: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    """Worked out by hand; what has no area overlaps nothing, and numbers that no picture has harm nobody."""
    assert iou(one, other) == pytest.approx(expected, abs=1e-6)
    assert iou(other, one) == pytest.approx(expected, abs=1e-6)


def test_each_way_in_which_a_reading_can_differ_has_its_name() -> None:
    """Same, moved, changed, lost, gained; every reading of both sides is told of exactly once."""
    far = moved(SQUARE, 100)
    actual = (reading("A"), reading("B", far), reading("C", moved(far, 100)), reading("D", moved(far, 200)))
    other = (reading("A"), reading("B", moved(far, 5)), reading("X", moved(far, 101)), reading("E", moved(far, 300)))
    found = changes(actual, other)
    assert [(c.kind, c.actual and c.actual.label, c.other and c.other.label) for c in found] == [
        (Kind.SAME, "A", "A"),
        (Kind.MOVED, "B", "B"),
        (Kind.CHANGED, "C", "X"),
        (Kind.LOST, "D", None),
        (Kind.GAINED, None, "E"),
    ]


def test_equal_texts_find_their_own_place() -> None:
    """Two readings of one text are paired by overlap, not by order."""
    far = moved(SQUARE, 100)
    found = changes((reading("A"), reading("A", far)), (reading("A", far), reading("A")))
    assert [c.kind for c in found] == [Kind.SAME, Kind.SAME]


def test_a_text_that_became_a_code_is_changed() -> None:
    """The kind counts: the same label as another kind of reading is another reading."""
    (one,) = changes((reading("A"),), (replace(reading("A"), kind="container_code", valid=True),))
    assert one.kind is Kind.CHANGED
