"""Dataclasses to plain values and back: strict, and the same bytes for equal values."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from schemas.errors import DecodeError
from schemas.plain import canonical_json, from_plain, to_plain
from schemas.types import BlobRef, Conclusion, FrameRef, Observation
from tests.given import BLOB, frame, seen_text


def test_there_and_back_is_the_same() -> None:
    """Through JSON too: nested records, optional parts, maps."""
    assert from_plain(FrameRef, json.loads(canonical_json(frame(3, passage="p")))) == frame(3, passage="p")


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"sha256": None}, {"sha256": 1}, {"size_bytes": "3"}, {"size_bytes": 3.0}, {"size_bytes": True}],
)
def test_another_shape_is_refused(change: dict[str, Any]) -> None:
    """An unknown field or a value of another type is an error, not a guess."""
    with pytest.raises(DecodeError):
        from_plain(BlobRef, to_plain(BLOB) | change)


def test_a_missing_field_is_refused_unless_it_has_a_default() -> None:
    """What has a default may be absent; nothing else may."""
    plain = to_plain(BLOB)
    del plain["key_id"]
    assert from_plain(BlobRef, plain) == BLOB
    del plain["sha256"]
    with pytest.raises(DecodeError):
        from_plain(BlobRef, plain)


def test_a_whole_number_may_stand_for_a_float() -> None:
    """JSON of other writers drops the decimals; the event holds a float again."""
    plain = {"passage_id": "p", "frames_count": 1, "kind": "", "confidence": 1, "votes_for": 1, "votes_total": 1}
    assert type(from_plain(Conclusion, plain).confidence) is float


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_float_is_finite(number: float) -> None:
    """JSON has no other: one that is not is refused on both ways, alone, in a list and in a map."""
    whole = seen_text("A")
    for spoilt in (
        {"confidence": number},
        {"polygon_px": [0.0, number]},
        {"measures": {"orientation_deg": number}},
    ):
        with pytest.raises(DecodeError, match="not a finite number"):
            from_plain(Observation, {**to_plain(whole), **spoilt})
        with pytest.raises(ValueError, match="not a finite number"):
            to_plain(replace(whole, **spoilt))
    for value in (replace(whole, confidence=number), {"confidence": number}):
        with pytest.raises(ValueError):
            canonical_json(value)


def test_equal_values_have_equal_bytes() -> None:
    """The order of a map's keys does not matter."""
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """A record with a rule of its own."""

    percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError("a share is of a hundred")


def test_a_record_keeps_its_own_rule() -> None:
    """What a class checks when it is made is checked when it is read, too."""
    assert from_plain(_Share, {"percent": 7.0}) == _Share(percent=7.0)
    with pytest.raises(DecodeError, match="a share is of a hundred"):
        from_plain(_Share, {"percent": 107.0})
