"""Boxes, crops and text: the steps around the networks, on made-up maps and tokens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triton_models.repository import MODEL_VERSIONS
from triton_models.steps import crop_and_resize, postprocess
from triton_models.steps.contract import StepError, Tensor, bytes_tensor

SETTINGS = {version.step: version.settings for version in MODEL_VERSIONS}


def text_map(*boxes: tuple[int, int, int, int, float]) -> Tensor:
    """A map of 320x480 that is 0 but for boxes (left, top, right, bottom, value)."""
    values = np.zeros((1, 1, 320, 480), dtype=np.float32)
    for left, top, right, bottom, value in boxes:
        values[0, 0, top:bottom, left:right] = value
    return values


def cropped(found: Tensor, parameters: dict[str, float], **settings: int) -> dict[str, Tensor]:
    step = crop_and_resize.load(Path(), {**SETTINGS["crop_and_resize"], **settings}, threads=1)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 640, 960, 3), dtype=np.uint8)
    given = bytes_tensor(json.dumps(parameters).encode())
    return step({"PIXELS": pixels, "TEXT_MAP": found, "PARAMETERS": given})


def candidates(outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(outputs["DETECTION_CANDIDATES"][0])
    return found


def test_no_text_gives_no_crops() -> None:
    """An empty map gives tensors with a first dimension of 0, in the shapes that the networks take."""
    outputs = cropped(text_map(), {})
    assert outputs["BOXES"].shape == (0, 4, 2)
    assert outputs["CLASSIFIER_PIXELS"].shape == (0, 3, 48, 192)
    assert outputs["RECOGNIZER_PIXELS"].shape == (0, 3, 48, 48)
    assert outputs["WIDTHS"].shape == outputs["BOX_SCORES"].shape == (0,)
    assert candidates(outputs) == []


def test_boxes_come_in_reading_order_with_their_own_scores() -> None:
    """Lines from top to bottom, in a line from left to right; each box keeps the score of its own pixels."""
    outputs = cropped(text_map((300, 52, 400, 80, 0.9), (40, 50, 200, 80, 0.8), (100, 200, 200, 230, 0.7)), {})
    assert outputs["BOX_SCORES"].round(1).tolist() == pytest.approx([0.8, 0.9, 0.7])
    lefts_px = outputs["BOXES"][:, 0, 0]
    assert lefts_px[0] < lefts_px[1]
    assert outputs["BOXES"][2, 0, 1] > outputs["BOXES"][1, 0, 1]


def test_crops_keep_their_aspect_up_to_the_limit() -> None:
    """A crop is 48 high and as wide as its box asks for; the batch is as wide as its widest; padding is 0."""
    outputs = cropped(text_map((40, 50, 240, 70, 0.9), (40, 150, 80, 180, 0.9)), {})
    sides_px = outputs["BOXES"][:, 2] - outputs["BOXES"][:, 0]
    assert outputs["WIDTHS"] == pytest.approx(48 * sides_px[:, 0] / sides_px[:, 1], rel=0.05)
    assert outputs["RECOGNIZER_PIXELS"].shape == (2, 3, 48, outputs["WIDTHS"].max())
    assert not outputs["RECOGNIZER_PIXELS"][1, :, :, outputs["WIDTHS"][1] :].any()
    squeezed = cropped(text_map((40, 50, 240, 70, 0.9)), {}, width_px_max=100)
    assert squeezed["WIDTHS"].tolist() == [100]


def test_a_box_below_the_threshold_is_a_candidate() -> None:
    """The request's box_threshold decides what is read; what is not read says why."""
    found = text_map((40, 50, 240, 80, 0.9), (40, 150, 240, 180, 0.55))
    assert len(cropped(found, {})["BOXES"]) == 2
    outputs = cropped(found, {"box_threshold": 0.6})
    assert len(outputs["BOXES"]) == 1
    [candidate] = candidates(outputs)
    assert (candidate["stage"], candidate["reason"]) == ("detection", "detection_score below box_threshold 0.6")
    assert candidate["detection_score"] == pytest.approx(0.55, abs=0.03)
    assert len(candidate["polygon_px"]) == 8


