"""A freight container before a camera.

Owns the geometry, in metres: x along the container's side, y up from the road, z away from the camera. Guarantees: the
same arguments give the same bytes with the same libraries. `gate` decides what is painted and where the container is.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from topology.demo.paintwork import (
    FLOOR_M,
    HEIGHT_M,
    LENGTH_M,
    WIDTH_M,
    Markings,
    Pixels,
    Shade,
    add_doors,
    add_frame,
    add_strap,
    grain,
    ink,
    letter_side,
    opaque,
    soften,
    steel,
    with_trailer,
)

Corners = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A pinhole camera above the road at x = 0, z = 0."""

    width_px: int
    height_px: int
    focal_px: float
    height_m: float
    yaw_rad: float
    pitch_rad: float
    roll_rad: float

    def project(self, points_m: Corners) -> Corners:
        """Pixels, shape (n, 2), of points in metres, shape (n, 3), that lie in front of the camera."""
        x, y, z = points_m[:, 0], self.height_m - points_m[:, 1], points_m[:, 2]
        z, x = _turn(z, x, -self.yaw_rad)
        y, z = _turn(y, z, -self.pitch_rad)
        x, y = _turn(x, y, self.roll_rad)
        return np.stack([self.focal_px * x / z + self.width_px / 2, self.focal_px * y / z + self.height_px / 2], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The painted faces, BGRA: the side with the code and the trailer under it, and the end with the doors."""

    side: Pixels
    end: Pixels
    code_box_m: tuple[float, float, float, float]

    def draw(self, background: Pixels, camera: Camera, *, right_m: float, distance_m: float) -> tuple[Pixels, Corners]:
        """Place the container in a picture.

        Args:
            background: uint8 BGR, the camera's size.
            right_m: Where the right end stands; the side reaches LENGTH_M to the left of it.
            distance_m: From the camera to the side.
        Returns:
            The picture, and the code's four corners in pixels, clockwise from its top left as painted.
        """
        top, near, far = FLOOR_M + HEIGHT_M, (right_m, distance_m), (right_m, distance_m + WIDTH_M)
        picture = background.astype(np.float32)
        if right_m < 0:
            _blend(picture, self.end, camera.project(_wall(near, far, top, FLOOR_M)))
        side = _wall((right_m - LENGTH_M, distance_m), near, top, 0.0)
        _blend(picture, self.side, camera.project(side))
        x0, y0, x1, y1 = self.code_box_m
        code = np.array([[right_m + x, top - y, distance_m] for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))])
        return picture.astype(np.uint8), camera.project(code)


def build_container(markings: Markings, rng: np.random.Generator) -> Container:
    """Paint one container; dirt, rust and dents come from the generator."""
    side = steel(LENGTH_M, markings.steel_bgr, rng, corrugated=True)
    lettering = letter_side(markings, side.shape[1], side.shape[0])
    worn = np.clip(markings.paint_strength * (1.0 - 0.5 * grain(lettering.mask.shape, 3, rng)), 0, 1)
    relief = (side.mean(axis=2, keepdims=True) / max(1.0, float(np.mean(markings.steel_bgr)))).clip(0.72, 1.15)
    side += (np.array(ink(markings), np.float32) * relief - side) * (lettering.mask * worn)[:, :, None]
    add_frame(side, markings.steel_bgr)
    if markings.cover is not None:
        add_strap(side, lettering.edges_px[markings.cover[0]], lettering.edges_px[markings.cover[1]])
    end = steel(WIDTH_M, markings.steel_bgr, rng, corrugated=False) * 0.62
    add_frame(end, tuple(int(c * 0.62) for c in markings.steel_bgr))
    add_doors(end, markings.steel_bgr)
    return Container(side=with_trailer(soften(side)), end=opaque(soften(end)), code_box_m=lettering.box_m)


def _turn(first: Corners, second: Corners, angle_rad: float) -> tuple[Corners, Corners]:
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return first * cosine - second * sine, first * sine + second * cosine


def _wall(left: tuple[float, float], right: tuple[float, float], top: float, bottom: float) -> Corners:
    """Corners of an upright wall between two points (x, z), clockwise from its top left."""
    return np.array([(x, y, z) for (x, z), y in ((left, top), (right, top), (right, bottom), (left, bottom))])


def _blend(picture: Shade, face: Pixels, corners_px: Corners) -> None:
    height, width = face.shape[:2]
    painted = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(painted, corners_px.astype(np.float32))
    size = (picture.shape[1], picture.shape[0])
    seen = cv2.warpPerspective(face, warp, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    cover = seen[:, :, 3:] / 255.0
    picture += (seen[:, :, :3] - picture) * cover
