"""Drawing on frames: boxes with what they say, a strip of facts below, and grey frames where there is no picture.

Pictures are uint8 RGB arrays of shape (height_px, width_px, 3). What a label holds is drawn whatever it is: signs that the
font lacks, and those that steer a terminal or the direction of text, appear as their code points.
"""

import io
import textwrap
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from processors.lookback import pictures
from schemas.errors import ContractError

Picture = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]
Points = tuple[tuple[float, float], ...]

GREY: Rgb = (96, 96, 96)
_STRIP_RGB: Rgb = (24, 24, 24)
_WHITE: Rgb = (245, 245, 245)
_LINE_PX, _LABEL_PX, _STRIP_FONT_PX, _STRIP_LINE_PX = 3, 15, 15, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A closed line with a caption; points in px of the picture that it is drawn on."""

    points: Points
    caption: str
    rgb: Rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where an image lies on a canvas: `scale` is at most 1, the rest px of the canvas."""

    left_px: int
    top_px: int
    width_px: int
    height_px: int
    scale: float

    def point(self, x_px: float, y_px: float) -> tuple[float, float]:
        """A point of the image on the canvas."""
        return self.left_px + x_px * self.scale, self.top_px + y_px * self.scale


def decoded(content: bytes) -> tuple[Picture | None, str]:
    """The picture, turned as its EXIF says, or None and why not."""
    try:
        bgr = pictures.decoded(content)
    except ContractError as error:
        return None, f"the image: {error}"
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), ""


def png(picture: Picture) -> bytes:
    """The picture, encoded without loss."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def grey_frame(width_px: int, height_px: int, why: str) -> Picture:
    """A frame that is not there, and the reason on it."""
    image = Image.new("RGB", (width_px, height_px), GREY)
    pen, font = ImageDraw.Draw(image), _font(_STRIP_FONT_PX)
    letters = max(8, (width_px - 24) // 8)
    lines = [line for part in ("no picture", why) for line in textwrap.wrap(drawable(part, longest=600), letters)]
    most = max(1, (height_px - 16) // _STRIP_LINE_PX)
    for number, line in enumerate(lines[:most]):
        pen.text((12, 12 + number * _STRIP_LINE_PX), line, fill=_WHITE, font=font)
    return np.asarray(image)


def placed(width_px: int, height_px: int, canvas_width_px: int, canvas_height_px: int) -> Placed:
    """An image in the middle of a canvas, made smaller when it does not fit, never larger."""
    scale = min(1.0, canvas_width_px / width_px, canvas_height_px / height_px)
    width, height = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    return Placed(
        left_px=(canvas_width_px - width) // 2,
        top_px=(canvas_height_px - height) // 2,
        width_px=width,
        height_px=height,
        scale=scale,
    )


def on_canvas(picture: Picture, place: Placed, canvas_width_px: int, canvas_height_px: int) -> Picture:
    """The picture where it was placed, grey around it."""
    if picture.shape[:2] != (place.height_px, place.width_px):
        picture = cv2.resize(picture, (place.width_px, place.height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
    if (place.width_px, place.height_px) == (canvas_width_px, canvas_height_px):
        return picture
    canvas = np.full((canvas_height_px, canvas_width_px, 3), GREY, np.uint8)
    canvas[place.top_px : place.top_px + place.height_px, place.left_px : place.left_px + place.width_px] = picture
    return canvas


def annotated(picture: Picture, outlines: Iterable[Outline], strip: tuple[tuple[str, Rgb | None], ...]) -> Picture:
    """The picture with outlines on it and lines of text below.

    Args:
        strip: Lines, each with the colour behind it; None for the strip's own.
    Returns:
        A picture `strip_height_px(len(strip))` higher.
    """
    height, width = picture.shape[:2]
    image = Image.new("RGB", (width, height + strip_height_px(len(strip))), _STRIP_RGB)
    image.paste(Image.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(image)
    every = tuple(outlines)
    for one in every:
        _outline(pen, one)
    for one in every:
        _caption(pen, one, width, height)
    font = _font(_STRIP_FONT_PX)
    pen.rectangle((0, height, width, image.height), fill=_STRIP_RGB)
    for number, (text, behind) in enumerate(strip):
        top = height + 4 + number * _STRIP_LINE_PX
        if behind is not None:
            pen.rectangle((0, top - 1, width, top + _STRIP_LINE_PX - 2), fill=behind)
        pen.text((8, top), drawable(text), fill=_WHITE, font=font)
    return np.asarray(image)


def strip_height_px(lines: int) -> int:
    """Height of the strip below a picture; even, as video wants it."""
    return lines * _STRIP_LINE_PX + 8


def drawable(text: str, *, longest: int = 120) -> str:
    """The first `longest` signs of a text, with those that cannot be drawn as code points."""
    shown = "".join(sign if _has(sign) else f"[U+{ord(sign):04X}]" for sign in text[:longest])
    return shown if len(text) <= longest else f"{shown}..."


def _outline(pen: ImageDraw.ImageDraw, one: Outline) -> None:
    if len(one.points) == 1:
        ((x, y),) = one.points
        pen.ellipse((x - _LINE_PX, y - _LINE_PX, x + _LINE_PX, y + _LINE_PX), fill=one.rgb)
    elif one.points:
        pen.line([*one.points, one.points[0]], fill=one.rgb, width=_LINE_PX, joint="curve")


def _caption(pen: ImageDraw.ImageDraw, one: Outline, width_px: int, height_px: int) -> None:
    if not one.points or not one.caption:
        return
    font, text = _font(_LABEL_PX), drawable(one.caption)
    left, top = min(x for x, _ in one.points), min(y for _, y in one.points)
    wide, high = pen.textlength(text, font=font) + 6, _LABEL_PX + 4
    x = min(max(left, 0), max(0, width_px - wide))
    y = top - high - _LINE_PX if top - high - _LINE_PX >= 0 else max(y for _, y in one.points) + _LINE_PX + 1
    y = min(max(y, 0), max(0, height_px - high))
    pen.rectangle((x, y, x + wide, y + high), fill=(0, 0, 0))
    pen.text((x + 3, y + 1), text, fill=one.rgb, font=font)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


@cache
def _unknown_sign() -> bytes:
    return bytes(_font(_LABEL_PX).getmask("\uffff"))


def _has(sign: str) -> bool:
    return " " <= sign <= "~" or _drawn(sign)


@cache
def _drawn(sign: str) -> bool:
    if unicodedata.category(sign)[0] == "C" or unicodedata.bidirectional(sign) in ("R", "AL"):
        return False
    return bytes(_font(_LABEL_PX).getmask(sign)) != _unknown_sign()
