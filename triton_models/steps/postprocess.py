"""Step `postprocess`: from tokens to text, and from everything to one answer.

Owns the form of RESULT, and which readings are observations and which only candidates; decoding itself is the OCR
package's. `run` joins the reports of all steps here.

Guarantees: an observation's confidence is at least the request's `text_confidence`; what is below is a candidate with
the reason; the same inputs give the same bytes.

Next: the caller records RESULT and REPORT as one event.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

from .contract import Settings, StepError, Tensor, Tensors, bytes_tensor, json_bytes, read_bytes, read_thresholds

VOCABULARY_PREFIX = "vocabulary_"


class Postprocess:
    """Inputs and outputs:

    IMAGE_SIZE int32 (2,), width and height; BOXES float32 (N, 4, 2), pixels; BOX_SCORES float32 (N,);
    WIDTHS int32 (N,); ORIENTATION float32 (N, 2); TOKENS int32 (N, T); TOKEN_SCORES float32 (N, T);
    CLASS_COUNT int32 (1,); DETECTION_CANDIDATES and PARAMETERS BYTES (1,); REPORT_* BYTES (1,) of the steps before
    -> RESULT BYTES (1,), JSON: image, observations, candidates. `run` adds REPORT.

    Args:
        decoders: By the number of classes of the network that it reads: which text do tokens mean?
    Source: rapidocr's CTCLabelDecode.
    """

    def __init__(self, decoders: dict[int, CTCLabelDecode], settings: Settings) -> None:
        self._decoders = decoders
        self._settings = settings

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        threshold = read_thresholds(read_bytes(tensors, "PARAMETERS")).text_confidence
        readings = self._readings(tensors)
        observations = [reading for reading in readings if reading["confidence"] >= threshold]
        unsure = [reading for reading in readings if reading["confidence"] < threshold]
        unsure.sort(key=lambda reading: -reading["confidence"])
        reason = f"text_confidence below {threshold:g}"
        candidates = [{**reading, "stage": "recognizer", "reason": reason} for reading in unsure]
        candidates += _json(tensors, "DETECTION_CANDIDATES")
        width_px, height_px = (int(side) for side in tensors["IMAGE_SIZE"])
        result = {
            "image": {"width_px": width_px, "height_px": height_px},
            "observations": _numbered(observations),
            "candidates": _numbered(candidates[: self._settings["candidates_max"]]),
        }
        return {"RESULT": bytes_tensor(json_bytes(result))}

    def runtime(self) -> dict[str, str]:
        return {}

    def _readings(self, tensors: Tensors) -> list[dict[str, Any]]:
        texts = self._texts(tensors)
        orientation = tensors["ORIENTATION"]
        turned = orientation[:, 1] > self._settings["turn_above"]
        return [
            {
                "kind": "text",
                "label": text,
                "confidence": confidence,
                "detection_score": float(tensors["BOX_SCORES"][index]),
                "polygon_px": tensors["BOXES"][index].reshape(-1).tolist(),
                "measures": {
                    "orientation_deg": 180.0 if turned[index] else 0.0,
                    "orientation_score": float(orientation[index].max()),
                    "crop_width_px": float(tensors["WIDTHS"][index]),
                },
            }
            for index, (text, confidence) in enumerate(texts)
        ]

    def _texts(self, tensors: Tensors) -> list[tuple[str, float]]:
        class_count = int(tensors["CLASS_COUNT"][0])
        if class_count not in self._decoders:
            raise StepError(f"no vocabulary of {class_count} classes; known are {sorted(self._decoders)}")
        tokens = np.asarray(tensors["TOKENS"])
        decoded, _ = self._decoders[class_count].decode(tokens, tensors["TOKEN_SCORES"], remove_duplicate=True)
        return [(text, float(confidence)) for text, confidence in decoded]


def load(folder: Path, settings: Settings, *, threads: int) -> Postprocess:
    """Read the vocabularies in `folder`: one character a line; blank and space are added as the package does.

    Raises:
        FileNotFoundError: There is none.
    """
    decoders = {}
    for path in sorted(folder.glob(f"{VOCABULARY_PREFIX}*.txt")):
        decoder = CTCLabelDecode(character=path.read_bytes().decode().split("\n"))
        decoders[len(decoder.character)] = decoder
    if not decoders:
        raise FileNotFoundError(folder / f"{VOCABULARY_PREFIX}*.txt")
    return Postprocess(decoders, settings)


def _json(tensors: Tensors, name: str) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(read_bytes(tensors, name))
    return value


def _numbered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": index, **one} for index, one in enumerate(found)]
