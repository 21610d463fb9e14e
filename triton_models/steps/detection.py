"""Step `detection`: where in the picture is text?

Owns the call of the detection network; finding boxes in its map is the next step's work, because a request's
thresholds change the boxes and not the map.

Next: `crop_and_resize` reads TEXT_MAP.
"""

from pathlib import Path

import numpy as np

from .contract import Settings, Tensor, Tensors
from .onnx_session import OnnxSession


class Detection:
    """Inputs and outputs:

    DETECTION_PIXELS float32 (1, 3, H, W), BGR, -1 to 1, H and W multiples of 32
    -> TEXT_MAP float32 (1, 1, H, W), probability that a pixel belongs to text.

    Source: PP-OCRv4 and PP-OCRv6 text detection (differentiable binarization).
    """

    def __init__(self, session: OnnxSession) -> None:
        self._session = session

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        return {"TEXT_MAP": np.ascontiguousarray(self._session(tensors["DETECTION_PIXELS"]))}

    def runtime(self) -> dict[str, str]:
        return {**self._session.runtime(), "batch_form": "single"}


def load(folder: Path, settings: Settings, *, threads: int) -> Detection:
    """Load the network in `folder`."""
    return Detection(OnnxSession(folder, threads=threads))
