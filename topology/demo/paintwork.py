"""The paint on a freight container: steel, rust, letters, doors, and the trailer below.

Owns the look of each face, seen straight on at PX_PER_M pixels a metre. Guarantees: the same arguments give the same
bytes with the same OpenCV, NumPy and Pillow. `container` puts the faces before a camera.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
Shade = npt.NDArray[np.float32]

PX_PER_M = 180
LENGTH_M, WIDTH_M, HEIGHT_M = 6.06, 2.44, 2.59
FLOOR_M = 1.25
LETTER_M, PITCH_M, GAP_M = 0.2, 0.17, 0.1
CODE_RIGHT_M, CODE_TOP_M = 0.34, 0.30
_CORRUGATION_M = 0.278
_RAIL_M, _POST_M = 0.11, 0.15
_RUST_BGR = (38, 58, 96)
_UNDERBODY_BGR = (30, 30, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Markings:
    """What is painted on the side: `code` of 11 characters, `size_type` of 4.

    `paint_strength` is 1 for fresh paint and 0 for none. `boxed` frames the check digit. `cover` hides the characters
    from its first index up to, not including, its second.
    """

    code: str
    size_type: str
    steel_bgr: tuple[int, int, int]
    paint_strength: float
    boxed: bool
    cover: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lettering:
    """The mask of the paint, the code's box (x from the right end, y from the top), and where each letter begins."""

    mask: Shade
    box_m: tuple[float, float, float, float]
    edges_px: tuple[int, ...]


def grain(shape: tuple[int, ...], coarse_px: int, rng: np.random.Generator) -> Shade:
    """Smooth noise from 0 to 1 with spots about `coarse_px` wide."""
    rows, columns = -(-shape[0] // coarse_px) + 1, -(-shape[1] // coarse_px) + 1
    coarse = rng.random((rows, columns), dtype=np.float32)
    grown: Shade = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return grown


def steel(length_m: float, bgr: tuple[int, ...], rng: np.random.Generator, *, corrugated: bool) -> Shade:
    """A bare wall HEIGHT_M high, BGR from 0 to about 255, with dirt and rust."""
    height, width = _px(HEIGHT_M), _px(length_m)
    shade = np.ones((1, width), np.float32)
    if corrugated:
        # One wave: outer flat, slope in shadow, inner flat, slope in the light.
        phase = (np.arange(width) / PX_PER_M % _CORRUGATION_M) / _CORRUGATION_M
        wave = np.select([phase < 0.27, phase < 0.5, phase < 0.77], [1.0, 0.74, 0.93], default=1.1)
        shade = np.asarray(cv2.GaussianBlur(wave.astype(np.float32)[None, :], (0, 0), 2.0), np.float32)
    falloff = np.linspace(1.08, 0.86, height, dtype=np.float32)[:, None]
    dirt = 1.0 - 0.16 * grain((height, width), 140, rng) - 0.07 * grain((height, width), 22, rng)
    clean = np.array(bgr, np.float32) * (shade * falloff * dirt)[:, :, None]
    drops = (grain((height, width), 9, rng) > 0.93).astype(np.float32)
    # Rust runs down from where it starts, so the smear is vertical and reaches below only.
    smear = np.full((61, 1), 1 / 26, np.float32)
    streaks = cv2.GaussianBlur(cv2.filter2D(drops, -1, smear, anchor=(0, 60)), (0, 0), 1.6)
    rust = np.clip(streaks * grain((height, width), 200, rng) * 0.55, 0, 0.6)[:, :, None]
    return np.asarray(clean + (np.array(_RUST_BGR, np.float32) - clean) * rust, np.float32)


def ink(markings: Markings) -> tuple[int, int, int]:
    """White on dark steel, near black on light steel; BGR."""
    return (236, 238, 238) if float(np.dot(markings.steel_bgr, (0.114, 0.587, 0.299))) < 140 else (38, 36, 36)


def letter_side(markings: Markings, width: int, height: int) -> Lettering:
    """The code in the upper right corner of a face of this size in pixels, and the size and type below it."""
    sheet = Image.new("L", (width, height))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=_px(LETTER_M / 0.7))
    # Letters stand at one pitch, as stencils do; only a W or an M takes more.
    pitches = [max(_px(PITCH_M), round(pen.textlength(letter, font=font)) + _px(0.02)) for letter in markings.code]
    gaps = [_px(GAP_M) if index in (4, 10) else 0 for index in range(len(pitches))]
    right = width - _px(CODE_RIGHT_M)
    left = right - sum(pitches) - sum(gaps)
    middle, half = _px(CODE_TOP_M + LETTER_M / 2), _px(LETTER_M * 0.8)
    edges, at = [], left
    for letter, pitch, gap in zip(markings.code, pitches, gaps, strict=True):
        at += gap
        edges.append(at)
        pen.text((at + pitch / 2, middle), letter, fill=255, font=font, anchor="mm", stroke_width=1.5)
        at += pitch
    if markings.boxed:
        pen.rectangle((edges[-1] - 2, middle - half, right + 2, middle + half), outline=255, width=2)
    below = middle + _px(LETTER_M * 1.8)
    for index, letter in enumerate(markings.size_type):
        pen.text((left + _px(PITCH_M) * (index + 2.6), below), letter, fill=255, font=font, anchor="mm", stroke_width=1.5)
    box_px = (left - width, middle - half, right - width, middle + half)
    return Lettering(
        mask=np.asarray(sheet, np.float32) / 255.0,
        box_m=(box_px[0] / PX_PER_M, box_px[1] / PX_PER_M, box_px[2] / PX_PER_M, box_px[3] / PX_PER_M),
        edges_px=(*edges, right),
    )


