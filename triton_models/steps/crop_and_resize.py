"""Step `crop_and_resize`: from the text map to boxes, and from boxes to crops of one height.

Owns which boxes are read, in which order, and which are only reported; box finding itself is the OCR package's.

Guarantees: any number of crops from 0 to `crops_max`; boxes below the request's threshold, or beyond the limit, are
handed on as candidates with the reason, at most `candidates_max` of them, the best first.

Next: `classifier` and `recognizer` read the crops, `postprocess` the boxes and candidates.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rapidocr.ch_ppocr_det.utils import DBPostProcess
from rapidocr.utils.process_img import get_rotate_crop_image

from .contract import Settings, Tensor, Tensors, Thresholds, bytes_tensor, json_bytes, read_bytes, read_thresholds

_CROP_HEIGHT_PX = 48
_CLASSIFIER_WIDTH_PX = 192
_LINE_HEIGHT_PX = 10  # boxes whose tops are closer than this stand on one line; as the OCR package has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in the picture: corners float32 (4, 2) in pixels, clockwise from top left, and its score, 0 to 1."""

    corners_px: Tensor
    score: float


class CropAndResize:
    """Inputs and outputs:

    PIXELS uint8 (1, height, width, 3), BGR; TEXT_MAP float32 (1, 1, H, W); PARAMETERS BYTES (1,)
    -> BOXES float32 (N, 4, 2), pixels of the picture, in reading order; BOX_SCORES float32 (N,);
       CLASSIFIER_PIXELS float32 (N, 3, 48, 192); RECOGNIZER_PIXELS float32 (N, 3, 48, W), W that of the widest crop;
       WIDTHS int32 (N,), pixels of each crop before padding; IMAGE_SIZE int32 (2,), width and height;
       DETECTION_CANDIDATES BYTES (1,), a JSON array of boxes that are not read.

    Source: rapidocr's DBPostProcess, get_rotate_crop_image, and resize_norm_img of classifier and recognizer.
    """

    def __init__(self, settings: Settings, *, threads: int) -> None:
        self._settings = settings
        self._threads = threads

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        cv2.setNumThreads(self._threads)  # one setting for the whole process, where other releases may be loaded too
        thresholds = read_thresholds(read_bytes(tensors, "PARAMETERS"))
        image = tensors["PIXELS"][0]
        boxes, candidates = self._chosen(self._boxes(tensors["TEXT_MAP"], image.shape[:2], thresholds), thresholds)
        crops = [get_rotate_crop_image(image, box.corners_px) for box in boxes]
        width_px_max = self._settings["width_px_max"]
        wide = [_fitted(crop, width_px_max) for crop in crops]
        return {
            "BOXES": np.array([box.corners_px for box in boxes], dtype=np.float32).reshape(-1, 4, 2),
            "BOX_SCORES": np.array([box.score for box in boxes], dtype=np.float32),
            "CLASSIFIER_PIXELS": _padded([_fitted(crop, _CLASSIFIER_WIDTH_PX) for crop in crops], _CLASSIFIER_WIDTH_PX),
            "RECOGNIZER_PIXELS": _padded(wide, max((crop.shape[2] for crop in wide), default=_CROP_HEIGHT_PX)),
            "WIDTHS": np.array([crop.shape[2] for crop in wide], dtype=np.int32),
            "IMAGE_SIZE": np.array([image.shape[1], image.shape[0]], dtype=np.int32),
            "DETECTION_CANDIDATES": bytes_tensor(json_bytes(candidates)),
        }

    def runtime(self) -> dict[str, str]:
        return {"opencv": cv2.__version__}

    def _boxes(self, text_map: Tensor, size_px: tuple[int, int], thresholds: Thresholds) -> list[Box]:
        finder = DBPostProcess(
            thresh=thresholds.detection_threshold,
            box_thresh=min(thresholds.box_threshold, self._settings["candidate_score_min"]),
            max_candidates=self._settings["contours_max"],
            unclip_ratio=self._settings["unclip_ratio"],
            use_dilation=True,
        )
        corners, scores = finder(text_map, size_px)
        return [Box(corners_px=c.astype(np.float32), score=float(s)) for c, s in zip(corners, scores, strict=True)]

    def _chosen(self, found: list[Box], thresholds: Thresholds) -> tuple[list[Box], list[dict[str, Any]]]:
        """Split into the boxes to read, in reading order, and candidates, the best first."""
        best_first = sorted(found, key=lambda box: (-box.score, *box.corners_px.reshape(-1).tolist()))
        above = [box for box in best_first if box.score >= thresholds.box_threshold]
        below = [box for box in best_first if box.score < thresholds.box_threshold]
        crops_max = self._settings["crops_max"]
        candidates = [_candidate(box, f"more than {crops_max} boxes in the frame") for box in above[crops_max:]]
        reason = f"detection_score below box_threshold {thresholds.box_threshold:g}"
        candidates += [_candidate(box, reason) for box in below]
        return _in_reading_order(above[:crops_max]), candidates[: self._settings["candidates_max"]]


def load(folder: Path, settings: Settings, *, threads: int) -> CropAndResize:
    """Take the settings; there is no network in this step."""
    return CropAndResize(settings, threads=threads)


def _candidate(box: Box, reason: str) -> dict[str, Any]:
    return {
        "kind": "text",
        "label": "",
        "confidence": 0.0,
        "detection_score": float(np.float32(box.score)),
        "polygon_px": box.corners_px.reshape(-1).tolist(),
        "measures": {},
        "stage": "detection",
        "reason": reason,
    }


def _in_reading_order(boxes: list[Box]) -> list[Box]:
    """Lines from top to bottom, in a line from left to right.

    The package's own ordering moves boxes without their scores, so that the two no longer belong together.
    """
    lines: list[list[Box]] = []
    last_top_px = -math.inf
    for box in sorted(boxes, key=lambda box: (float(box.corners_px[0, 1]), float(box.corners_px[0, 0]))):
        top_px = float(box.corners_px[0, 1])
        if not lines or top_px - last_top_px >= _LINE_HEIGHT_PX:
            lines.append([])
        lines[-1].append(box)
        last_top_px = top_px
    return [box for line in lines for box in sorted(line, key=lambda box: float(box.corners_px[0, 0]))]


def _fitted(crop: Tensor, width_px_max: int) -> Tensor:
    """float32 (3, 48, w), -1 to 1: the crop at its own aspect, squeezed only beyond `width_px_max`."""
    height_px, width_px = crop.shape[:2]
    fitted_px = min(math.ceil(_CROP_HEIGHT_PX * width_px / height_px), width_px_max)
    resized = cv2.resize(crop, (fitted_px, _CROP_HEIGHT_PX)).astype(np.float32)
    normalised: Tensor = (resized.transpose(2, 0, 1) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return normalised


def _padded(crops: list[Tensor], width_px: int) -> Tensor:
    batch = np.zeros((len(crops), 3, _CROP_HEIGHT_PX, width_px), dtype=np.float32)
    for index, crop in enumerate(crops):
        batch[index, :, :, : crop.shape[2]] = crop
    return batch
