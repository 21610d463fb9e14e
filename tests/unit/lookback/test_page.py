"""The page of an explanation: self-contained, well formed, and harmless whatever the log holds."""

import base64
import tracemalloc

import cv2
import numpy as np

from processors.lookback import pictures
from processors.lookback.explain import explain
from processors.lookback.page import page, pictures_of
from processors.rules import container_codes
from tests.gate import Gate
from tests.pages import PageReader, read_page

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}\x1b\u202e&amp;"


def made(gate: Gate, target: str) -> PageReader:
    found = explain(gate.past, target, rules=container_codes)
    return read_page(page(found, pictures_of(gate.past, found), str))


def pixels_of(uri: str) -> np.ndarray:
    raw = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    decoded = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def test_a_page_is_well_formed_and_shows_hostile_text_as_text() -> None:
    """Labels, texts, names and reasons that are markup, template code or terminal codes stand there as text."""
    gate = Gate()
    gate.put_in_force()
    gate.threshold(0.6, by=EVIL, reason=EVIL)
    frame = gate.capture((EVIL, 0.9), (EVIL, 0.2), device=EVIL, session=EVIL, passage=EVIL, labels={EVIL: EVIL})
    gate.process()
    read = made(gate, frame.frame_id)
    assert read.troubles == []
    shown = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}\\x1b\\u202e&amp;"
    assert read.text.count(shown) >= 9
    assert "49" not in read.text.replace(shown, "")[:400]


def test_a_page_of_every_outcome_is_well_formed() -> None:
    """Skipped, rejected, failed, in a passage with an alert and a correction, and one of which the picture is gone."""
    gate = Gate()
    frames = [gate.capture(("MSCU1234566", 0.9))]
    gate.process()
    gate.put_in_force()
    frames += [gate.capture((t, 0.9), passage="p") for t in ("MSCU1234560", "MSCU1234561", "MSCU1234562", "MSCU1234566")]
    frames += [gate.capture(image=b"not an image"), gate.capture(("X", 0.9)), gate.capture(("Y", 0.4))]
    gate.reader.broken.add(gate.blobs.get(frames[-2].blob))
    gate.process()
    del gate.blobs.contents[frames[-1].blob.sha256]
    pages = [made(gate, f.frame_id) for f in frames]
    assert [p.troubles for p in pages] == [[]] * len(frames)
    assert "becomes" in pages[4].text
    assert "unreadable_code" in pages[3].text
    assert "No picture" in pages[-1].text
    assert "is not there" in pages[-1].text


def test_pictures_are_of_the_frame_and_its_places() -> None:
    """The frame comes with outlines drawn into it, and each observation and candidate with its crop."""
    gate = Gate()
    gate.put_in_force()
    image = np.full((48, 160, 3), 255, np.uint8)
    image[2:10, 4:103] = (200, 0, 0)
    encoded = bytes(cv2.imencode(".png", image)[1].tobytes())
    gate.reader.shows[encoded] = (("MSCU1234566", 0.9), ("22G1", 0.3))
    frame = gate.capture(image=encoded)
    gate.process()
    images = made(gate, frame.frame_id).images
    assert len(images) == 3
    whole, crop, _ = (pixels_of(i["src"]) for i in images)
    assert whole.shape == image.shape
    assert np.abs(whole.astype(int) - image).max() > 100, "nothing is drawn"
    assert np.abs(crop.reshape(-1, 3).astype(int).mean(axis=0) - (200, 0, 0)).max() < 12, "the crop is of another place"


def test_polygons_of_any_kind_are_survived() -> None:
    """A polygon may have too few corners, lie outside, be huge, turned or not a number."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    nan, far = float("nan"), 1e30
    for polygon in [
        (),
        (1.0,),
        (0.0, 0.0, 1.0, 1.0),
        (nan,) * 8,
        (far,) * 8,
        (-5.0, -5, 90, -5, 90, 90, -5, 90),
        (3.0, 3, 3, 3, 3, 3),
    ]:
        pictures.drawn(pixels, [pictures.Mark(tag="1", polygon_px=polygon, dashed=True)])
        pictures.cropped(pixels, polygon)
    crop = pictures.cropped(pixels, (10.0, 30, 10, 10, 30, 10, 30, 30))
    assert crop is not None
    assert crop.shape[0] == 64


def test_the_largest_picture_and_polygon_cost_no_more_than_the_picture() -> None:
    """A polygon is a few numbers and may claim any size; OpenCV refuses to straighten more than 32,767 px a side."""
    far = (-1e5, -1e5, 1e5, -1e5, 1e5, 1e5, -1e5, 1e5)
    wide = np.zeros((20, 40_000, 3), np.uint8)
    wide[:, 39_000:] = 255
    for polygon in (far, (0.0, 0, 40_000, 0, 40_000, 20, 0, 20)):
        assert pictures.cropped(wide, polygon) is not None
    crop = pictures.cropped(wide, (39_100.0, 2, 39_200, 2, 39_200, 12, 39_100, 12))
    assert crop is not None
    assert crop.min() == 255
    tracemalloc.start()
    try:
        pictures.cropped(np.zeros((3000, 4000, 3), np.uint8), far)
        assert tracemalloc.get_traced_memory()[1] < 3 * 3000 * 4000 * 3
    finally:
        tracemalloc.stop()
