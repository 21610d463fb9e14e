"""How a frame enters the log: bytes to the blob store, then `FrameCaptured` to vision.frames. All doors lead here.

Guarantees: when a call returns, the blob store and the broker both hold the frame. The event's id is derived from
device, session and sequence, so a frame sent twice is seen as one by the assess processor, which acts next.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from schemas import catalogue, ids
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.events import FrameCaptured, FrameRefused, FramesDropped
from schemas.types import BlobRef, DeviceId, FrameRef
from streams.packing import Packer
from streams.ports import Appender, BlobScope, BlobStore
from streams.records import Clock, Outgoing, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingFrame:
    """One frame as a producer hands it over.

    Args:
        device_id: Who captured it.
        session_id: One run of the device's stream; sequence starts at 0 in each.
        sequence: Place in the session, from 0.
        captured_at_us: Device clock at capture, microseconds since the epoch, UTC.
        image: The encoded image.
        media_type: Such as image/jpeg.
        passage_id: What passes the device, if a trigger knows.
    """

    device_id: str
    session_id: str
    sequence: int
    captured_at_us: int
    image: bytes = field(repr=False)
    media_type: str = "image/jpeg"
    passage_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""


class FramePublisher:
    """Puts frames on the log.

    Args:
        channel: How they came in: grpc, http or sdk.
        threads: Where blocking calls to the blob store run.
        packer: Puts small frames together into segments; without one, each is an object.
    """

    def __init__(
        self,
        *,
        appender: Appender,
        blobs: BlobStore,
        schemas: Schemas,
        clock: Clock,
        channel: str,
        threads: Executor | None = None,
        packer: Packer | None = None,
    ) -> None:
        self._appender = appender
        self._blobs = blobs
        self._schemas = schemas
        self._clock = clock
        self._channel = channel
        self._threads = threads
        self._packer = packer

    async def store(self, frame: IncomingFrame) -> FrameRef:
        """Put the image into the blob store; the first half of `publish`, which may run for several frames at once.

        Raises:
            BlobStoreUnavailableError: it is not stored.
        """
        scope = BlobScope(device_id=frame.device_id, captured_at_us=frame.captured_at_us)
        if self._packer is not None:
            return frame_ref(frame, await self._packer.put(frame.image, frame.media_type, scope=scope))
        put = partial(self._blobs.put, frame.image, frame.media_type, scope=scope)
        return frame_ref(frame, await asyncio.get_running_loop().run_in_executor(self._threads, put))

    async def append(self, frame: FrameRef, *, traceparent: str = "") -> Position:
        """Put the event on the log; the second half, which must be called in a device's order.

        Raises:
            LogUnavailableError: the broker does not hold it.
        """
        event = FrameCaptured(
            event_id=ids.captured_id(frame.frame_id), frame=frame, received_at_us=self._clock(), channel=self._channel
        )
        return await self._send(event, frame.device_id, frame.frame_id, traceparent)

    async def publish(self, frame: IncomingFrame) -> Position:
        """Both halves: returns when the blob store and the broker hold the frame."""
        return await self.append(await self.store(frame), traceparent=frame.traceparent)

    async def publish_dropped(
        self, *, device_id: str, session_id: str, first_sequence: int, last_sequence: int, frames_count: int, reason: str
    ) -> Position:
        """Record that a spool gave frames up."""
        event = FramesDropped(
            event_id=ids.named_id("dropped", device_id, session_id, str(first_sequence), str(last_sequence)),
            device_id=DeviceId(device_id),
            session_id=session_id,
            first_sequence=first_sequence,
            last_sequence=last_sequence,
            frames_count=frames_count,
            reason=reason,
            received_at_us=self._clock(),
        )
        return await self._send(event, device_id, event.event_id, "")

    async def refuse(self, frame: IncomingFrame, *, reason: str, detail: str) -> Position:
        """Record a frame that the door did not let in; its bytes are not kept. The assess processor rejects it next.

        Args:
            reason: A code, such as not_an_image, truncated, too_many_pixels or too_large.
        """
        sha256 = hashlib.sha256(frame.image).hexdigest()
        blob = BlobRef(sha256=sha256, size_bytes=len(frame.image), media_type=frame.media_type)
        ref = frame_ref(frame, blob)
        event = FrameRefused(
            event_id=ids.named_id("refused", ref.frame_id),
            frame=ref,
            reason=reason,
            detail=detail,
            received_at_us=self._clock(),
            channel=self._channel,
        )
        return await self._send(event, frame.device_id, ref.frame_id, frame.traceparent)

    async def _send(
        self, event: FrameCaptured | FramesDropped | FrameRefused, device_id: str, cause: str, traceparent: str
    ) -> Position:
        envelope = envelope_of(
            event,
            source=f"hindsight/{self._channel}",
            time_us=self._clock(),
            correlation_id=cause,
            causation_id=cause,
            traceparent=traceparent,
        )
        return await self._appender.append(
            Outgoing(
                topic=catalogue.TOPIC_OF[type(event)],
                key=device_id.encode(),
                value=encode(event, self._schemas),
                headers=to_headers(envelope),
            )
        )


def frame_ref(frame: IncomingFrame, blob: BlobRef) -> FrameRef:
    """The frame's reference, with its derived id."""
    return FrameRef(
        frame_id=ids.frame_id(frame.device_id, frame.session_id, frame.sequence),
        device_id=DeviceId(frame.device_id),
        session_id=frame.session_id,
        sequence=frame.sequence,
        captured_at_us=frame.captured_at_us,
        blob=blob,
        passage_id=frame.passage_id,
        labels=dict(frame.labels),
    )