def test_pixels_below_the_detection_threshold_are_no_text() -> None:
    """The request's detection_threshold decides which pixels count."""
    found = text_map((40, 50, 240, 80, 0.9), (40, 150, 240, 180, 0.55))
    outputs = cropped(found, {"detection_threshold": 0.7})
    assert len(outputs["BOXES"]) == 1
    assert candidates(outputs) == []


def test_crops_and_candidates_are_bounded() -> None:
    """A frame full of boxes reads the best ones, and reports a bounded number of the others, the best first."""
    rows = [(20, 10 + 30 * row, 200, 25 + 30 * row, 0.95 - 0.03 * row) for row in range(10)]
    outputs = cropped(text_map(*rows), {}, crops_max=3, candidates_max=4)
    assert outputs["BOX_SCORES"].tolist() == sorted(outputs["BOX_SCORES"].tolist(), reverse=True)
    assert len(outputs["BOXES"]) == 3
    left_out = candidates(outputs)
    assert [one["reason"] for one in left_out] == ["more than 3 boxes in the frame"] * 4
    scores = [one["detection_score"] for one in left_out]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] < outputs["BOX_SCORES"].min()


def decoded(folder: Path, parameters: dict[str, float], *, class_count: int = 5) -> dict[str, Any]:
    """Two crops, "AB" with 0.9 and "C" with 0.4, read with the vocabulary A, B, C (and blank 0 and space 4)."""
    (folder / "vocabulary_x.txt").write_text("A\nB\nC")
    step = postprocess.load(folder, SETTINGS["postprocess"], threads=1)
    tensors = {
        "IMAGE_SIZE": np.array([640, 480], dtype=np.int32),
        "BOXES": np.arange(16, dtype=np.float32).reshape(2, 4, 2),
        "BOX_SCORES": np.array([0.8, 0.7], dtype=np.float32),
        "WIDTHS": np.array([100, 50], dtype=np.int32),
        "ORIENTATION": np.array([[1, 0], [0.05, 0.95]], dtype=np.float32),
        "TOKENS": np.array([[1, 1, 0, 2], [3, 0, 0, 0]], dtype=np.int32),
        "TOKEN_SCORES": np.array([[0.9, 0.8, 0.9, 0.9], [0.4, 0.9, 0.9, 0.9]], dtype=np.float32),
        "CLASS_COUNT": np.array([class_count], dtype=np.int32),
        "DETECTION_CANDIDATES": bytes_tensor(b'[{"label":"","stage":"detection"}]'),
        "PARAMETERS": bytes_tensor(json.dumps(parameters).encode()),
    }
    answer: dict[str, Any] = json.loads(step(tensors)["RESULT"][0])
    return answer


def test_a_reading_below_the_threshold_is_a_candidate(tmp_path: Path) -> None:
    """The request's text_confidence moves a reading between observations and candidates; nothing is lost."""
    answer = decoded(tmp_path, {})
    assert answer["image"] == {"width_px": 640, "height_px": 480}
    [observation] = answer["observations"]
    assert (observation["label"], observation["confidence"], observation["index"]) == ("AB", pytest.approx(0.9), 0)
    assert observation["measures"]["orientation_deg"] == 0.0
    assert [(c["index"], c["label"], c["stage"]) for c in answer["candidates"]] == [
        (0, "C", "recognizer"),
        (1, "", "detection"),
    ]
    assert answer["candidates"][0]["reason"] == "text_confidence below 0.5"
    assert answer["candidates"][0]["measures"]["orientation_deg"] == 180.0
    all_read = decoded(tmp_path, {"text_confidence": 0.3})
    assert [o["label"] for o in all_read["observations"]] == ["AB", "C"]


def test_tokens_of_an_unknown_vocabulary_are_refused(tmp_path: Path) -> None:
    """Tokens are never decoded with the vocabulary of another network."""
    with pytest.raises(StepError, match=r"no vocabulary of 6 classes; known are \[5\]"):
        decoded(tmp_path, {}, class_count=6)
