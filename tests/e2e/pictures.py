"""Small pictures with a container code on them, cheap to read: what the end-to-end tests send as frames."""

from functools import cache

import cv2
import numpy as np
from stdnum import iso6346

WIDTH_PX, HEIGHT_PX = 224, 160


@cache
def picture(number: int) -> bytes:
    """A JPEG of 224x160: of each ten, five with nothing to read, then five with a code of their own."""
    image = np.full((HEIGHT_PX, WIDTH_PX, 3), (96, 58, 40), np.uint8)
    if number % 10 >= 5:
        code = code_of(number)
        cv2.putText(image, f"{code[:4]} {code[4:]}", (8, 88), cv2.FONT_HERSHEY_SIMPLEX, 0.72, (245, 245, 245), 2, cv2.LINE_AA)
    noise = np.random.default_rng(number).normal(0, 3, image.shape)
    ok, encoded = cv2.imencode(".jpg", np.clip(image + noise, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert ok, "OpenCV encodes every uint8 BGR picture"
    return bytes(encoded.tobytes())


def code_of(number: int) -> str:
    """The code on a picture."""
    unchecked = f"HSTU{(731_113 + 7_919 * number) % 1_000_000:06d}"
    return unchecked + str(iso6346.calc_check_digit(unchecked))
