"""`hindsight.v1.FrameService`: checks each frame, takes it in, and acknowledges it once it is safe.

Guarantees: a frame is acknowledged ACCEPTED or DUPLICATE only when the broker and the blob store hold it, and REJECTED
only when its `FrameRefused` is on the log or its device is not known. The assess processor acts next.
"""

import asyncio

import grpc

from streams.grpc_gateway import metrics
from streams.grpc_gateway.checks import Admitted, Checked, KnownDevice, Notice, Refused, any_device, check
from streams.grpc_gateway.generated import frames_pb2_grpc
from streams.grpc_gateway.generated.frames_pb2 import Frame, FrameAck, StreamResult
from streams.grpc_gateway.intake import Append, Outcome, Status
from streams.grpc_gateway.limits import IMAGE_BYTES_KEY, GatewayLimits
from streams.grpc_gateway.sessions import Places, Sessions, TooManyError
from streams.grpc_gateway.stream import Answer, End, FrameStream, Tally
from streams.publishing import FramePublisher, IncomingFrame
from streams.tracing import current_traceparent, receiving


class FrameGateway(frames_pb2_grpc.FrameServiceServicer):
    """The service; make it inside a running event loop, give it to `serve`, and close it afterwards.

    Args:
        publisher: Puts frames on the log.
        known: Whether a well-formed device id may send; by default every one may.
    """

    def __init__(
        self, publisher: FramePublisher, limits: GatewayLimits = GatewayLimits(), *, known: KnownDevice = any_device
    ) -> None:
        self._publisher = publisher
        self.limits = limits
        self._known = known
        self._sessions = Sessions(limits)
        self._places = Places(limits)
        self._draining = asyncio.Event()

    async def StreamFrames(  # noqa: N802  # the proto's name
        self, request_iterator: object, context: "grpc.aio.ServicerContext[Frame, StreamResult]"
    ) -> StreamResult:
        """Count how the frames fare, and say so at the end."""
        tally = Tally()
        end = await self._carry(context, tally.count)
        if end.code is not grpc.StatusCode.OK:
            counts = f"{tally.accepted} processed, {tally.rejected} rejected, {tally.duplicate} duplicate"
            await context.abort(end.code, f"{end.detail} ({counts})")
        return StreamResult(frames_processed=tally.accepted, frames_rejected=tally.rejected, frames_duplicate=tally.duplicate)

    async def StreamFramesAcked(  # noqa: N802  # the proto's name
        self, request_iterator: object, context: "grpc.aio.ServicerContext[Frame, FrameAck]"
    ) -> None:
        """Answer each frame as soon as it is safe, in the order of receipt."""
        await context.send_initial_metadata(((IMAGE_BYTES_KEY, str(self.limits.image_bytes_max)),))
        end = await self._carry(context, context.write)
        if end.code is not grpc.StatusCode.OK:
            await context.abort(end.code, end.detail)

    def drain(self) -> None:
        """Take no more; what was read is still answered."""
        self._draining.set()

    async def close(self) -> None:
        """Give up what is still in flight."""
        await self._sessions.close()

    async def _carry(self, context: "grpc.aio.ServicerContext[Frame, FrameAck]", answer: Answer) -> End:
        try:
            self._places.open()
        except TooManyError as error:
            return End(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        devices: set[str] = set()
        call_trace = _traceparent(context)
        metrics.STREAMS.inc()

        async def take(message: Frame) -> "tuple[asyncio.Future[Outcome], bool]":
            checked = check(message, self.limits, known=self._known, traceparent=call_trace)
            return await self._take(checked, message, devices)

        try:
            return await FrameStream(context, self.limits, take=take, answer=answer, draining=self._draining).carry()
        finally:
            metrics.STREAMS.dec()
            self._places.close(devices)

    async def _take(self, checked: Checked, message: Frame, devices: set[str]) -> "tuple[asyncio.Future[Outcome], bool]":
        if isinstance(checked, Refused) and checked.frame is None:
            told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            told.set_result(Outcome(status=Status.REJECTED, reason=checked.reason, detail=checked.detail))
            return told, False
        if message.device_id not in devices:
            self._places.carry(message.device_id)
            devices.add(message.device_id)
        intake = self._sessions.of(message.device_id, message.session_id)

        async def prepare() -> Append:
            return await self._prepare(checked)

        match checked:
            case Notice():
                return await intake.take((checked.first_sequence, checked.last_sequence), 0, prepare)
            case _:
                return await intake.take(message.sequence, len(message.image), prepare)

    async def _prepare(self, checked: Checked) -> Append:
        """The half that may run beside others; gives the half that runs in order."""
        match checked:
            case Admitted(frame=frame):
                return await self._stored(frame)
            case Refused(frame=IncomingFrame() as frame):
                return lambda: self._refuse(frame, checked)
            case Notice():
                return lambda: self._tell(checked)
            case _:
                raise AssertionError("a message without device or place is answered at once")

    async def _stored(self, frame: IncomingFrame) -> Append:
        with receiving("grpc_gateway", frame.traceparent) as span:
            ref = await self._publisher.store(frame)
            span.set_attribute("hindsight.frame_id", ref.frame_id)
            traceparent = current_traceparent(frame.traceparent)

        async def append() -> Outcome:
            return Outcome(status=Status.ACCEPTED, position=await self._publisher.append(ref, traceparent=traceparent))

        return append

    async def _refuse(self, frame: IncomingFrame, refused: Refused) -> Outcome:
        position = await self._publisher.refuse(frame, reason=refused.reason, detail=refused.detail)
        return Outcome(status=Status.REJECTED, position=position, reason=refused.reason, detail=refused.detail)

    async def _tell(self, notice: Notice) -> Outcome:
        position = await self._publisher.publish_dropped(
            device_id=notice.device_id,
            session_id=notice.session_id,
            first_sequence=notice.first_sequence,
            last_sequence=notice.last_sequence,
            frames_count=notice.frames_count,
            reason=notice.reason,
        )
        return Outcome(status=Status.ACCEPTED, position=position)


def _traceparent(context: "grpc.aio.ServicerContext[Frame, FrameAck]") -> str:
    metadata = context.invocation_metadata() or ()
    return next((str(value) for key, value in metadata if key == "traceparent"), "")
