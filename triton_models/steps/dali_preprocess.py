"""Step `dali_preprocess`: from an encoded picture to the pixels that the other steps read.

Owns decoding, scaling for detection and normalising, in one DALI pipeline on the CPU.

Guarantees: bytes that are no picture, a picture that DALI cannot decode and one with too many pixels are refused by a
`StepError`; the pipeline is made anew after an error, so that one bad frame cannot harm the next.

Next: `detection` reads DETECTION_PIXELS, `crop_and_resize` cuts crops out of PIXELS.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali
import nvidia.dali.fn
import nvidia.dali.math
import nvidia.dali.types
from PIL import Image

from .contract import Settings, StepError, Tensor, Tensors, read_bytes

_STRIDE_PX = 32

# Its type stubs leave out what its documentation shows.
dali: Any = nvidia.dali
fn: Any = nvidia.dali.fn
types: Any = nvidia.dali.types


class DaliPreprocess:
    """Inputs and outputs:

    IMAGE BYTES (1,), an encoded picture (JPEG, PNG, BMP, TIFF, WebP, ...; turned as its EXIF says)
    -> PIXELS uint8 (1, height, width, 3), BGR; DETECTION_PIXELS float32 (1, 3, H, W), BGR, -1 to 1, the picture
       scaled so that its long side is at most `side_px_max`, H and W rounded to multiples of 32.

    Source: rapidocr's DetPreProcess with limit_type "max"; mean and deviation 0.5 of full scale.
    """

    def __init__(self, *, side_px_max: int, image_px_max: int, threads: int) -> None:
        self._side_px_max = side_px_max
        self._image_px_max = image_px_max
        self._threads = threads
        self._pipeline = self._built()

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        encoded = read_bytes(tensors, "IMAGE")
        seen = self._header(encoded)
        try:
            self._pipeline.feed_input("IMAGE", [np.frombuffer(encoded, dtype=np.uint8)])
            pixels, detection_pixels = self._pipeline.run()
        except RuntimeError as exc:
            self._pipeline = self._built()
            raise StepError(f"the image cannot be decoded ({seen}): {_said(exc)}") from exc
        # DALI owns the memory of its outputs until the next run.
        return {
            "PIXELS": np.array(pixels.at(0))[np.newaxis],
            "DETECTION_PIXELS": np.array(detection_pixels.at(0))[np.newaxis],
        }

    def runtime(self) -> dict[str, str]:
        return {"dali": str(dali.__version__)}

    def _header(self, encoded: bytes) -> str:
        """Read only the header, in words: a picture of a few bytes may claim more pixels than there is memory."""
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                width_px, height_px = image.size
                kind = image.format
        except Exception as exc:  # Pillow's formats raise many types on broken headers
            raise StepError(f"IMAGE is not a picture that can be read ({len(encoded)} bytes)") from exc
        if width_px * height_px > self._image_px_max:
            raise StepError(f"the image has {width_px}x{height_px} pixels, more than {self._image_px_max}")
        return f"{kind}, {width_px}x{height_px}, {len(encoded)} bytes"

    def _built(self) -> Any:
        pipeline = dali.Pipeline(
            batch_size=1,
            num_threads=self._threads,
            device_id=None,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
        with pipeline:
            encoded = fn.external_source(name="IMAGE", dtype=types.UINT8, ndim=1, device="cpu")
            pipeline.set_outputs(*detection_graph(encoded, side_px_max=self._side_px_max, device="cpu"))
        pipeline.build()
        return pipeline


def detection_graph(encoded: Any, *, side_px_max: int, device: str) -> tuple[Any, Any]:
    """The DALI graph from encoded bytes to both outputs; `device` "cpu", or "mixed" to decode on a GPU."""
    shape = fn.peek_image_shape(encoded, dtype=types.FLOAT)
    height_px, width_px = shape[0], shape[1]
    scale = dali.math.min(1.0, side_px_max / dali.math.max(height_px, width_px))
    pixels = fn.decoders.image(encoded, device=device, output_type=types.BGR)
    resized = fn.resize(
        pixels,
        size=fn.stack(_to_stride(height_px * scale), _to_stride(width_px * scale)),
        interp_type=types.INTERP_LINEAR,
        antialias=False,
    )
    normalised = fn.crop_mirror_normalize(resized, dtype=types.FLOAT, output_layout="CHW", mean=[127.5] * 3, std=[127.5] * 3)
    return pixels, normalised


def load(folder: Path, settings: Settings, *, threads: int) -> DaliPreprocess:
    """Build the pipeline that the settings ask for."""
    return DaliPreprocess(side_px_max=settings["side_px_max"], image_px_max=settings["image_px_max"], threads=threads)


def _to_stride(length_px: Any) -> Any:
    return dali.math.max(1.0, dali.math.floor(length_px / _STRIDE_PX + 0.5)) * float(_STRIDE_PX)


def _said(exc: Exception) -> str:
    """DALI's reason, without its traceback of the pipeline's definition."""
    reason = str(exc).rpartition("encountered:")[2].strip() or "no reason given"
    return reason.splitlines()[0].strip(" :")[:300]
