"""One stream of a client: reads frames until something ends it, and answers each in the order of receipt.

Reading and answering run side by side, joined by a bounded queue of outcomes to come: reading never waits for Kafka
itself, only for room, and while it waits HTTP/2 flow control makes the client wait. Whatever ends the reading, every
frame that was read is answered before the stream ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

from streams.grpc_gateway import metrics
from streams.grpc_gateway.generated.frames_pb2 import Frame, FrameAck, LogPosition
from streams.grpc_gateway.intake import Outcome, Status
from streams.grpc_gateway.limits import GatewayLimits
from streams.grpc_gateway.sessions import TooManyError

Answer = Callable[[FrameAck], Awaitable[None]]
Take = Callable[[Frame], Awaitable[tuple["asyncio.Future[Outcome]", bool]]]
_STATUS = {Status.ACCEPTED: FrameAck.ACCEPTED, Status.REJECTED: FrameAck.REJECTED, Status.DUPLICATE: FrameAck.DUPLICATE}


@dataclass(frozen=True, slots=True)
class End:
    """Why a stream ends; a code of OK when the client is done."""

    code: grpc.StatusCode
    detail: str = ""


@dataclass(slots=True)
class Tally:
    """How the frames of a stream fared."""

    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0

    async def count(self, ack: FrameAck) -> None:
        match ack.status:
            case FrameAck.ACCEPTED:
                self.accepted += 1
            case FrameAck.REJECTED:
                self.rejected += 1
            case _:
                self.duplicate += 1


@dataclass(frozen=True, slots=True)
class _Waiting:
    device_id: str
    session_id: str
    sequence: int
    outcome: "asyncio.Future[Outcome]"
    repeated: bool
    since_s: float


class FrameStream:
    """Carries one stream.

    Args:
        context: The call; frames are read from it.
        take: Takes a message in and gives its outcome to come.
        answer: Called with each acknowledgement, in order; waiting in it holds up the reading.
        draining: Set when the gateway takes no more.
    """

    def __init__(
        self,
        context: "grpc.aio.ServicerContext[Frame, FrameAck]",
        limits: GatewayLimits,
        *,
        take: Take,
        answer: Answer,
        draining: asyncio.Event,
    ) -> None:
        self._context = context
        self._limits = limits
        self._take = take
        self._answer = answer
        self._draining = draining
        self._waiting: asyncio.Queue[_Waiting | End] = asyncio.Queue(limits.window_frames)

    async def carry(self) -> End:
        """Run to the end; gives why it ended."""
        reading = asyncio.create_task(self._read_all())
        answering = asyncio.create_task(self._answer_all())
        try:
            await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            return await answering
        finally:
            for task in (reading, answering):
                task.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)

    async def _read_all(self) -> None:
        draining = asyncio.create_task(self._draining.wait())
        try:
            end = await self._read_frames(draining)
        except TooManyError as error:
            end = End(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        finally:
            draining.cancel()
        await self._waiting.put(end)

    async def _read_frames(self, draining: "asyncio.Task[bool]") -> End:
        for _ in range(self._limits.frames_per_stream_max):
            reading = asyncio.ensure_future(self._context.read())
            try:
                await asyncio.wait({reading, draining}, timeout=self._limits.idle_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not reading.done():
                    reading.cancel()
            if draining.done():
                return End(grpc.StatusCode.UNAVAILABLE, "the gateway is draining; connect again")
            if not reading.done() or reading.cancelled():
                return End(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing was sent for {self._limits.idle_s} s")
            message = reading.result()
            if message is grpc.aio.EOF:
                return End(grpc.StatusCode.OK)
            since_s = time.monotonic()
            outcome, repeated = await self._take(message)
            await self._waiting.put(_Waiting(message.device_id, message.session_id, message.sequence, outcome, repeated, since_s))
        return End(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"this stream carried its {self._limits.frames_per_stream_max} frames; open another",
        )

    async def _answer_all(self) -> End:
        while isinstance(waiting := await self._waiting.get(), _Waiting):
            # Waiting without awaiting it: another stream may wait for the same outcome, and must not lose it with us.
            if not waiting.outcome.done():
                await asyncio.wait({waiting.outcome})
            if waiting.outcome.cancelled():
                return End(grpc.StatusCode.UNAVAILABLE, "a frame was given up before it was published; send it again")
            if waiting.outcome.exception() is not None:
                return End(grpc.StatusCode.INTERNAL, "a frame could not be published; the gateway's log says why")
            ack = _acknowledgement(waiting, waiting.outcome.result())
            metrics.FRAMES.labels(FrameAck.Status.Name(ack.status).lower()).inc()
            metrics.ACK_SECONDS.observe(time.monotonic() - waiting.since_s)
            await self._answer(ack)
        return waiting


def _acknowledgement(waiting: _Waiting, outcome: Outcome) -> FrameAck:
    repeated = waiting.repeated and outcome.status is Status.ACCEPTED
    ack = FrameAck(
        device_id=waiting.device_id,
        session_id=waiting.session_id,
        sequence=waiting.sequence,
        status=_STATUS[Status.DUPLICATE if repeated else outcome.status],
        reason=outcome.reason,
        detail=outcome.detail,
    )
    if outcome.position is not None:
        where = outcome.position
        ack.position.CopyFrom(LogPosition(topic=where.topic, partition=where.partition, offset=where.offset))
    return ack
