"""Container codes: in pieces, with look-alikes, with a wrong check digit, and other text beside them."""

import pytest

from processors.rules import container_codes as rules
from schemas.types import Conclusion, Observation, Reading
from tests.given import frame, seen_text

CODE = "CSQU3054383"


def labels(*observations: Observation) -> list[tuple[str, str, bool | None]]:
    return [(r.kind, r.label, r.valid) for r in rules.read(observations)]


def test_a_code_in_one_box_is_read_with_its_box() -> None:
    """The reading is the code, valid, with the observation's own box and confidence."""
    (reading,) = rules.read((seen_text(CODE, confidence=0.8),))
    assert reading == Reading(
        kind=rules.CODE,
        label=CODE,
        confidence=0.8,
        valid=True,
        observation_index=0,
        polygon_px=seen_text(CODE).polygon_px,
    )


@pytest.mark.parametrize("text", ["CSQU 305438 3", "csqu3054383", "CSQU-305438-3", " CSQU 305438[3] "])
def test_spaces_signs_and_case_do_not_matter(text: str) -> None:
    """Whatever is printed between the parts, the code is the eleven letters and digits."""
    assert labels(seen_text(text)) == [("container_code", CODE, True)]


def test_pieces_on_one_line_are_joined_from_left_to_right() -> None:
    """Three boxes in any order give one reading: the surrounding box, the least confidence, the leftmost box's index."""
    pieces = (
        seen_text("305438", index=0, at=(60, 3), confidence=0.7),
        seen_text("3", index=1, at=(130, 0)),
        seen_text("CSQU", index=2, at=(0, 0)),
    )
    (reading,) = rules.read(pieces)
    assert (reading.label, reading.valid, reading.confidence, reading.observation_index) == (CODE, True, 0.7, 2)
    assert reading.polygon_px == (0, 0, 140, 0, 140, 23, 0, 23)


def test_pieces_on_two_lines_are_not_one_code() -> None:
    """Boxes one under the other stay texts of their own."""
    assert labels(seen_text("CSQU", index=0), seen_text("3054383", index=1, at=(0, 40))) == [
        ("text", "CSQU", None),
        ("text", "3054383", None),
    ]


def test_text_beside_a_code_on_its_line_stays_text() -> None:
    """Only the boxes under the code are used up."""
    found = labels(
        seen_text("45G1", index=0, at=(300, 0)), seen_text(CODE, index=1), seen_text("MAX  GROSS", index=2, at=(0, 60))
    )
    assert found == [("text", "45G1", None), ("container_code", CODE, True), ("text", "MAX GROSS", None)]


@pytest.mark.parametrize("text", ["C5QU3O54383", "CSQU3O54383", "CSQU305438B"])
def test_look_alikes_are_mended_only_when_the_check_digit_fits(text: str) -> None:
    """A letter for a digit or a digit for a letter is mended when that makes the code verify itself, and not otherwise."""
    mended = text.endswith("3")
    assert labels(seen_text(text)) == [("container_code", CODE, True) if mended else ("text", text, None)]


def test_a_wrong_check_digit_is_a_code_that_is_not_valid() -> None:
    """It is reported as read, marked invalid, never mended into another code."""
    assert labels(seen_text("CSQU3054384")) == [("container_code", "CSQU3054384", False)]


def test_a_valid_window_wins_over_an_invalid_one_further_left() -> None:
    """In a longer run of signs the part that verifies itself is the code."""
    assert labels(seen_text("MSKU0000001" + CODE)) == [("container_code", CODE, True)]


@pytest.mark.parametrize("text", ["", "   ", "\u4e2d"])
def test_what_holds_no_latin_sign_is_no_code(text: str) -> None:
    """Blank labels give nothing, other scripts give text."""
    assert labels(seen_text(text)) == ([("text", text, None)] if text.strip() else [])


def test_a_box_without_corners_hurts_nobody() -> None:
    """An observation with an empty polygon is read like any other."""
    bare = Observation(index=0, kind="text", label=CODE, confidence=0.5, detection_score=0.5, polygon_px=(), measures={})
    text = Observation(index=1, kind="text", label="A", confidence=0.5, detection_score=0.5, polygon_px=(), measures={})
    assert labels(bare, text) == [("container_code", CODE, True), ("text", "A", None)]


def test_the_ballot_prefers_what_verifies_itself() -> None:
    """A valid code of little confidence beats an invalid one of much; without codes nobody votes."""
    codes = rules.read((seen_text("CSQU3054384", index=0, confidence=0.99), seen_text(CODE, index=1, at=(0, 60), confidence=0.2)))
    assert rules.ballot(codes) == codes[1]
    assert rules.ballot(rules.read((seen_text("MAX GROSS"),))) is None


@pytest.mark.parametrize(
    ("frames", "label", "valid", "wanted"),
    [(2, None, None, 0), (3, None, None, 1), (3, "MSKU0000001", False, 1), (3, CODE, True, 0)],
)
def test_an_alert_is_wanted_after_three_frames_without_a_valid_code(
    frames: int, label: str | None, valid: bool | None, wanted: int
) -> None:
    """Two frames are too few, a valid code needs nobody, and the message names the best reading."""
    said = Conclusion(
        passage_id="p", frames_count=frames, kind="", label=label, valid=valid, confidence=0.5, votes_for=1, votes_total=2
    )
    found = rules.alerts(said)
    assert len(found) == wanted
    if found:
        assert (label or "no code was read") in found[0].message


def test_the_passage_is_the_triggers() -> None:
    """The frame's own passage id, or none."""
    assert rules.passage_of(frame(passage="p")) == "p"
    assert rules.passage_of(frame()) is None
