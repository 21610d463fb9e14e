"""A gate with a camera, rendered: containers pass, and what is painted on each is known.

Owns the demo's ground truth. Guarantees: a passage depends on the seed, its index and the backgrounds only, not on how
many are asked for; the same libraries give the same bytes; in every eight passages three are hard to read (one of them
because its check digit stands in a box, which text detection tends to part from the rest) and one carries a code whose
check digit is wrong. Owner codes are made up in the shape of real ones; where one belongs to somebody, that is chance.
`sources` turns the frames into a device's stream.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
from stdnum import iso6346

from topology.demo.container import Camera, Container, build_container
from topology.demo.paintwork import Markings, Pixels, Shade

WIDTH_PX, HEIGHT_PX = 640, 480
FRAME_EVERY_US = 200_000
PASSAGE_EVERY_US = 30_000_000

Condition = Literal["clear", "wrong_check_digit", "boxed", "motion_blur", "covered", "night", "faded"]
_ROTATING: tuple[Condition, ...] = ("motion_blur", "covered", "night", "faded")
_OWNERS = ("HSTU", "KLRU", "NVMU", "TRGU", "BOSU", "GLNU", "MRDU", "SEWU", "PXCU", "WDTU")
_SIZE_TYPES = ("22G1", "22G0", "22U1", "22R1")
_STEELS_BGR = (
    (42, 62, 128),
    (112, 72, 34),
    (58, 92, 40),
    (40, 104, 190),
    (124, 118, 108),
    (150, 168, 172),
    (92, 96, 30),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFrame:
    """One picture at the gate with what is true about it.

    `code` is what is painted; `code_valid` says whether its check digit is right. `captured_offset_us` counts from the
    first frame. `code_polygon_px` is x0,y0 to x3,y3, clockwise from the top left of the code.
    """

    passage_id: str
    sequence: int
    code: str
    code_valid: bool
    size_type: str
    condition: Condition
    hard: bool
    image_jpeg: bytes
    captured_offset_us: int
    code_polygon_px: tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateScene:
    """One container's way past the camera."""

    seed: int
    index: int
    markings: Markings
    condition: Condition
    container: Container
    camera: Camera
    background: Pixels
    distance_m: float
    light_bgr: tuple[float, float, float]

    def frame(self, number: int, *, frames_count: int) -> GateFrame:
        """Frame `number` of `frames_count` that this passage is long."""
        rng = np.random.default_rng([self.seed, self.index, 1 + number])
        share = number / max(1, frames_count - 1)
        # The code's middle stands about 1.3 m left of the right end, and the camera looks at it half way.
        aim_m = self.distance_m * float(np.tan(self.camera.yaw_rad))
        right_m = aim_m + 1.35 + 0.7 * (1 - 2 * share) + float(rng.normal(0, 0.03))
        picture, code_px = self.container.draw(
            self.background, self.camera, right_m=right_m, distance_m=self.distance_m + float(rng.normal(0, 0.01))
        )
        exposed = _expose(picture, self.condition, self.light_bgr, rng)
        ok, encoded = cv2.imencode(".jpg", exposed, [cv2.IMWRITE_JPEG_QUALITY, 88])
        assert ok, "OpenCV encodes every uint8 BGR picture"
        return GateFrame(
            passage_id=f"gate-{self.seed}-{self.index:03d}",
            sequence=self.index * frames_count + number,
            code=self.markings.code,
            code_valid=iso6346.is_valid(self.markings.code),
            size_type=self.markings.size_type,
            condition=self.condition,
            hard=self.condition not in ("clear", "wrong_check_digit"),
            image_jpeg=encoded.tobytes(),
            captured_offset_us=self.index * PASSAGE_EVERY_US + number * FRAME_EVERY_US,
            code_polygon_px=cast(
                "tuple[float, float, float, float, float, float, float, float]",
                tuple(float(v) for v in code_px.ravel().round(1)),
            ),
        )


def passages(*, seed: int, count: int, frames_per_passage: int, backgrounds: Sequence[Pixels]) -> Iterator[GateFrame]:
    """Containers passing, one after another.

    Args:
        count: Passages.
        frames_per_passage: Pictures of each container.
        backgrounds: uint8 BGR, any size from 320x240 px; a passage takes one of them, cropped.
    """
    for index in range(count):
        scene = build_scene(seed=seed, index=index, backgrounds=backgrounds)
        for number in range(frames_per_passage):
            yield scene.frame(number, frames_count=frames_per_passage)


