"""Step `recognizer`: which characters does a crop show?

Owns turning crops that stand upside down, and the call of the reading network: one crop a call, at the crop's own
width, so that a reading does not depend on the other crops of its frame (batching changes bits, and with them
sometimes characters). A model version whose settings ask for it reads all crops of a frame in one call.

Next: `postprocess` decodes TOKENS to text with the vocabulary of CLASS_COUNT classes.
"""

from pathlib import Path

import numpy as np

from .contract import Settings, Tensor, Tensors, read_batch_form
from .onnx_session import OnnxSession


class Recognizer:
    """Inputs and outputs:

    RECOGNIZER_PIXELS float32 (N, 3, 48, W), BGR, -1 to 1, padded with 0 on the right, N from 0;
    WIDTHS int32 (N,), pixels of each crop that are not padding; ORIENTATION float32 (N, 2)
    -> TOKENS int32 (N, T), the most probable class at each place, padded with 0 (blank);
       TOKEN_SCORES float32 (N, T), its probability; CLASS_COUNT int32 (1,), classes of the network.

    Args:
        width_px_min: A narrower crop is padded to this width, as the OCR package does.
        turn_above: Probability of 180 degrees above which a crop is turned.
        batch_form: One of `contract.BATCH_FORMS`.
    Source: PP-OCRv4 and PP-OCRv6 text recognition (CTC); rapidocr's config.yaml, Cls.cls_thresh.
    """

    def __init__(self, session: OnnxSession, *, width_px_min: int, turn_above: float, batch_form: str) -> None:
        self._session = session
        self._width_px_min = width_px_min
        self._turn_above = turn_above
        self._batch_form = batch_form
        probe = np.zeros((1, 3, 48, width_px_min), dtype=np.float32)
        self._class_count = int(session(probe).shape[2])

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        crops, widths, orientation = (tensors[name] for name in ("RECOGNIZER_PIXELS", "WIDTHS", "ORIENTATION"))
        upright = [self._upright(crops[i], int(widths[i]), float(orientation[i, 1])) for i in range(len(crops))]
        groups = [upright] if self._batch_form == "frame" and upright else [[crop] for crop in upright]
        read = [one for group in groups for one in self._read(group)]
        places = max((len(tokens) for tokens, _ in read), default=1)
        all_tokens = np.zeros((len(read), places), dtype=np.int32)
        all_scores = np.zeros((len(read), places), dtype=np.float32)
        for index, (tokens, scores) in enumerate(read):
            all_tokens[index, : len(tokens)] = tokens
            all_scores[index, : len(scores)] = scores
        count = np.array([self._class_count], dtype=np.int32)
        return {"TOKENS": all_tokens, "TOKEN_SCORES": all_scores, "CLASS_COUNT": count}

    def runtime(self) -> dict[str, str]:
        return {**self._session.runtime(), "batch_form": self._batch_form}

    def _upright(self, crop: Tensor, width_px: int, upside_down: float) -> Tensor:
        """float32 (3, 48, width_px): without its padding, and turned if it stands upside down."""
        cut = crop[:, :, :width_px]
        return cut[:, ::-1, ::-1] if upside_down > self._turn_above else cut

    def _read(self, crops: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Tokens and scores of each crop, read in one call at the width of the widest."""
        width_px = max(self._width_px_min, *(crop.shape[2] for crop in crops))
        padded = np.zeros((len(crops), *crops[0].shape[:2], width_px), dtype=np.float32)
        for index, crop in enumerate(crops):
            padded[index, :, :, : crop.shape[2]] = crop
        return [(places.argmax(axis=1), places.max(axis=1)) for places in self._session(padded)]


def load(folder: Path, settings: Settings, *, threads: int) -> Recognizer:
    """Load the network in `folder`."""
    return Recognizer(
        OnnxSession(folder, threads=threads),
        width_px_min=settings["width_px_min"],
        turn_above=settings["turn_above"],
        batch_form=read_batch_form(settings),
    )
