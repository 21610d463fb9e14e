"""What an encoded image says of itself: kind, size, and whether its end is there. Both gateways ask here at the door.

Only headers are read, by hand: nothing is decoded, decompressed or allocated for pixels, so an image that claims a
billion of them costs microseconds. Every answer is facts or a `FrameRefusedError`, whatever the bytes are. What a header
cannot tell, such as damage in the middle, the assess processor finds when it decodes.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import FrameRefusedError

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
TOO_LARGE = "too_large"
TOO_MANY_PIXELS = "too_many_pixels"
TOO_MANY_SCANS = "too_many_scans"
UNSUPPORTED_FORMAT = "unsupported_format"

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_KNOWN_BUT_NOT_READ = (
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%PDF-", "PDF"),
)
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_FILL = re.compile(rb"\xff+")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# A decoder goes over the whole picture for each scan: a few bytes more each can keep it busy for hours. Cameras write 1 to 20.
_JPEG_SCANS_MAX = 100
_JPEG_SEGMENTS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the header says. `media_type` is what the bytes are, whatever the sender called them."""

    media_type: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class _Header:
    """A parsed header; `ends` looks for the image's end and is asked once the size is known to be fine, and may refuse too."""

    facts: ImageFacts
    ends: Callable[[], bool]


def inspect(content: bytes, *, max_bytes: int, max_pixels: int) -> ImageFacts:
    """Look at an encoded image without decoding it.

    Args:
        content: JPEG, PNG, WebP or BMP.
        max_bytes: Most bytes let in.
        max_pixels: Most pixels let in, width times height.
    Raises:
        FrameRefusedError: with reason not_an_image, truncated, too_large, too_many_pixels, too_many_scans or
            unsupported_format.
    """
    if len(content) > max_bytes:
        raise FrameRefusedError(
            f"the image has {len(content)} bytes, and {max_bytes} are let in", reason=TOO_LARGE, do="send a smaller image"
        )
    header = _header(content)
    facts = header.facts
    if facts.width_px < 1 or facts.height_px < 1:
        raise _no_image(f"its header says {facts.width_px} x {facts.height_px} px")
    if facts.width_px * facts.height_px > max_pixels:
        raise FrameRefusedError(
            f"the image has {facts.width_px} x {facts.height_px} pixels, and {max_pixels} are let in",
            reason=TOO_MANY_PIXELS,
            do="send a smaller image",
        )
    if not header.ends():
        raise _cut_off(facts.media_type)
    return facts


