"""Nasty images, from the door to the models' own reader: a right size or a named refusal, in bounded time and memory."""

import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.assess.core import ImageMeasured, ImageUnusable
from processors.assess.measure import measure
from processors.lookback.pictures import decoded
from schemas.errors import ContractError
from streams.pixels import decode
from tests.fuzz import corpus
from tests.fuzz.corpus import BYTES_MAX, PIXELS_MAX, Nasty
from triton_models.steps.contract import StepError
from triton_models.steps.dali_preprocess import DaliPreprocess

LIMITS = {"max_bytes": BYTES_MAX, "max_pixels": PIXELS_MAX}
LONGEST_S, MOST_MIB = 2.0, 300
REASONS = {
    "not_an_image", "truncated", "too_large", "too_many_pixels", "too_many_scans", "unsupported_format", "not_decodable",
}  # fmt: skip
ONLY_THE_MODELS_REFUSE = {
    "PNG with a profile of 50 MB", "PNG with a text of 50 MB", "PNG with more rows than it says", "WebP without loss, turned",
}  # fmt: skip
CORPUS = corpus.everything()


@pytest.fixture(scope="module")
def models() -> DaliPreprocess:
    """The reader of the reference pipeline, as a Triton process runs it."""
    return DaliPreprocess(side_px_max=64, image_px_max=PIXELS_MAX, threads=1)


def as_the_models_see(models: DaliPreprocess, content: bytes) -> Any:
    """uint8 BGR, or None when they refuse it by name."""
    try:
        return models({"IMAGE": np.array([content], dtype=object)})["PIXELS"][0]
    except StepError:
        return None


@pytest.mark.parametrize("nasty", CORPUS, ids=lambda nasty: nasty.name)
def test_a_nasty_image_has_its_size_or_a_named_refusal(nasty: Nasty) -> None:
    """Whoever measures or shows it gets the right size or a refusal that says why, within seconds, and never an exception."""
    began = time.monotonic()
    found = measure(nasty.content, **LIMITS)
    assert time.monotonic() - began < LONGEST_S
    match found:
        case ImageMeasured():
            assert (found.width_px, found.height_px) == nasty.size_px
        case ImageUnusable():
            assert nasty.size_px is None
            assert found.reason in nasty.reasons
            assert found.detail
    if nasty.size_px is not None:
        assert decoded(nasty.content).shape == (*nasty.size_px[::-1], 3)


@pytest.mark.parametrize("nasty", [n for n in CORPUS if n.size_px], ids=lambda nasty: nasty.name)
def test_what_is_measured_and_shown_is_what_the_models_saw(nasty: Nasty, models: DaliPreprocess) -> None:
    """Size and turning are those of the models' own reader, so polygons lie where they were seen."""
    seen = as_the_models_see(models, nasty.content)
    if seen is None:
        assert nasty.name in ONLY_THE_MODELS_REFUSE
        return
    shown = decode(nasty.content, **LIMITS)
    assert shown.shape == seen.shape
    if "turned" in nasty.name:
        assert np.abs(shown.astype(int) - seen).mean() < 8


def test_the_whole_corpus_needs_little_memory() -> None:
    """A process that measures every image of the corpus, bombs included, and the largest that is let in stays within a bound."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_images"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert after - before < MOST_MIB


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=5))
def test_damaged_images_are_measured_or_refused(form: str, damages: list[tuple[float, bytes]]) -> None:
    """Whatever was overwritten: a size within the limits or a known reason; whoever shows it gets pixels or a contract error."""
    content = bytearray(_whole(form))
    for share, put in damages:
        at = int(share * len(content))
        content[at : at + len(put)] = put
    found = measure(bytes(content), **LIMITS)
    if isinstance(found, ImageUnusable):
        assert found.reason in REASONS
    else:
        assert 0 < found.width_px * found.height_px <= PIXELS_MAX
    try:
        decoded(bytes(content))
    except ContractError as error:
        assert str(error)  # noqa: PT017  # either end is right


@cache
def _whole(form: str) -> bytes:
    return corpus.encoded(corpus.picture(), form)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _measure_all(say: Callable[[object], None]) -> None:
    measure(_whole("PNG"), **LIMITS)
    say(_peak_mib())
    for nasty in CORPUS:
        measure(nasty.content, **LIMITS)
    measure(corpus.png_of(7000, 7000, zlib.compress(bytes(7001 * 7000))), max_bytes=BYTES_MAX, max_pixels=50_000_000)
    say(_peak_mib())


if __name__ == "__main__":
    _measure_all(print)
