"""The door's look at an image: right for every real image, an answer for every other string of bytes."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.errors import FrameRefusedError
from streams.images import inspect

LIMITS = {"max_bytes": 1_000_000, "max_pixels": 1_000_000}
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp"}
REASONS = {"not_an_image", "truncated", "too_large", "too_many_pixels", "unsupported_format"}
MAGICS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x10\x00\x00\x00WEBP",
    b"RIFF\x10\x00\x00\x00WEBPVP8X",
    b"BM\x00\x00\x00\x00\x00\x00\x00\x00",
]


def encoded(form: str, width: int = 40, height: int = 30, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(out, form, **options)
    return out.getvalue()


def refusal(content: bytes, **limits: int) -> str:
    with pytest.raises(FrameRefusedError) as caught:
        inspect(content, **{**LIMITS, **limits})
    return caught.value.reason


@given(form=st.sampled_from(sorted(FORMATS)), width=st.integers(1, 60), height=st.integers(1, 60), lossless=st.booleans())
def test_size_and_kind_are_what_the_encoder_was_told(form: str, width: int, height: int, lossless: bool) -> None:
    """Kind and size of a real image are read right, in every form that an encoder writes."""
    options = {"lossless": lossless} if form == "WEBP" else {"progressive": lossless} if form == "JPEG" else {}
    facts = inspect(encoded(form, width, height, **options), **LIMITS)
    assert (facts.media_type, facts.width_px, facts.height_px) == (FORMATS[form], width, height)


@given(form=st.sampled_from(sorted(FORMATS)), keep=st.floats(0.02, 0.97))
def test_a_cut_image_is_truncated(form: str, keep: float) -> None:
    """An image that lost its tail is refused as truncated, wherever the cut is."""
    content = encoded(form)
    assert refusal(content[: max(16, int(len(content) * keep))]) == "truncated"


@given(magic=st.sampled_from(MAGICS), content=st.binary(max_size=300))
def test_any_bytes_get_an_answer(magic: bytes, content: bytes) -> None:
    """Whatever the bytes are, the answer is facts or a refusal with a known reason, and nothing else."""
    try:
        facts = inspect(magic + content, **LIMITS)
    except FrameRefusedError as error:
        assert error.reason in REASONS  # noqa: PT017  # either end is right
    else:
        assert 0 < facts.width_px * facts.height_px <= LIMITS["max_pixels"]


@given(form=st.sampled_from(sorted(FORMATS)), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_damaged_image_gets_an_answer(form: str, at: float, byte: int) -> None:
    """One wrong byte anywhere in a real image never leads to anything but facts or a refusal."""
    content = bytearray(encoded(form))
    content[min(int(at * len(content)), len(content) - 1)] = byte
    try:
        inspect(bytes(content), **LIMITS)
    except FrameRefusedError as error:
        assert error.reason in REASONS  # noqa: PT017  # either end is right


def test_a_bomb_is_refused_by_its_header() -> None:
    """A PNG that claims 100,000 x 100,000 pixels is refused for them, although its body is a few bytes."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    assert refusal(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0\0\0\0") == "too_many_pixels"


def test_limits_are_inclusive() -> None:
    """An image of exactly the limit is let in, and one byte or pixel more is not."""
    content = encoded("JPEG", 40, 30)
    inspect(content, max_bytes=len(content), max_pixels=1200)
    assert refusal(content, max_bytes=len(content) - 1) == "too_large"
    assert refusal(content, max_pixels=1199) == "too_many_pixels"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_an_image"),
        (b"hello, world, this is text", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"GIF89a" + bytes(20), "unsupported_format"),
        (b"II*\x00" + bytes(20), "unsupported_format"),
        (b"\xff\xd8\xff\xd9", "not_an_image"),
    ],
)
def test_what_is_no_image_says_why(content: bytes, reason: str) -> None:
    """Bytes that are no image, or one of a kind that is not read, are refused by that name."""
    assert refusal(content) == reason


def test_a_thumbnail_inside_does_not_hide_the_cut() -> None:
    """A JPEG whose EXIF holds a whole thumbnail is truncated all the same when its own end is missing."""
    thumbnail = b"Exif\x00\x00" + encoded("JPEG", 16, 16)
    content = encoded("JPEG", 200, 200)
    with_exif = content[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + content[2:]
    inspect(with_exif, **LIMITS)
    assert refusal(with_exif[:-300]) == "truncated"


def test_bytes_after_the_end_are_borne() -> None:
    """Cameras pad their images; what follows the end changes nothing."""
    assert inspect(encoded("JPEG") + bytes(100), **LIMITS).width_px == 40
