"""What the gateway holds against each message before it takes it: total over whatever a client can send.

A refusal carries the frame as far as it is known. With a known device and place it becomes a `FrameRefused` on the log;
without, only the client hears of it. The intake acts next.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.errors import FrameRefusedError
from streams.admission import NAME_RULE, is_name, is_time, trouble_in_texts
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame
from streams.grpc_gateway.limits import GatewayLimits
from streams.images import inspect
from streams.publishing import IncomingFrame

_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SEQUENCE_MAX = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A frame that may be published."""

    frame: IncomingFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A message that is not let in; `frame` is None where device or place are not known."""

    frame: IncomingFrame | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Word of frames that a device gave up."""

    device_id: str
    session_id: str
    first_sequence: int
    last_sequence: int
    frames_count: int
    reason: str


Checked = Admitted | Refused | Notice
KnownDevice = Callable[[str], bool]


def any_device(device_id: str) -> bool:
    """Every well-formed device id is known."""
    return True


def check(message: Frame, limits: GatewayLimits, *, known: KnownDevice = any_device, traceparent: str = "") -> Checked:
    """Sort a message into what may be published, what is refused, and word of dropped frames.

    Args:
        known: Whether a well-formed device id belongs to a device that may send.
        traceparent: The call's trace context, for messages without one of their own.
    """
    if not is_name(message.device_id):
        return Refused(frame=None, reason="invalid_device", detail=f"device_id holds {NAME_RULE}")
    if not known(message.device_id):
        return Refused(frame=None, reason="unknown_device", detail=f"no device {message.device_id} may send here")
    if not is_name(message.session_id):
        return Refused(frame=None, reason="invalid_session", detail=f"session_id holds {NAME_RULE}")
    if message.sequence > _SEQUENCE_MAX:
        return Refused(frame=None, reason="invalid_sequence", detail=f"sequence is above {_SEQUENCE_MAX}")
    match message.WhichOneof("payload"):
        case "dropped":
            return _notice(message, message.dropped)
        case _:
            return _frame(message, limits, message.traceparent or traceparent)


def _notice(message: Frame, dropped: DroppedFrames) -> Notice | Refused:
    span = dropped.last_sequence - dropped.first_sequence + 1
    if not (dropped.first_sequence <= dropped.last_sequence <= _SEQUENCE_MAX and 1 <= dropped.frames_count <= span):
        return Refused(frame=None, reason="invalid_range", detail="a notice names first <= last, and a count that fits between")
    if not _REASON.fullmatch(dropped.reason):
        return Refused(frame=None, reason="invalid_reason", detail="a notice's reason is a code such as spool_full_oldest_first")
    return Notice(
        device_id=message.device_id,
        session_id=message.session_id,
        first_sequence=dropped.first_sequence,
        last_sequence=dropped.last_sequence,
        frames_count=dropped.frames_count,
        reason=dropped.reason,
    )


def _frame(message: Frame, limits: GatewayLimits, traceparent: str) -> Admitted | Refused:
    frame = IncomingFrame(
        device_id=message.device_id,
        session_id=message.session_id,
        sequence=message.sequence,
        captured_at_us=message.captured_at_us,
        image=message.image,
        media_type="application/octet-stream",
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
    )
    if not is_time(message.captured_at_us):
        # Times far out are not put on the log: readers in some languages fail on them.
        detail = f"captured_at_us is {message.captured_at_us}, which is not in the years 2000 to 2099"
        return Refused(frame=replace(frame, captured_at_us=0), reason="invalid_captured_at", detail=detail)
    labels = dict(message.labels)
    if detail := trouble_in_texts(message.passage_id, labels):
        return Refused(frame=frame, reason="invalid_labels", detail=detail)
    frame = replace(frame, passage_id=message.passage_id or None, labels=labels)
    try:
        facts = inspect(frame.image, max_bytes=limits.image_bytes_max, max_pixels=limits.image_pixels_max)
    except FrameRefusedError as error:
        return Refused(frame=frame, reason=error.reason, detail=str(error))
    return Admitted(frame=replace(frame, media_type=facts.media_type))
