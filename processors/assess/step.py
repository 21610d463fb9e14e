"""The assess processor: fetches the bytes, measures them, lets the core decide."""

import asyncio
from typing import Any

from processors.assess import core
from processors.assess.measure import measure
from processors.step import NOTHING, Cause, Prepared
from schemas.catalogue import FRAMES
from schemas.errors import BlobGoneError, DigestError
from schemas.events import FrameCaptured, FramesDropped
from streams.ports import BlobStore


class AssessStep:
    """Reads vision.frames. State: each device's sequences.

    Args:
        max_bytes: Largest encoded image.
        max_pixels: Most pixels of an image.
    """

    name = "assess"
    topic = FRAMES
    state_type = core.DeviceSequences
    initial = core.INITIAL

    def __init__(self, blobs: BlobStore, *, limits: core.Limits, max_bytes: int, max_pixels: int) -> None:
        self._blobs = blobs
        self._limits = limits
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def key(self, event: Any) -> str | None:
        return str(event.device_id if isinstance(event, FramesDropped) else event.frame.device_id)

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if not isinstance(event, FrameCaptured):
            return NOTHING
        return Prepared(answer=await asyncio.to_thread(self._measure, event))

    def decide(self, state: core.DeviceSequences, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return core.decide(self._limits, state, event, answer, cause)

    def fold(self, state: core.DeviceSequences, event: Any) -> core.DeviceSequences:
        return core.fold(state, event)

    def _measure(self, event: FrameCaptured) -> core.ImageMeasured | core.ImageUnusable:
        try:
            content = self._blobs.get(event.frame.blob)
        except BlobGoneError as error:
            return core.ImageUnusable(reason="blob_gone", detail=str(error))
        except DigestError as error:
            return core.ImageUnusable(reason="blob_changed", detail=str(error))
        return measure(content, max_bytes=self._max_bytes, max_pixels=self._max_pixels)
