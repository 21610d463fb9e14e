"""What an image is like, measured once by the shell: does it decode, how large, how sharp, how bright."""

import cv2
import numpy as np

from processors.assess.core import ImageMeasured, ImageUnusable
from schemas.errors import FrameRefusedError
from streams.images import inspect


def measure(content: bytes, *, max_bytes: int, max_pixels: int) -> ImageMeasured | ImageUnusable:
    """Decode an image and measure it.

    Args:
        content: Encoded image.
        max_bytes: Largest encoded size.
        max_pixels: Most pixels; the header is asked before anything is decoded.
    Returns:
        Sizes in px; sharpness as the variance of the Laplacian of the grey image (8 bit), brightness as its mean.
    """
    try:
        inspect(content, max_bytes=max_bytes, max_pixels=max_pixels)
    except FrameRefusedError as error:
        return ImageUnusable(reason=error.reason, detail=str(error))
    try:
        grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        return ImageUnusable(reason="not_decodable", detail=str(error).strip())
    if grey is None:
        return ImageUnusable(reason="not_decodable", detail="OpenCV cannot decode these bytes")
    measures = {
        "brightness_mean": round(float(grey.mean()), 3),
        "sharpness": round(float(cv2.Laplacian(grey, cv2.CV_64F).var()), 3),
    }
    return ImageMeasured(width_px=int(grey.shape[1]), height_px=int(grey.shape[0]), measures=measures)