def build_scene(*, seed: int, index: int, backgrounds: Sequence[Pixels]) -> GateScene:
    """The container, the light and the camera of one passage."""
    rng = np.random.default_rng([seed, index])
    condition = _condition(index)
    markings = Markings(
        code=_code(rng, valid=condition != "wrong_check_digit"),
        size_type=str(rng.choice(_SIZE_TYPES)),
        steel_bgr=_STEELS_BGR[(index * 3 + seed) % len(_STEELS_BGR)],
        paint_strength=0.3 if condition == "faded" else float(rng.uniform(0.9, 1.0)),
        boxed=condition == "boxed",
        cover=_cover(rng) if condition == "covered" else None,
    )
    camera = Camera(
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        focal_px=float(rng.uniform(590, 630)),
        height_m=float(rng.uniform(2.5, 2.8)),
        yaw_rad=float(np.radians(rng.uniform(-24, 8))),
        pitch_rad=float(np.radians(rng.uniform(-1.0, 3.0))),
        roll_rad=float(np.radians(rng.uniform(-1.5, 1.5))),
    )
    warmth = float(rng.uniform(-0.06, 0.06))
    gain = float(rng.uniform(0.85, 1.1))
    return GateScene(
        seed=seed,
        index=index,
        markings=markings,
        condition=condition,
        container=build_container(markings, rng),
        camera=camera,
        background=_crop(backgrounds[int(rng.integers(len(backgrounds)))], rng),
        distance_m=float(rng.uniform(4.5, 5.0)),
        light_bgr=(gain * (1 - warmth), gain, gain * (1 + warmth)),
    )


def _condition(index: int) -> Condition:
    match index % 8:
        case 2:
            return _ROTATING[index // 8 * 2 % len(_ROTATING)]
        case 6:
            return _ROTATING[(index // 8 * 2 + 1) % len(_ROTATING)]
        case 4:
            return "wrong_check_digit"
        case 5:
            return "boxed"
        case _:
            return "clear"


def _code(rng: np.random.Generator, *, valid: bool) -> str:
    owner = str(rng.choice(_OWNERS))
    while True:
        unchecked = f"{owner}{int(rng.integers(100_000, 1_000_000))}"
        digit = iso6346.calc_check_digit(unchecked)
        # ISO 6346 asks owners not to use serials whose check sum is 10; leaving out every 0 does that.
        if digit != "0":
            break
    return unchecked + (digit if valid else str((int(digit) + int(rng.integers(1, 9))) % 10))


def _cover(rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(5, 8))
    return start, start + 2


def _crop(background: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of a real picture in the camera's shape, a little out of focus as what lies behind a container is."""
    height, width = background.shape[:2]
    side = min(width / WIDTH_PX, height / HEIGHT_PX) * float(rng.uniform(0.8, 1.0))
    crop_width, crop_height = int(WIDTH_PX * side), int(HEIGHT_PX * side)
    left, top = int(rng.integers(width - crop_width + 1)), int(rng.integers(height - crop_height + 1))
    part = background[top : top + crop_height, left : left + crop_width]
    resized = cv2.resize(part, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return cast(Pixels, cv2.GaussianBlur(resized, (0, 0), 1.4))


def _expose(picture: Pixels, condition: Condition, light_bgr: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    """What the sensor makes of the scene: light, haze, motion, focus, noise."""
    gain, noise, focus = float(rng.uniform(0.94, 1.06)), 3.5, float(rng.uniform(0.4, 0.8))
    lit: Shade = picture.astype(np.float32)
    if condition == "night":
        gain, noise = gain * 0.2, 7.0
    if condition == "faded":
        lit = lit * np.float32(0.62) + np.float32(70.0)
    if condition == "motion_blur":
        length = int(rng.integers(9, 24))
        lit = np.asarray(cv2.filter2D(lit, -1, np.full((1, length), 1.0 / length, np.float32)), np.float32)
    seen = cv2.GaussianBlur(lit * (np.array(light_bgr, np.float32) * gain) * _VIGNETTE, (0, 0), focus)
    grain = rng.standard_normal((HEIGHT_PX, WIDTH_PX, 1), dtype=np.float32) * noise
    return cast(Pixels, (seen + grain).clip(0, 255).astype(np.uint8))


def _vignette() -> Shade:
    y, x = np.mgrid[-1 : 1 : HEIGHT_PX * 1j, -1 : 1 : WIDTH_PX * 1j]
    return np.asarray(1.0 - 0.13 * (x * x + y * y), np.float32)[:, :, None]


_VIGNETTE = _vignette()
