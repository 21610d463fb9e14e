"""What an image is like, measured once by the shell: does it decode, how large, how sharp, how bright."""

import cv2

from processors.assess.core import ImageMeasured, ImageUnusable
from schemas.errors import ContractError, FrameRefusedError
from streams.pixels import decode


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
        grey = decode(content, max_bytes=max_bytes, max_pixels=max_pixels, grey=True)
    except FrameRefusedError as error:
        return ImageUnusable(reason=error.reason, detail=str(error))
    except ContractError as error:
        return ImageUnusable(reason="not_decodable", detail=str(error))
    # 16 bits hold every value of it exactly; in doubles a large image would take a gigabyte.
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    measures = {"brightness_mean": round(cv2.mean(grey)[0], 3), "sharpness": round(float(deviation[0, 0]) ** 2, 3)}
    return ImageMeasured(width_px=int(grey.shape[1]), height_px=int(grey.shape[0]), measures=measures)
