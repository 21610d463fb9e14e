"""Nasty images, made anew by code at each run: each with the size at which it must be read, or the reasons to refuse it."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 40
BROKEN = ("truncated", "not_an_image", "not_decodable")
PIXELS_MAX, BYTES_MAX = 1_000_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Nasty:
    """One image: `size_px` is the size to be read, or None when it must be refused for one of `reasons`."""

    name: str
    content: bytes
    size_px: tuple[int, int] | None
    reasons: tuple[str, ...] = ()


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Four corners of four colours under some noise, so that each way of turning it gives another picture."""
    pixels = np.random.default_rng(6).integers(0, 40, (height, width, 3)).astype(np.uint8)
    for at, (rows, columns) in enumerate((r, c) for r in (slice(0, height // 2), slice(height // 2, None)) for c in (0, 1)):
        half = slice(0, width // 2) if columns == 0 else slice(width // 2, None)
        pixels[rows, half] += np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200), (120, 120, 120)][at], np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def everything() -> list[Nasty]:
    """The whole corpus; names are unique."""
    return [*turned(), *odd_pixels(), *moving(), *extreme_sizes(), *cut(), *bombs(), *no_images()]


def turned() -> Iterator[Nasty]:
    """EXIF orientations, those that do not exist included, in each format that can say one."""
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        size = (HEIGHT, WIDTH) if 5 <= orientation <= 8 else (WIDTH, HEIGHT)
        for form in ("JPEG", "PNG", "WEBP"):
            options = {} if form == "PNG" else {"quality": 95}
            yield Nasty(f"{form} turned {orientation}", encoded(picture(), form, exif=exif, **options), size)
    for broken in (
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0" + b"\xff" * 60,
    ):
        for form in ("JPEG", "PNG", "WEBP"):
            yield Nasty(f"{form} EXIF {broken[6:14].hex()}{len(broken)}", encoded(picture(), form, exif=broken), (WIDTH, HEIGHT))


def odd_pixels() -> Iterator[Nasty]:
    """Every kind of pixels that the formats hold."""
    rgb, size = picture(), (WIDTH, HEIGHT)
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = np.random.default_rng(1).integers(0, 65535, (HEIGHT, WIDTH)).astype(np.uint16)
    yield Nasty("JPEG CMYK", encoded(rgb.convert("CMYK"), "JPEG"), size)
    yield Nasty("JPEG grey", encoded(rgb.convert("L"), "JPEG"), size)
    yield Nasty("JPEG progressive", encoded(rgb, "JPEG", progressive=True), size)
    yield Nasty("JPEG of three scans", encoded(rgb, "JPEG", subsampling=0, quality=1), size)
    yield Nasty("PNG 16 bit", encoded(Image.fromarray(deep), "PNG"), size)
    yield Nasty("PNG 1 bit", encoded(rgb.convert("1"), "PNG"), size)
    yield Nasty("PNG grey with alpha", encoded(rgb.convert("LA"), "PNG"), size)
    yield Nasty("PNG with alpha", encoded(rgb.convert("RGBA"), "PNG"), size)
    yield Nasty("PNG palette", encoded(palette, "PNG"), size)
    yield Nasty("PNG palette, one colour is not there", encoded(palette, "PNG", transparency=3), size)
    yield Nasty("PNG palette, each colour is half there", encoded(palette, "PNG", transparency=bytes(range(256))), size)
    yield Nasty("PNG palette of four", encoded(rgb.quantize(4), "PNG", bits=2), size)
    yield Nasty("BMP 1 bit", encoded(rgb.convert("1"), "BMP"), size)
    yield Nasty("BMP palette", encoded(palette, "BMP"), size)
    yield Nasty("BMP with alpha", encoded(rgb.convert("RGBA"), "BMP"), size)
    yield Nasty("WebP with alpha", encoded(rgb.convert("RGBA"), "WEBP"), size)
    yield Nasty("WebP without loss", encoded(rgb, "WEBP", lossless=True), size)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield Nasty("WebP without loss, turned", encoded(rgb, "WEBP", lossless=True, exif=exif), size[::-1])


def moving() -> Iterator[Nasty]:
    """Images of several pictures: the first one counts, where the format is read at all."""
    rgb = picture()
    more: dict[str, Any] = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180), rgb], "duration": 40}
    yield Nasty("PNG moving", encoded(rgb, "PNG", **more), (WIDTH, HEIGHT))
    yield Nasty("WebP moving", encoded(rgb, "WEBP", **more), (WIDTH, HEIGHT))
    for form in ("GIF", "TIFF"):
        yield Nasty(f"{form} moving", encoded(rgb, form, **more), None, ("unsupported_format",))


