"""The gateway's checks: an answer for every message, and what is admitted can always be put on the log."""

import io

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.codec import FixedSchemas, encode
from schemas.events import FrameCaptured, FrameRefused, FramesDropped
from schemas.ids import captured_id, named_id
from schemas.types import BlobRef, DeviceId
from streams.grpc_gateway.checks import Admitted, Notice, Refused, check
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame
from streams.grpc_gateway.limits import GatewayLimits
from streams.publishing import frame_ref

_out = io.BytesIO()
Image.new("RGB", (16, 16)).save(_out, "PNG")
PNG = _out.getvalue()
TEXTS = st.one_of(st.sampled_from(["", "gate-1", "s1", "a/b", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"]), st.text(max_size=300))
NUMBERS = st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1))
LIMITS, SCHEMAS = GatewayLimits(image_bytes_max=10_000, image_pixels_max=10_000), FixedSchemas()


@st.composite
def messages(draw: st.DrawFn) -> Frame:
    message = Frame(
        device_id=draw(TEXTS),
        session_id=draw(TEXTS),
        sequence=draw(NUMBERS),
        captured_at_us=draw(st.one_of(st.just(1_790_000_000_000_000), st.integers(-(2**63), 2**63 - 1))),
        media_type=draw(TEXTS),
        passage_id=draw(TEXTS),
        labels=draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
        traceparent=draw(TEXTS),
    )
    if draw(st.booleans()):
        message.image = draw(st.one_of(st.just(PNG), st.binary(max_size=50)))
    elif draw(st.booleans()):
        numbers = {name: draw(NUMBERS) for name in ("first_sequence", "last_sequence", "frames_count")}
        message.dropped.CopyFrom(DroppedFrames(**numbers, reason=draw(st.one_of(st.just("spool_full"), TEXTS))))
    return message


@given(message=messages(), call_trace=TEXTS)
def test_every_message_gets_an_answer_that_fits_the_log(message: Frame, call_trace: str) -> None:
    """Whatever a client sends is admitted, refused or a notice; each of them, where it names a frame, encodes as its event."""
    match check(message, LIMITS, traceparent=call_trace):
        case Admitted(frame=frame):
            blob = BlobRef(sha256="0" * 64, size_bytes=len(frame.image), media_type=frame.media_type)
            ref = frame_ref(frame, blob)
            encode(FrameCaptured(event_id=captured_id(ref.frame_id), frame=ref, received_at_us=0, channel="grpc"), SCHEMAS)
            assert frame.media_type == "image/png"
        case Refused(frame=None, reason=reason, detail=detail):
            assert reason
            assert detail
        case Refused(frame=frame, reason=reason, detail=detail):
            ref = frame_ref(frame, BlobRef(sha256="0" * 64, size_bytes=len(frame.image), media_type=frame.media_type))
            event = FrameRefused(
                event_id=named_id("refused"), frame=ref, reason=reason, detail=detail, received_at_us=0, channel="grpc"
            )
            encode(event, SCHEMAS)
        case Notice() as notice:
            assert notice.first_sequence <= notice.last_sequence
            event_id = named_id("dropped")
            fields = {
                name: getattr(notice, name)
                for name in ("session_id", "first_sequence", "last_sequence", "frames_count", "reason")
            }
            encode(FramesDropped(event_id=event_id, device_id=DeviceId(notice.device_id), received_at_us=0, **fields), SCHEMAS)
