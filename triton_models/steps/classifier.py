"""Step `classifier`: does a crop stand upright or upside down?

Owns the call of the orientation network, one crop a call: a crop's answer must not depend on its neighbours.

Next: `recognizer` turns the crops that stand upside down, `postprocess` reports the orientation.
"""

from pathlib import Path

import numpy as np

from .contract import Settings, Tensor, Tensors
from .onnx_session import OnnxSession


class Classifier:
    """Inputs and outputs:

    CLASSIFIER_PIXELS float32 (N, 3, 48, 192), BGR, -1 to 1, padded with 0 on the right, N from 0
    -> ORIENTATION float32 (N, 2), probabilities of 0 and of 180 degrees.

    Source: PaddleOCR ch_ppocr_mobile_v2.0_cls.
    """

    def __init__(self, session: OnnxSession) -> None:
        self._session = session

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        crops = tensors["CLASSIFIER_PIXELS"]
        orientation = np.zeros((len(crops), 2), dtype=np.float32)
        for index in range(len(crops)):
            orientation[index] = self._session(crops[index : index + 1])[0]
        return {"ORIENTATION": orientation}

    def runtime(self) -> dict[str, str]:
        return self._session.runtime()


def load(folder: Path, settings: Settings, *, threads: int) -> Classifier:
    """Load the network in `folder`."""
    return Classifier(OnnxSession(folder, threads=threads))
