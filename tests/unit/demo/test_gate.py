"""The rendered gate: its truth is true, and it is the same every time."""

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from stdnum import iso6346

from topology.demo.gate import HEIGHT_PX, WIDTH_PX, GateFrame, passages
from topology.demo.paintwork import Pixels

SEED, PASSAGES, FRAMES = 7, 8, 2
ROOT = Path(__file__).resolve().parents[3]


def scenery() -> list[Pixels]:
    """Two backgrounds of different sizes, neither of the camera's shape."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((576, 768, 3), (500, 400, 3))]


def render(*, seed: int = SEED, count: int = PASSAGES) -> list[GateFrame]:
    return list(passages(seed=seed, count=count, frames_per_passage=FRAMES, backgrounds=scenery()))


@pytest.fixture(scope="module")
def frames() -> list[GateFrame]:
    return render()


def picture(frame: GateFrame) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(frame.image_jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_same_seed_gives_the_same_frames(frames: list[GateFrame]) -> None:
    """Truth and bytes are equal when rendered again, and differ under another seed."""
    assert render() == frames
    assert [frame.image_jpeg for frame in render(seed=SEED + 1, count=1)] != [f.image_jpeg for f in frames[:FRAMES]]


def test_a_fresh_process_gives_the_same_bytes(frames: list[GateFrame]) -> None:
    """Nothing in the bytes comes from the process, such as its hash seed."""
    program = (
        "import hashlib; from tests.unit.demo.test_gate import render;"
        "print(hashlib.sha256(b''.join(f.image_jpeg for f in render(count=2))).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = hashlib.sha256(b"".join(frame.image_jpeg for frame in frames[: 2 * FRAMES])).hexdigest()
    assert answer.stdout.strip() == expected


def test_a_passage_does_not_depend_on_how_many_are_asked_for(frames: list[GateFrame]) -> None:
    """The first three passages of eight are the three of three."""
    assert render(count=3) == frames[: 3 * FRAMES]


def test_codes_are_valid_except_the_planted_ones(frames: list[GateFrame]) -> None:
    """stdnum accepts every code but those of the passages with a wrong check digit, whose form is right."""
    for frame in frames:
        planted = frame.condition == "wrong_check_digit"
        assert iso6346.is_valid(frame.code) is frame.code_valid is not planted
        assert len(frame.code) == 11
        assert frame.code[3] == "U"
        assert frame.code[4:].isdigit()
    assert {frame.passage_id for frame in frames if not frame.code_valid} == {f"gate-{SEED}-004"}


def test_eight_passages_hold_three_hard_ones(frames: list[GateFrame]) -> None:
    """A short run shows hard passages too, among them one whose code is partly covered."""
    hard = {frame.passage_id: frame.condition for frame in frames if frame.hard}
    assert sorted(hard.values()) == ["boxed", "covered", "motion_blur"]


def test_counts_ids_and_times(frames: list[GateFrame]) -> None:
    """Frames are numbered without gaps, passages are named by seed and index, and time goes forward."""
    assert [frame.sequence for frame in frames] == list(range(PASSAGES * FRAMES))
    assert [frame.passage_id for frame in frames] == [f"gate-{SEED}-{n // FRAMES:03d}" for n in range(len(frames))]
    times = [frame.captured_offset_us for frame in frames]
    assert times[0] == 0
    assert all(before < after for before, after in pairwise(times))
    assert len({(frame.passage_id, frame.code, frame.size_type) for frame in frames}) == PASSAGES


def test_frames_are_jpegs_of_the_camera_s_size(frames: list[GateFrame]) -> None:
    """Every frame decodes to 640x480 in colour."""
    for frame in frames:
        assert frame.image_jpeg[:3] == b"\xff\xd8\xff"
        assert picture(frame).shape == (HEIGHT_PX, WIDTH_PX, 3)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_code_is_in_the_picture_and_moves(seed: int) -> None:
    """The polygon lies inside every frame, clockwise, and the container moves to the left."""
    first, last = render(seed=seed, count=1)
    for frame in (first, last):
        corners = np.array(frame.code_polygon_px).reshape(4, 2)
        assert corners.min() > 0
        assert corners[:, 0].max() < WIDTH_PX
        assert corners[:, 1].max() < HEIGHT_PX
        assert cv2.contourArea(corners.astype(np.float32), oriented=True) > 0
    assert last.code_polygon_px[0] < first.code_polygon_px[0] - 50


def test_the_polygon_lies_on_the_letters(frames: list[GateFrame]) -> None:
    """In clear frames the polygon holds more edges than the bare steel of its size below the size code."""
    for frame in (frame for frame in frames if frame.condition == "clear"):
        grey = cv2.GaussianBlur(cv2.cvtColor(picture(frame), cv2.COLOR_BGR2GRAY), (0, 0), 1.0)
        edges = np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        corners = np.array(frame.code_polygon_px).reshape(4, 2)
        below = corners + 3.2 * (corners[3] - corners[0])
        assert _mean_within(edges, corners) > 2 * _mean_within(edges, below)


def _mean_within(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
    corners: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> float:
    mask = np.zeros(values.shape, np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return float(values[mask == 1].mean())
