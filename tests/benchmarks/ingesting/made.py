"""Images of a wanted size, each another one: a small JPEG whose scan is made longer."""

import os
from collections.abc import Callable

import cv2
import numpy as np

_COUNTER_BYTES = 12


def images(size_bytes: int) -> Callable[[int], bytes]:
    """Gives the n-th image of `size_bytes`; its scan is noise, which nothing at the door decodes."""
    ok, encoded = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    assert ok, "OpenCV encodes every uint8 picture"
    head = bytes(encoded.tobytes())[:-2]
    room = size_bytes - len(head) - _COUNTER_BYTES - 2
    assert room >= 0, f"an image has {size_bytes - room} bytes at least"
    tail = os.urandom(room).replace(b"\xff", b"\xfe") + b"\xff\xd9"
    return lambda number: head + b"%012d" % number + tail
