"""Step `classifier`: does a crop stand upright or upside down?

Owns the call of the orientation network: one crop a call, so that a crop's answer does not depend on its neighbours,
unless the settings ask for all crops of a frame at once.

Next: `recognizer` turns the crops that stand upside down, `postprocess` reports the orientation.
"""

from pathlib import Path

import numpy as np

from .contract import Settings, Tensor, Tensors, read_batch_form
from .onnx_session import OnnxSession


class Classifier:
    """Inputs and outputs:

    CLASSIFIER_PIXELS float32 (N, 3, 48, 192), BGR, -1 to 1, padded with 0 on the right, N from 0
    -> ORIENTATION float32 (N, 2), probabilities of 0 and of 180 degrees.

    Source: PaddleOCR ch_ppocr_mobile_v2.0_cls.
    """

    def __init__(self, session: OnnxSession, *, batch_form: str) -> None:
        self._session = session
        self._batch_form = batch_form

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        crops = tensors["CLASSIFIER_PIXELS"]
        orientation = np.zeros((len(crops), 2), dtype=np.float32)
        if self._batch_form == "frame" and len(crops):
            return {"ORIENTATION": self._session(crops)}
        for index in range(len(crops)):
            orientation[index] = self._session(crops[index : index + 1])[0]
        return {"ORIENTATION": orientation}

    def runtime(self) -> dict[str, str]:
        return {**self._session.runtime(), "batch_form": self._batch_form}


def load(folder: Path, settings: Settings, *, threads: int) -> Classifier:
    """Load the network in `folder`."""
    return Classifier(OnnxSession(folder, threads=threads), batch_form=read_batch_form(settings))