def add_frame(face: Shade, bgr: tuple[int, ...]) -> None:
    """Rails, posts and corner castings around a face."""
    height, width = face.shape[:2]
    rail, post, casting = _px(_RAIL_M), _px(_POST_M), _px(0.17)
    flat = np.array(bgr, np.float32)
    for rows, light in ((slice(0, rail), 1.04), (slice(height - _px(0.15), height), 0.78)):
        face[rows] = flat * light
    for columns in (slice(0, post), slice(width - post, width)):
        face[:, columns] = flat * 0.94
    for line in (rail, height - _px(0.15)):
        face[line : line + 3] *= 0.6
    for line in (post, width - post - 3):
        face[:, line : line + 3] *= 0.65
    for top in (0, height - casting):
        for left in (0, width - casting):
            face[top : top + casting, left : left + casting] = flat * 0.8
            centre = (left + casting // 2, top + casting // 2)
            cv2.ellipse(face, centre, (_px(0.03), _px(0.055)), 0, 0, 360, (18, 18, 18), -1, cv2.LINE_AA)


def add_doors(face: Shade, bgr: tuple[int, int, int]) -> None:
    """Two doors with their locking bars."""
    height, width = face.shape[:2]
    face[:, width // 2 - 2 : width // 2 + 2] *= 0.4
    bar = tuple(float(90 + c * 0.25) for c in bgr)
    for share in (0.16, 0.4, 0.6, 0.84):
        column = int(width * share)
        cv2.line(face, (column + 4, _px(0.12)), (column + 4, height - _px(0.12)), (25, 25, 25), 5, cv2.LINE_AA)
        cv2.line(face, (column, _px(0.08)), (column, height - _px(0.08)), bar, 7, cv2.LINE_AA)
        cv2.line(face, (column, int(height * 0.62)), (column + _px(0.3), int(height * 0.62)), bar, 6, cv2.LINE_AA)


def add_strap(face: Shade, left: int, right: int) -> None:
    """A lashing strap from column `left` to column `right`."""
    weave = 1.0 + 0.1 * np.sin(np.arange(face.shape[0], dtype=np.float32) * 0.9)[:, None, None]
    face[:, left:right] = np.array((44, 92, 118), np.float32) * weave
    face[:, left : left + 3] *= 0.6
    face[:, right - 3 : right] *= 0.6


def with_trailer(side: Pixels) -> Pixels:
    """Add the trailer and the wheels below the side; what is between them stays see-through."""
    height, width = side.shape[:2]
    whole = np.zeros((height + _px(FLOOR_M), width, 4), np.uint8)
    whole[:height] = opaque(side)
    dark = (*_UNDERBODY_BGR, 255)
    cv2.rectangle(whole, (0, height), (width, height + _px(0.34)), dark, -1)
    cv2.rectangle(whole, (0, height + _px(0.07)), (width, height + _px(0.1)), (52, 52, 56, 255), -1)
    for from_right_m in (0.95, 2.2):
        centre = (width - _px(from_right_m), height + _px(FLOOR_M - 0.52))
        for radius_m, tone in ((0.52, 26), (0.3, 118), (0.24, 84), (0.1, 46)):
            cv2.circle(whole, centre, _px(radius_m), (tone, tone, tone, 255), -1, cv2.LINE_AA)
    cv2.rectangle(whole, (width - _px(4.6), height), (width - _px(4.48), height + _px(0.95)), dark, -1)
    cv2.rectangle(whole, (width - _px(0.2), height + _px(0.1)), (width - _px(0.08), height + _px(0.24)), (30, 30, 200, 255), -1)
    return whole


def soften(face: Shade) -> Pixels:
    """A face as pixels, blurred: the camera sees it smaller, and without this the corrugation would shimmer."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), 0.8).clip(0, 255), np.uint8)


def opaque(face: Pixels) -> Pixels:
    """BGR to BGRA."""
    return np.dstack([face, np.full(face.shape[:2], 255, np.uint8)])


def _px(metres: float) -> int:
    return round(metres * PX_PER_M)
