"""`FrameProducer`: frames from a Python program onto the log, without any gateway.

Guarantees: a receipt means that blob store and broker hold the frame. Frames of one device lie on the log in the
order in which they were handed over. A frame whose bytes cannot be stored in time is given up and leaves a gap in its
device's sequence, which the assess processor, acting next, reports. A frame that waits for the broker is not given up
while the program lives.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from types import TracebackType
from typing import Self
from uuid import uuid4

import stamina

from schemas.errors import (
    BlobStoreUnavailableError,
    ConfigurationError,
    ContractError,
    FrameRefusedError,
    LogUnavailableError,
)
from schemas.types import FrameRef
from streams.admission import NAME_RULE, is_name, is_time, trouble_in_texts
from streams.blobs import S3BlobStore
from streams.images import inspect
from streams.kafka_appender import KafkaAppender
from streams.names import Namespace
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Clock, system_clock
from streams.registry import RegistrySchemas
from streams.sdk.values import FrameReceipt, microseconds

_MAX_BYTES, _MAX_PIXELS = 8 * 1024 * 1024, 50_000_000

Image = bytes | os.PathLike[str]


class FrameProducer:
    """Sends frames; use it as a context manager, or `close` it.

    Args:
        publisher: Made with channel "sdk".
        session_id: One run of this program's streams; sequences start at 0 in each. Drawn when it is left out.
        in_flight: Most frames handed over and not acknowledged; `submit` waits beyond it.
        store_s: How long to try to store a frame's bytes, in seconds.
        on_close: Called at the end, to close what the publisher was made of.
    Raises:
        ConfigurationError: `session_id` is no name that a session can have.

    Example:
        >>> from streams import FrameProducer
        >>> with FrameProducer.connect(
        ...     bootstrap_servers=kafka, registry_url=registry,
        ...     s3_endpoint=s3, s3_access_key=access_key, s3_secret_key=secret_key, namespace=namespace,
        ... ) as producer:
        ...     receipt = producer.send(image, device_id="gate-1", passage_id="truck-7")
        >>> receipt.position.topic, receipt.frame.device_id, receipt.frame.sequence
        ('vision.frames', 'gate-1', 0)
    """

    def __init__(
        self,
        publisher: FramePublisher,
        *,
        session_id: str | None = None,
        in_flight: int = 32,
        max_bytes: int = _MAX_BYTES,
        max_pixels: int = _MAX_PIXELS,
        store_s: float = 30.0,
        clock: Clock = system_clock,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self.session_id = _session(session_id)
        self._limits = {"max_bytes": max_bytes, "max_pixels": max_pixels}
        self._store_s = store_s
        self._clock = clock
        self._on_close = on_close
        self._room = BoundedSemaphore(in_flight)
        self._lock = Lock()
        self._sequences: dict[str, int] = {}
        # The append before, for each device: a frame's own waits for it to be queued.
        self._queued: dict[str, asyncio.Event] = {}
        self._open: set[Future[FrameReceipt]] = set()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="frame-producer", daemon=True)
        self._thread.start()

    @classmethod
    def connect(
        cls,
        *,
        bootstrap_servers: str,
        registry_url: str,
        s3_endpoint: str,
        s3_access_key: str,
        s3_secret_key: str,
        s3_secure: bool = False,
        bucket: str = "frames",
        namespace: str = "",
        session_id: str | None = None,
        in_flight: int = 32,
    ) -> "FrameProducer":
        """A producer on real servers; topics and bucket must be there (`hindsight up` makes them).

        Args:
            bootstrap_servers: Kafka, host:port, comma separated.
            registry_url: Base address of the Confluent-compatible registry.
            s3_endpoint: host:port.
            bucket: Name before the namespace is put in front of it.
            namespace: Empty unless several installations share the servers.
        Raises:
            ConfigurationError: `session_id` is no name that a session can have.
            RegistryUnavailableError: no answer.
        """
        session_id = _session(session_id)
        space = Namespace(namespace)
        schemas = RegistrySchemas(registry_url, space)
        schemas.register_all()
        blobs = S3BlobStore(
            s3_endpoint, access_key=s3_access_key, secret_key=s3_secret_key, bucket=space.bucket(bucket), secure=s3_secure
        )
        threads = ThreadPoolExecutor(min(in_flight, 16), thread_name_prefix="frame-producer-blobs")
        appender = KafkaAppender(bootstrap_servers, space)

        def close() -> None:
            appender.close()
            threads.shutdown(wait=False, cancel_futures=True)

        publisher = FramePublisher(
            appender=appender, blobs=blobs, schemas=schemas, clock=system_clock, channel="sdk", threads=threads
        )
        return cls(publisher, session_id=session_id, in_flight=in_flight, on_close=close)

    def send(
        self,
        image: Image,
        *,
        device_id: str,
        captured_at: datetime | None = None,
        passage_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        traceparent: str = "",
        timeout_s: float | None = 30.0,
    ) -> FrameReceipt:
        """Send one frame and wait until blob store and broker hold it.

        Args:
            image: Encoded bytes (JPEG, PNG, WebP, BMP), or the path of a file.
            captured_at: With an offset; now when it is left out.
            timeout_s: How long to wait. The frame is not taken back afterwards, and may still arrive.
        Raises:
            FrameRefusedError: not an image, too large, cut off, or a name, time or label that no door lets in; nothing was sent.
            BlobStoreUnavailableError: its bytes could not be stored; the frame is given up.
            LogUnavailableError: the broker did not answer in time.
        """
        sending = self.submit(
            image, device_id=device_id, captured_at=captured_at, passage_id=passage_id, labels=labels, traceparent=traceparent
        )
        try:
            return sending.result(timeout_s)
        except TimeoutError as error:
            raise LogUnavailableError(f"no acknowledgement within {timeout_s} s; the frame may still arrive") from error

    def submit(
        self,
        image: Image,
        *,
        device_id: str,
        captured_at: datetime | None = None,
        passage_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        traceparent: str = "",
    ) -> "Future[FrameReceipt]":
        """The same without waiting for the acknowledgement, which the future gives (`asyncio.wrap_future` awaits it).

        Waits while `in_flight` frames are under way. `flush` waits for all of them.
        """
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        captured_at_us = self._clock() if captured_at is None else microseconds(captured_at)
        _admit(device_id, captured_at_us, passage_id or "", labels or {})
        facts = inspect(content, **self._limits)
        frame = IncomingFrame(
            device_id=device_id,
            session_id=self.session_id,
            sequence=0,
            captured_at_us=captured_at_us,
            image=content,
            media_type=facts.media_type,
            passage_id=passage_id,
            labels=labels or {},
            traceparent=traceparent,
        )
        self._room.acquire()
        with self._lock:
            if self._closed:
                self._room.release()
                raise ContractError("the producer is closed")
            sequence = self._sequences.get(device_id, 0)
            self._sequences[device_id] = sequence + 1
            before, queued = self._queued.get(device_id), asyncio.Event()
            self._queued[device_id] = queued
            # Under the lock, so that the loop sees a device's frames in the order of their sequence.
            sending = asyncio.run_coroutine_threadsafe(self._send(replace(frame, sequence=sequence), before, queued), self._loop)
            self._open.add(sending)
        sending.add_done_callback(self._ended)
        return sending

    def flush(self, timeout_s: float | None = None) -> int:
        """Wait for everything handed over so far; gives the number of frames still under way after `timeout_s`."""
        with self._lock:
            waiting = set(self._open)
        return len(wait_for(waiting, timeout=timeout_s).not_done)

    def close(self, timeout_s: float = 30.0) -> int:
        """Flush and let go of everything; gives the number of frames that did not get through in time."""
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        left = self.flush(timeout_s)
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._on_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        left = self.close()
        if left and error is None:
            raise LogUnavailableError(f"{left} frames were not acknowledged before the producer closed")

    async def _send(self, frame: IncomingFrame, before: asyncio.Event | None, queued: asyncio.Event) -> FrameReceipt:
        try:
            ref = await self._stored(frame)
            if before is not None:
                await before.wait()
            appending = asyncio.ensure_future(self._publisher.append(ref, traceparent=frame.traceparent))
            # One turn of the loop runs the append up to its place in the client's queue.
            await asyncio.sleep(0)
        finally:
            queued.set()
        return FrameReceipt(frame=ref, position=await appending)

    async def _stored(self, frame: IncomingFrame) -> FrameRef:
        async for attempt in stamina.retry_context(
            on=BlobStoreUnavailableError, attempts=None, timeout=self._store_s, wait_initial=0.1, wait_max=5.0
        ):
            with attempt:
                ref = await self._publisher.store(frame)
        return ref

    def _ended(self, sending: "Future[FrameReceipt]") -> None:
        self._room.release()
        with self._lock:
            self._open.discard(sending)


def _session(given: str | None) -> str:
    """A session's id, held to what the other doors let in; drawn when none is given."""
    if given is not None and not is_name(given):
        raise ConfigurationError(
            f"session_id holds {NAME_RULE}, and not {given[:64]!r}", setting="session_id", do="choose another session_id"
        )
    return given if given is not None else f"sdk-{uuid4()}"


def _admit(device_id: str, captured_at_us: int, passage_id: str, labels: Mapping[str, str]) -> None:
    """Hold a frame's description to what the other doors let in."""
    if not is_name(device_id):
        raise FrameRefusedError(f"device_id holds {NAME_RULE}", reason="invalid_device")
    if not is_time(captured_at_us):
        raise FrameRefusedError("captured_at is not in the years 2000 to 2099", reason="invalid_captured_at")
    if trouble := trouble_in_texts(passage_id, labels):
        raise FrameRefusedError(trouble, reason="invalid_labels")


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
