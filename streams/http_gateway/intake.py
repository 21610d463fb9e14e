"""Taking one image from a form to the log: who sends it, is it an image, was it sent before, and then publish.

Guarantees: an answer of 202 means that blob store and broker hold the frame. A submission with an idempotency key
is one frame however often it comes and wherever a crash hits: its id is derived from the key, and only a reservation
settled as published is answered without publishing. A frame refused for what it is leaves a `FrameRefused`. The
assess processor acts next.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import uuid4

import structlog

from schemas import ids
from schemas.errors import FrameRefusedError, TransientError, ViewStoreUnavailableError
from streams.http_gateway.deadlines import within
from streams.http_gateway.limits import HttpLimits
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.problems import ProblemError
from streams.http_gateway.submission import Described, described, device_of, fingerprint, session_of
from streams.http_gateway.upload import Upload, UploadTooLargeError
from streams.idempotency import Outcome, Reservation, Submissions
from streams.images import inspect
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Clock

T = TypeVar("T")
_log = structlog.get_logger("hindsight.http")
# What follows the broker's acknowledgement must not eat up the rest of the deadline.
_MARK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A task that the log holds; `repeated` when an earlier request put it there."""

    task_id: str
    device_id: str
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One submission under way. `key` is None without an idempotency key, and then nothing was reserved."""

    device_id: str
    session_id: str
    captured_at_us: int
    traceparent: str
    key: str | None
    reservation: Reservation

    @property
    def task_id(self) -> str:
        return self.reservation.task_id


class Intake:
    """The way of /analyze.

    Args:
        devices: Whether a device is known.
        clock: Microseconds since the epoch.
    """

    def __init__(
        self,
        *,
        publisher: FramePublisher,
        submissions: Submissions,
        devices: Callable[[str], bool],
        clock: Clock,
        limits: HttpLimits,
        metrics: HttpMetrics,
    ) -> None:
        self._publisher = publisher
        self._submissions = submissions
        self._devices = devices
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._at_work = 0
        self._late: set[asyncio.Task[Any]] = set()

    def enter(self) -> None:
        """Take one of the places for uploads; each needs its `leave`.

        Raises:
            ProblemError: all are taken, also by frames that the broker has not acknowledged yet.
        """
        if self._at_work + len(self._late) >= self._limits.uploads:
            raise ProblemError("busy", f"{self._limits.uploads} submissions are at work")
        self._at_work += 1
        self._metrics.uploads.set(self._at_work)

    def leave(self) -> None:
        self._at_work -= 1
        self._metrics.uploads.set(self._at_work)

    async def submit(self, upload: Upload, *, key: str | None, traceparent: str) -> Accepted:
        """Publish a form's image.

        Raises:
            ProblemError: refused; where a device is known, vision.assessments holds the refusal.
            TransientError: something behind the gateway is away.
        """
        device_id = self._known_device(upload)
        if upload.image is None:
            raise ProblemError("missing_field", "the form has no part `image`")
        print_ = await asyncio.to_thread(fingerprint, upload.image, upload.fields)
        says, wrong = self._described(upload)
        request = await self._reserve(device_id, says, print_, key, traceparent)
        if request.reservation.outcome == "published":
            self._metrics.frames.labels("repeated").inc()
            return Accepted(task_id=request.task_id, device_id=device_id, repeated=True)
        if wrong is not None:
            await self._refuse(request, upload.image, wrong.reason, str(wrong))
        try:
            facts = await asyncio.to_thread(
                inspect, upload.image, max_bytes=self._limits.image_bytes, max_pixels=self._limits.image_pixels
            )
        except FrameRefusedError as error:
            await self._refuse(request, upload.image, error.reason, str(error))
        frame = replace(
            _frame(request, upload.image), media_type=facts.media_type, passage_id=says.passage_id, labels=says.labels
        )
        await self._within_deadline(self._publish(frame, request))
        self._metrics.frames.labels("published").inc()
        return Accepted(task_id=request.task_id, device_id=device_id, repeated=False)

    async def refuse_too_large(self, error: UploadTooLargeError, *, traceparent: str) -> None:
        """Record an image whose reading was stopped, and answer.

        Its key is not reserved: what it would stand for was never read to its end.

        Raises:
            ProblemError: always.
        """
        device_id = self._known_device(error.upload)
        request = self._request(device_id, f"http-{uuid4()}", self._clock(), traceparent, None, "")
        await self._refuse(request, error.upload.image or b"", error.reason, str(error))

    def _known_device(self, upload: Upload) -> str:
        device_id = device_of(upload.fields)
        if not self._devices(device_id):
            raise ProblemError("unknown_device", f"device {device_id!r} is not known here")
        return device_id

    def _described(self, upload: Upload) -> tuple[Described, ProblemError | None]:
        """What the client says; a bad time is kept aside, since it is evidence about a device and goes on the log."""
        try:
            return described(upload.fields), None
        except ProblemError as error:
            if error.reason != "bad_timestamp":
                raise
            return Described(captured_at_us=None, passage_id=None, labels={}), error

    async def _reserve(self, device_id: str, says: Described, print_: str, key: str | None, traceparent: str) -> _Request:
        now_us = self._clock() if says.captured_at_us is None else says.captured_at_us
        session_id = f"http-{uuid4()}" if key is None else session_of(device_id, key)
        request = self._request(device_id, session_id, now_us, traceparent, key, print_)
        if key is None:
            return request
        async with within(self._limits.view_s, ViewStoreUnavailableError):
            found = await self._submissions.reserve(device_id, key, request.reservation)
        if found.fingerprint != print_:
            raise ProblemError(
                "idempotency_key_reused",
                f"this Idempotency-Key stands for task {found.task_id}, which has another image or other fields",
                extra={"task_id": found.task_id},
            )
        return replace(request, reservation=found, captured_at_us=found.captured_at_us)

    def _request(
        self, device_id: str, session_id: str, captured_at_us: int, traceparent: str, key: str | None, print_: str
    ) -> _Request:
        task_id = ids.frame_id(device_id, session_id, 0)
        return _Request(
            device_id=device_id,
            session_id=session_id,
            captured_at_us=captured_at_us,
            traceparent=traceparent,
            key=key,
            reservation=Reservation(task_id=task_id, fingerprint=print_, captured_at_us=captured_at_us),
        )

    async def _publish(self, frame: IncomingFrame, request: _Request) -> None:
        ref = await self._publisher.store(frame)
        del frame
        position = await self._publisher.append(ref, traceparent=request.traceparent)
        try:
            async with within(_MARK_S, ViewStoreUnavailableError):
                await self._submissions.mark_submitted(ref.frame_id, ref.device_id, position)
        except TransientError as error:
            # The log holds the frame: saying otherwise would be wrong, and the views show it soon.
            _log.warning("submission not marked", task_id=ref.frame_id, error=str(error))
        await self._settle(request, "published")

    async def _refuse(self, request: _Request, image: bytes, reason: str, detail: str) -> None:
        """Raises the problem once the log holds the refusal."""
        if request.reservation.outcome != "refused":
            await self._within_deadline(self._record_refusal(_frame(request, image), request, reason, detail))
        self._metrics.frames.labels(reason).inc()
        raise ProblemError(reason, detail, extra={"task_id": request.task_id})

    async def _record_refusal(self, frame: IncomingFrame, request: _Request, reason: str, detail: str) -> None:
        await self._publisher.refuse(frame, reason=reason, detail=detail)
        await self._settle(request, "refused")

    async def _settle(self, request: _Request, outcome: Outcome) -> None:
        if request.key is None:
            return
        try:
            async with within(_MARK_S, ViewStoreUnavailableError):
                await self._submissions.settle(request.device_id, request.key, replace(request.reservation, outcome=outcome))
        except TransientError as error:
            # A repeat publishes the same frame again, which the assess processor knows as a repeat.
            _log.warning("reservation not settled", task_id=request.task_id, error=str(error))

    async def _within_deadline(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result in time. Late work is not cancelled, since the broker may take it all the same: it keeps
        its place among the uploads until it ends.

        Raises:
            ProblemError: out of time.
        """
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=self._limits.publish_s)
        if done:
            return task.result()
        self._late.add(task)
        task.add_done_callback(self._ended_late)
        raise ProblemError("unavailable", f"blob store and broker did not hold the frame within {self._limits.publish_s:g} s")

    def _ended_late(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._metrics.frames.labels("late").inc()
        else:
            _log.warning("late submission failed", error=str(error), kind=type(error).__name__)


def _frame(request: _Request, image: bytes) -> IncomingFrame:
    return IncomingFrame(
        device_id=request.device_id,
        session_id=request.session_id,
        sequence=0,
        captured_at_us=request.captured_at_us,
        image=image,
        media_type="application/octet-stream",
        traceparent=request.traceparent,
    )
