"""A frame with its readings drawn on it, as a small JPEG: what the worst cases show side by side."""

from collections.abc import Iterable

import cv2
import numpy as np

from processors.lookback.pictures import decoded, fitted
from processors.whatif.match import Kind
from schemas.errors import ContractError
from schemas.types import Reading

_SIDE_PX_MOST = 480
_COLOURS_BGR = {
    Kind.SAME: (150, 150, 150),
    Kind.MOVED: (0, 165, 255),
    Kind.CHANGED: (200, 60, 200),
    Kind.LOST: (40, 40, 230),
    Kind.GAINED: (60, 180, 40),
}


def drawn(image: bytes, marked: Iterable[tuple[Kind, Reading]]) -> bytes | None:
    """The picture with a numbered outline for each reading, from 1 on, at most 480 px wide or high.

    Returns:
        JPEG bytes; None when these bytes cannot be decoded.
    """
    try:
        small, scale = fitted(decoded(image), side_px_max=_SIDE_PX_MOST)
    except ContractError:
        return None
    for number, (kind, reading) in enumerate(marked, start=1):
        corners = np.asarray(reading.polygon_px, dtype=np.float64)
        if len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
            continue
        # Corners far outside of the picture would overflow OpenCV's whole numbers.
        points = np.clip(corners.reshape(-1, 2) * scale, -10_000, 10_000).round().astype(np.int32)
        cv2.polylines(small, [points.reshape(-1, 1, 2)], True, _COLOURS_BGR[kind], 2, cv2.LINE_AA)
        x, y = int(points[:, 0].min()), int(points[:, 1].min())
        at = (max(2, x), max(14, y - 4))
        cv2.putText(small, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(small, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _COLOURS_BGR[kind], 1, cv2.LINE_AA)
    done, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return bytes(encoded.tobytes()) if done else None
