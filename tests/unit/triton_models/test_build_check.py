"""The GPU check: how times are taken, how answers are compared, and the report that is made of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from triton_models.build.engines import Pixels
from triton_models.build.measuring import Timing, agreement, pictures, timing, timings
from triton_models.build.report import GpuCheck, markdown

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
RECORDED = REFERENCE / "gpu.json"


class Recording:
    """An engine that takes a known time on a clock of its own and remembers its calls."""

    def __init__(self, name: str, takes_s: float, clock: list[float], calls: list[tuple[str, float]]) -> None:
        self.name = name
        self._takes_s = takes_s
        self._clock = clock
        self._calls = calls

    def __call__(self, pixels: Pixels) -> Pixels:
        self._clock[0] += self._takes_s
        self._calls.append((self.name, float(pixels.flat[0])))
        return pixels

    def versions(self) -> dict[str, str]:
        return {}


@pytest.fixture
def maps() -> list[Pixels]:
    random = np.random.default_rng(3)
    return [random.random((1, 1, 64, 64), dtype=np.float32) for _ in range(2)]


def test_engines_are_called_in_turn_with_another_first_each_round() -> None:
    """A disturbance meets every engine, none is always the one after another, and each round has the next input."""
    clock, calls = [0.0], list[tuple[str, float]]()
    engines = [Recording("slow", 0.004, clock, calls), Recording("fast", 0.001, clock, calls)]
    inputs = [np.full((1, 3, 32, 32), value, dtype=np.float32) for value in (0, 1)]
    found = timings(engines, inputs, warm_up=1, rounds=4, clock_s=lambda: clock[0])
    assert calls[:2] == [("slow", 0.0), ("fast", 0.0)], "warm-up"
    assert calls[2:6] == [("slow", 0.0), ("fast", 0.0), ("fast", 1.0), ("slow", 1.0)]
    assert [(t.engine, t.calls, t.median_ms, t.p95_ms) for t in found] == [("slow", 4, 4.0, 4.0), ("fast", 4, 1.0, 1.0)]


def test_one_slow_call_shows_in_the_percentile_and_not_in_the_median() -> None:
    """The median is what a call takes, the 95th percentile what the worst ones take."""
    found = timing("engine", [1.0] * 18 + [9.0] * 2)
    assert found == Timing(engine="engine", calls=20, median_ms=1.0, p95_ms=9.0, least_ms=1.0)


def test_equal_maps_agree(maps: list[Pixels]) -> None:
    """No difference, no pixel on another side."""
    found = agreement("engine", maps, reference="cpu", expected=maps)
    assert (found.mean_difference, found.most_difference, found.flipped_share, found.agrees) == (0.0, 0.0, 0.0, True)


def test_maps_that_move_pixels_over_the_threshold_do_not_agree(maps: list[Pixels]) -> None:
    """A small mean difference does not excuse text that comes or goes."""
    moved = [found.copy() for found in maps]
    moved[0].flat[:40] = np.where(moved[0].flat[:40] > 0.3, 0.29, 0.31)
    found = agreement("engine", moved, reference="cpu", expected=maps)
    assert found.flipped_share == pytest.approx(40 / (2 * 64 * 64))
    assert not found.agrees


def test_maps_that_are_not_numbers_do_not_agree(maps: list[Pixels]) -> None:
    """NaN compares as neither side, so it is asked for by itself."""
    broken = [found.copy() for found in maps]
    broken[1].flat[0] = np.nan
    assert not agreement("engine", broken, reference="cpu", expected=maps).agrees


def test_the_pictures_are_those_of_the_preprocessing() -> None:
    """Shape, type and range of DETECTION_PIXELS; the same seed gives the same pictures, the next one differs."""
    first, second = pictures(batch=2, height_px=64, width_px=160, count=2, seed=5)
    assert first.shape == (2, 3, 64, 160)
    assert first.dtype == np.float32
    assert -1 <= first.min() < first.max() <= 1
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(pictures(batch=2, height_px=64, width_px=160, count=1, seed=5)[0], first)


def test_a_check_is_read_as_it_was_written() -> None:
    """The JSON file holds all of it."""
    check = GpuCheck.from_json(RECORDED.read_bytes())
    assert GpuCheck.from_json(check.to_json()) == check
    assert json.loads(check.to_json()) == json.loads(RECORDED.read_bytes())


def test_the_reference_page_says_what_was_recorded() -> None:
    """docs/reference/gpu.md shows the report of docs/reference/gpu.json, figure by figure."""
    report = markdown(GpuCheck.from_json(RECORDED.read_bytes())).split("\n", 2)[2]
    assert report in (REFERENCE / "gpu.md").read_text()


def test_an_engine_that_did_not_run_is_said_to_be_not_measured() -> None:
    """Its column says so in every row that it lacks, and its reason is given."""
    fields = json.loads(RECORDED.read_bytes())
    fields["engines"]["tensorrt_fp8"] = {}
    fields["not_measured"]["tensorrt_fp8"] = "the GPU is away"
    page = markdown(GpuCheck.from_json(json.dumps(fields).encode()))
    rows = [line for line in page.splitlines() if line.startswith("| ppocr") and "(" in line]
    assert rows
    assert all(row.endswith("| not measured |") for row in rows)
    assert "- tensorrt_fp8: the GPU is away" in page