def _header(content: bytes) -> _Header:
    if not content:
        raise _no_image("it is empty")
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(_PNG_MAGIC):
        return _png(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp(content)
    if content.startswith(b"BM") and content[6:10] == b"\x00\x00\x00\x00":
        return _bmp(content)
    for at, magic, name in _KNOWN_BUT_NOT_READ:
        if content.startswith(magic, at):
            raise FrameRefusedError(
                f"the image is {name}; JPEG, PNG, WebP and BMP are read", reason=UNSUPPORTED_FORMAT, do="send JPEG or PNG"
            )
    raise _no_image(f"it begins with {content[:8].hex()}, which no image format does")


def _jpeg(content: bytes) -> _Header:
    """ITU T.81, B.1.1: segments of a marker and a length, up to the first scan."""
    at, size = 2, None
    for _ in range(_JPEG_SEGMENTS_MAX):
        if fill := _JPEG_FILL.match(content, at):
            at = fill.end() - 1
        if len(content) < at + 2:
            raise _cut_off("image/jpeg")
        if content[at] != 0xFF or content[at + 1] in (0x00, _JPEG_END):
            raise _no_image(f"its JPEG header breaks off at byte {at}")
        marker = content[at + 1]
        if marker in _JPEG_BARE_MARKERS:
            at += 2
            continue
        (length,) = _unpack(">H", content, at + 2, "image/jpeg")
        if marker == _JPEG_SCAN:
            break
        if marker in _JPEG_SIZE_MARKERS:
            size = _unpack(">HH", content, at + 5, "image/jpeg")
        if length < 2:
            raise _no_image(f"its JPEG header has a segment of length {length} at byte {at}")
        at += 2 + length
    else:
        raise _no_image(f"its JPEG header has more than {_JPEG_SEGMENTS_MAX} segments")
    if size is None:
        raise _no_image("its JPEG header has no frame size")
    scan = at
    return _Header(ImageFacts(media_type="image/jpeg", width_px=size[1], height_px=size[0]), lambda: _jpeg_ends(content, scan))


def _jpeg_ends(content: bytes, at: int) -> bool:
    """Whether there is an end behind the scan at `at`; a damaged one may lie anywhere, since decoders bear that.

    Raises:
        FrameRefusedError: there are too many scans up to it.
    """
    scan, scans = at, 0
    for _ in range(_JPEG_SEGMENTS_MAX):
        found = _JPEG_MARKER.search(content, at)
        if found is None or content[found.start() + 1] == _JPEG_END:
            break
        marker, at = content[found.start() + 1], found.end()
        scans += marker == _JPEG_SCAN
        if scans > _JPEG_SCANS_MAX:
            raise FrameRefusedError(
                f"the image has more than {_JPEG_SCANS_MAX} scans, each over the whole picture",
                reason=TOO_MANY_SCANS,
                do="encode it again, as a camera does",
            )
        if marker not in _JPEG_BARE_MARKERS and len(content) >= at + 2:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    else:
        raise _no_image(f"its JPEG has more than {_JPEG_SEGMENTS_MAX} segments")
    return found is not None or content.find(b"\xff\xd9", scan) > 0


def _png(content: bytes) -> _Header:
    if content[12:16] not in (b"IHDR", b"IHDR"[: max(len(content) - 12, 0)]):
        raise _no_image("its PNG has no IHDR first")
    width, height = _unpack(">II", content, 16, "image/png")
    return _Header(ImageFacts(media_type="image/png", width_px=width, height_px=height), lambda: _png_ends(content))


def _png_ends(content: bytes) -> bool:
    at = len(_PNG_MAGIC)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + length
    return False


def _webp(content: bytes) -> _Header:
    """RFC 9649: the first chunk is one of three, and each has its size in a form of its own."""
    chunk = content[12:16]
    match chunk:
        case b"VP8X":
            low_w, high_w, low_h, high_h = _unpack("<HBHB", content, 24, "image/webp")
            width, height = 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
        case b"VP8L":
            signature, bits = _unpack("<BI", content, 20, "image/webp")
            if signature != 0x2F:
                raise _no_image("its WebP has no lossless signature")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = (side & 0x3FFF for side in _unpack("<HH", content, 26, "image/webp"))
        case _:
            if len(content) < 16:
                raise _cut_off("image/webp")
            raise _no_image(f"its WebP begins with the chunk {chunk!r}")
    (size,) = struct.unpack_from("<I", content, 4)
    facts = ImageFacts(media_type="image/webp", width_px=width, height_px=height)
    return _Header(facts, lambda: len(content) >= 8 + size)


def _bmp(content: bytes) -> _Header:
    size, pixels_at, header_size = _unpack("<I4xII", content, 2, "image/bmp")
    if header_size < 40:
        raise _no_image(f"its BMP header has {header_size} bytes")
    width, height, _, bits = _unpack("<iiHH", content, 18, "image/bmp")
    (compression,) = _unpack("<I", content, 30, "image/bmp")
    # Sizes in the file header are often wrong; the rows of an uncompressed BMP are not.
    needed = pixels_at + ((abs(width) * bits + 31) // 32 * 4) * abs(height) if compression in (0, 3) else size
    return _Header(ImageFacts(media_type="image/bmp", width_px=width, height_px=abs(height)), lambda: len(content) >= needed)


def _unpack(form: str, content: bytes, at: int, media_type: str) -> tuple[int, ...]:
    if len(content) < at + struct.calcsize(form):
        raise _cut_off(media_type)
    return struct.unpack_from(form, content, at)


def _no_image(why: str) -> FrameRefusedError:
    return FrameRefusedError(f"this is not an image: {why}", reason=NOT_AN_IMAGE, do="send JPEG, PNG, WebP or BMP")


def _cut_off(media_type: str) -> FrameRefusedError:
    return FrameRefusedError(f"the image ({media_type}) ends too early", reason=TRUNCATED, do="send it again, whole")
