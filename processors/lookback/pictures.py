"""Pictures for people: a frame with what was seen drawn into it, crops of single places, and both as data URIs.

Guarantees: bytes are looked at by their header before anything is decoded, so a picture that claims a billion pixels is
refused; a polygon may lie anywhere. Numbers are drawn and no text of others is.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import ContractError
from streams.pixels import Pixels, decode

GREEN, AMBER, RED, BLUE = (80, 175, 20), (0, 150, 245), (60, 60, 220), (220, 140, 40)
_MAX_BYTES = 64 * 1024 * 1024
_MAX_PIXELS = 100_000_000
_CROP_HEIGHT_PX = 64
_CROP_WIDTH_PX_MAX = 640
_STRAIGHT_SIDE_PX_MAX = 4096
_WARPED_SIDE_PX_MAX = 32_000  # OpenCV counts in 16 bits there


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A polygon to be drawn, x0, y0, x1, y1, ... in pixels, with a short tag of ASCII signs; colour as BGR."""

    tag: str
    polygon_px: Sequence[float]
    colour: tuple[int, int, int] = GREEN
    dashed: bool = False


def decoded(content: bytes, *, size_px: tuple[int, int] | None = None) -> Pixels:
    """An encoded image as uint8, shape (height_px, width_px, 3), BGR.

    Args:
        size_px: Width and height that the models saw; an image that says it is to be turned is taken as they took it.
    Raises:
        ContractError: these bytes are no image, or one too large to be shown.
    """
    try:
        pixels = decode(content, max_bytes=_MAX_BYTES, max_pixels=_MAX_PIXELS)
        if size_px is not None and (pixels.shape[1], pixels.shape[0]) != size_px:
            unturned = decode(content, max_bytes=_MAX_BYTES, max_pixels=_MAX_PIXELS, turned=False)
            pixels = unturned if (unturned.shape[1], unturned.shape[0]) == size_px else pixels
    except ContractError as error:
        raise ContractError(f"it cannot be shown: {error}") from error
    return pixels


def drawn(pixels: Pixels, marks: Sequence[Mark]) -> Pixels:
    """A copy with every mark drawn into it; lines and tags are sized to the picture."""
    out = pixels.copy()
    height_px, width_px = out.shape[:2]
    thick = max(1, round(max(height_px, width_px) / 500))
    for mark in marks:
        corners = _corners(mark.polygon_px)
        if corners is None:
            continue
        _outline(out, corners, mark, thick)
        _tag(out, corners, mark, thick)
    return out


def cropped(pixels: Pixels, polygon_px: Sequence[float]) -> Pixels | None:
    """What lies under a polygon, set straight when it has four corners, 64 px high; None when nothing lies there."""
    corners = _corners(polygon_px)
    if corners is None:
        return None
    straight = _quadrilateral(pixels, corners) if len(corners) == 4 else _upright(pixels, corners)
    if straight is None or min(straight.shape[:2]) < 1:
        return None
    if straight.shape[0] >= straight.shape[1] * 1.5:
        straight = np.rot90(straight)
    scale = _CROP_HEIGHT_PX / straight.shape[0]
    width_px = min(max(1, round(straight.shape[1] * scale)), _CROP_WIDTH_PX_MAX)
    return np.asarray(cv2.resize(straight, (width_px, _CROP_HEIGHT_PX), interpolation=cv2.INTER_AREA), np.uint8)


def fitted(pixels: Pixels, *, side_px_max: int) -> tuple[Pixels, float]:
    """The picture no larger than a side allows, and the scale that was applied."""
    scale = min(1.0, side_px_max / max(pixels.shape[:2]))
    if scale == 1.0:
        return pixels, scale
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def data_uri(pixels: Pixels, *, quality: int = 88) -> str:
    """The picture as a JPEG in a data URI, for a page that needs nothing beside itself."""
    ok, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok, "OpenCV encodes every uint8 BGR picture"
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _corners(polygon_px: Sequence[float]) -> npt.NDArray[np.float32] | None:
    """Corners, float32, shape (N, 2); None for what is no polygon. Numbers of others may be anything."""
    flat = np.asarray(polygon_px, np.float64)
    if len(flat) < 6 or len(flat) % 2 or not np.isfinite(flat).all():
        return None
    return np.clip(flat, -1e5, 1e5).astype(np.float32).reshape(-1, 2)


def _outline(out: Pixels, corners: npt.NDArray[np.float32], mark: Mark, thick: int) -> None:
    points = corners.round().astype(np.int32)
    if not mark.dashed:
        cv2.polylines(out, [points], True, mark.colour, thick, cv2.LINE_AA)
        return
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        pieces = min(400, max(2, int(np.linalg.norm(end - start) // (6 * thick))))
        stops = np.linspace(start, end, pieces + 1).round().astype(int)
        for a, b in list(pairwise(stops))[::2]:
            cv2.line(out, tuple(map(int, a)), tuple(map(int, b)), mark.colour, thick, cv2.LINE_AA)


def _tag(out: Pixels, corners: npt.NDArray[np.float32], mark: Mark, thick: int) -> None:
    """The tag on a patch of its colour, above the polygon where there is room."""
    text = mark.tag.encode("ascii", "replace").decode()
    scale = 0.5 * thick
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    x = int(np.clip(corners[:, 0].min(), 0, max(0, out.shape[1] - width - 4)))
    top = int(corners[:, 1].min()) - height - below - 4
    y = int(np.clip(top, 0, max(0, out.shape[0] - height - below - 4)))
    cv2.rectangle(out, (x, y), (x + width + 4, y + height + below + 4), mark.colour, cv2.FILLED)
    cv2.putText(out, text, (x + 2, y + height + 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thick, cv2.LINE_AA)


def _quadrilateral(pixels: Pixels, corners: npt.NDArray[np.float32]) -> Pixels | None:
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, (pixels.shape[1], pixels.shape[0])).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2, 0, (pixels.shape[1], pixels.shape[0])).astype(int)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    if min(part.shape[:2]) < 1 or max(part.shape[:2]) > _WARPED_SIDE_PX_MAX:
        return part
    corners = corners - low.astype(np.float32)
    width = max(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[3]))
    height = max(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[2] - corners[1]))
    scale = min(1.0, _STRAIGHT_SIDE_PX_MAX / max(float(width), float(height), 1.0))
    size = (round(float(width) * scale), round(float(height) * scale))
    if min(size) < 1:
        return None
    target = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float32)
    turned = cv2.warpPerspective(part, cv2.getPerspectiveTransform(corners, target), size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def _upright(pixels: Pixels, corners: npt.NDArray[np.float32]) -> Pixels | None:
    low = np.clip(corners.min(axis=0).round().astype(int), 0, (pixels.shape[1], pixels.shape[0]))
    high = np.clip(corners.max(axis=0).round().astype(int), 0, (pixels.shape[1], pixels.shape[0]))
    return pixels[low[1] : high[1], low[0] : high[0]]
