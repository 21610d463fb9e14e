"""The preprocessing as one file for Triton's DALI backend."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigurationError
from triton_models.build import dali_model
from triton_models.build.dali_model import restored_pipeline, serialised_preprocess
from triton_models.steps.dali_preprocess import DaliPreprocess


def photo(height_px: int, width_px: int, kind: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, cv2.GaussianBlur(pixels, (7, 7), 0))[1].tobytes())


@pytest.mark.parametrize(("height_px", "width_px", "kind"), [(480, 640, ".jpg"), (900, 1600, ".png"), (50, 40, ".jpg")])
def test_the_file_computes_the_bits_of_the_step(height_px: int, width_px: int, kind: str) -> None:
    """Serialised for the CPU and read back, the graph gives PIXELS and DETECTION_PIXELS of the step, bit by bit."""
    encoded = photo(height_px, width_px, kind)
    step = DaliPreprocess(side_px_max=736, image_px_max=50_000_000, threads=1)
    expected = step({"IMAGE": np.array([encoded], dtype=np.object_)})
    pipeline = restored_pipeline(serialised_preprocess(side_px_max=736, device="cpu"))
    pipeline.feed_input("IMAGE", [np.frombuffer(encoded, dtype=np.uint8)])
    pixels, detection_pixels = pipeline.run()
    np.testing.assert_array_equal(pixels.at(0)[np.newaxis], expected["PIXELS"])
    np.testing.assert_array_equal(detection_pixels.at(0)[np.newaxis], expected["DETECTION_PIXELS"])


def test_the_file_for_a_gpu_decodes_there() -> None:
    """The decoder is the mixed one, pixels are scaled and normalised on the GPU, and no device number is fixed."""
    on_gpu, on_cpu = serialised_preprocess(side_px_max=736), serialised_preprocess(side_px_max=736, device="cpu")
    assert b"mixed" in on_gpu
    assert b"mixed" not in on_cpu
    assert on_gpu.count(b"gpu") > on_cpu.count(b"gpu")


def test_the_longest_side_is_in_the_file() -> None:
    """Two settings give two files, so that the digest of the model version tells them apart."""
    assert serialised_preprocess(side_px_max=736) != serialised_preprocess(side_px_max=960)
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        serialised_preprocess(side_px_max=700)


def test_the_program_writes_model_dali(tmp_path: Path) -> None:
    """Under the name that the configuration of the GPU variant gives the server."""
    assert dali_model.main(["--out", str(tmp_path / "1")]) == 0
    assert (tmp_path / "1" / "model.dali").read_bytes() == serialised_preprocess(side_px_max=736)
    assert dali_model.main(["--out", str(tmp_path / "2"), "--side-px-max", "700"]) == 2
    assert not (tmp_path / "2").exists()