def extreme_sizes() -> Iterator[Nasty]:
    """One pixel, lines of one pixel, and headers that claim what no memory holds."""
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        for size in ((1, 1), (1, 3000), (3000, 1)):
            yield Nasty(f"{form} {size}", encoded(picture(*size), form), size)
    for side in (20_000, 65_535):
        yield Nasty(f"JPEG header {side}", _jpeg_of(side), None, ("too_many_pixels",))
        yield Nasty(f"BMP header {side}", _bmp_of(side), None, ("too_many_pixels",))
    for side in (20_000, 2**31 - 1, 2**32 - 1):
        yield Nasty(f"PNG header {side}", png_of(side, side, b""), None, ("too_many_pixels",))
    for side in (20_000, 2**24):
        yield Nasty(f"WebP header {side}", _webp_of(side), None, ("too_many_pixels",))
    yield Nasty("JPEG without rows", _jpeg_of(0), None, ("not_an_image",))
    yield Nasty("PNG without rows", png_of(0, 0, b""), None, ("not_an_image",))


def cut() -> Iterator[Nasty]:
    """Every format, ending at every 64th byte."""
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        content = encoded(picture(), form)
        yield from (Nasty(f"{form} cut at {at}", content[:at], None, BROKEN) for at in range(64, len(content) - 1, 64))


def bombs() -> Iterator[Nasty]:
    """Few bytes that cost a decoder much: memory, time, or both."""
    rows = zlib.compress(bytes(1001) * 1000, 9)
    yield Nasty("PNG of zeros", png_of(1000, 1000, rows), (1000, 1000))
    zeros = zlib.compress(bytes(50_000_000), 6)
    yield Nasty("PNG with more rows than it says", png_of(WIDTH, HEIGHT, zeros), (WIDTH, HEIGHT))
    yield Nasty("PNG with fewer rows than it says", png_of(900, 900, zlib.compress(bytes(90))), None, BROKEN)
    whole = encoded(picture(), "PNG")
    for name, chunk in (("text", _chunk(b"zTXt", b"Comment\0\0" + zeros)), ("profile", _chunk(b"iCCP", b"profile\0\0" + zeros))):
        yield Nasty(f"PNG with a {name} of 50 MB", whole[:33] + chunk + whole[33:], (WIDTH, HEIGHT))
    progressive = encoded(Image.new("L", (1000, 1000), 7), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield Nasty("JPEG of thousands of scans", progressive[:-2] + last_scan * 5000 + b"\xff\xd9", None, ("too_many_scans",))
    behind_an_end = last_scan + b"\xff\xfe\x00\x04\xff\xd9"  # a comment that looks like the end
    hidden = progressive[:-2] + behind_an_end * 5000 + b"\xff\xd9"
    yield Nasty("JPEG of thousands of scans behind an end", hidden, None, ("too_many_scans",))
    empty = b"\xff\xfe\x00\x02" * 200_000
    yield Nasty("JPEG of empty segments", b"\xff\xd8" + empty + progressive[2:], None, ("not_an_image",))
    yield Nasty("JPEG of filling", b"\xff\xd8" + b"\xff" * 900_000 + progressive[2:], (1000, 1000))


def no_images() -> Iterator[Nasty]:
    """What is sent by mistake."""
    yield Nasty("nothing", b"", None, ("not_an_image",))
    yield Nasty("text", b"I am a picture.\n" * 40, None, ("not_an_image",))
    yield Nasty("zeros", bytes(5000), None, ("not_an_image",))
    yield Nasty("a page", b"<!doctype html><title>404</title>" * 9, None, ("not_an_image",))
    yield Nasty("an archive", b"PK\x03\x04" + bytes(500), None, ("not_an_image",))
    yield Nasty("a drawing", b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 5, None, ("not_an_image",))
    yield Nasty("too many bytes", encoded(picture(), "PNG") + bytes(BYTES_MAX), None, ("too_large",))


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG with this header and these compressed rows."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _jpeg_of(side: int) -> bytes:
    content = encoded(picture(), "JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]


def _bmp_of(side: int) -> bytes:
    content = encoded(picture(), "BMP")
    return content[:18] + struct.pack("<ii", side, -side) + content[26:]


def _webp_of(side: int) -> bytes:
    half_there = picture()
    half_there.putalpha(128)
    content = encoded(half_there, "WEBP")
    at = content.index(b"VP8X") + 12  # the canvas, behind size and flags
    low = (side - 1).to_bytes(3, "little")
    return content[:at] + low + low + content[at + 6 :]
