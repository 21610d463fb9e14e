"""Pixels of an encoded image for whoever measures or shows it: sized and turned as the models take it.

Guarantees: the header is asked before anything is decoded, so that memory is bounded by the caller's limits; an image that says
in its EXIF that it is to be turned is turned, whatever its format. Every other answer is a `ContractError` that says why.
"""

import struct

import cv2
import numpy as np
import numpy.typing as npt

from schemas.errors import ContractError
from streams.images import inspect

Pixels = npt.NDArray[np.uint8]

_EXIF_ORIENTATION, _SHORT = 0x0112, 3
_CHUNKS_MAX = 10_000
# EXIF 2.32, orientation 2 to 8, as a mirroring and then quarter turns to the right.
_TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 3), 6: (False, 1), 7: (True, 1), 8: (False, 3)}


def decode(content: bytes, *, max_bytes: int, max_pixels: int, grey: bool = False, turned: bool = True) -> Pixels:
    """Decode an image.

    Args:
        max_bytes: Largest encoded size.
        max_pixels: Most pixels.
        grey: One channel in place of three.
        turned: Whether to turn it as its EXIF says.
    Returns:
        uint8, shape (height_px, width_px, 3), BGR; without the last axis when grey.
    Raises:
        FrameRefusedError: by its header, with the reason.
        ContractError: what the header promises cannot be decoded.
    """
    facts = inspect(content, max_bytes=max_bytes, max_pixels=max_pixels)
    by_hand = facts.media_type == "image/webp"  # OpenCV leaves these as they lie
    flags = (cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR) | (
        0 if turned and not by_hand else cv2.IMREAD_IGNORE_ORIENTATION
    )
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ContractError(f"it cannot be decoded: {str(error).strip()}") from error
    if pixels is None:
        raise ContractError("OpenCV cannot decode these bytes")
    out = np.asarray(pixels, np.uint8)
    return _turned(out, _orientation(content)) if turned and by_hand else out


def _orientation(webp: bytes) -> int:
    """What the EXIF of a WebP says (RFC 9649: chunks of a name and a length; EXIF 2.32: a TIFF header and its first entries)."""
    at = 12
    for _ in range(_CHUNKS_MAX):
        name, size = webp[at : at + 4], int.from_bytes(webp[at + 4 : at + 8], "little")
        if name == b"EXIF":
            return _orientation_in(webp[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return 1


def _orientation_in(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (entries_at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, entries_at)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entries_at + 2 + 12 * number)
            if tag == _EXIF_ORIENTATION and kind == _SHORT:
                return int(value)
    except struct.error:  # broken EXIF turns nothing
        pass
    return 1


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    mirrored, quarters = _TURNS.get(orientation, (False, 0))
    flipped = pixels[:, ::-1] if mirrored else pixels
    return np.ascontiguousarray(np.rot90(flipped, -quarters))
