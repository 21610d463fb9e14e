"""Step `recognizer`: which characters does a crop show?

Owns turning crops that stand upside down, and the call of the reading network: one crop a call, at the crop's own
width, so that a reading does not depend on the other crops of its frame (batching changes bits, and with them
sometimes characters).

Next: `postprocess` decodes TOKENS to text with the vocabulary of CLASS_COUNT classes.
"""

from pathlib import Path

import numpy as np

from .contract import Settings, Tensor, Tensors
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
    Source: PP-OCRv4 and PP-OCRv6 text recognition (CTC); rapidocr's config.yaml, Cls.cls_thresh.
    """

    def __init__(self, session: OnnxSession, *, width_px_min: int, turn_above: float) -> None:
        self._session = session
        self._width_px_min = width_px_min
        self._turn_above = turn_above
        probe = np.zeros((1, 3, 48, width_px_min), dtype=np.float32)
        self._class_count = int(session(probe).shape[2])

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        crops, widths, orientation = (tensors[name] for name in ("RECOGNIZER_PIXELS", "WIDTHS", "ORIENTATION"))
        read = [self._read(crops[i], int(widths[i]), float(orientation[i, 1])) for i in range(len(crops))]
        places = max((len(tokens) for tokens, _ in read), default=1)
        all_tokens = np.zeros((len(read), places), dtype=np.int32)
        all_scores = np.zeros((len(read), places), dtype=np.float32)
        for index, (tokens, scores) in enumerate(read):
            all_tokens[index, : len(tokens)] = tokens
            all_scores[index, : len(scores)] = scores
        count = np.array([self._class_count], dtype=np.int32)
        return {"TOKENS": all_tokens, "TOKEN_SCORES": all_scores, "CLASS_COUNT": count}

    def runtime(self) -> dict[str, str]:
        return self._session.runtime()

    def _read(self, crop: Tensor, width_px: int, upside_down: float) -> tuple[Tensor, Tensor]:
        upright = crop[:, :, :width_px]
        if upside_down > self._turn_above:
            upright = upright[:, ::-1, ::-1]
        padded = np.zeros((1, 3, crop.shape[1], max(width_px, self._width_px_min)), dtype=np.float32)
        padded[0, :, :, :width_px] = upright
        probabilities = self._session(padded)[0]
        return probabilities.argmax(axis=1), probabilities.max(axis=1)


def load(folder: Path, settings: Settings, *, threads: int) -> Recognizer:
    """Load the network in `folder`."""
    session = OnnxSession(folder, threads=threads)
    return Recognizer(session, width_px_min=settings["width_px_min"], turn_above=settings["turn_above"])
