"""The rules of assessment: pure. What the image is like was measured by `measure` and comes in as an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from processors.step import Cause
from schemas import ids
from schemas.events import FrameAccepted, FrameCaptured, FrameRefused, FrameRejected, FramesDropped

_SESSIONS_KEPT = 64
_ONE_SHOTS_KEPT = 64
_ONE_SHOT_CHANNEL = "http"
_HOLES_KEPT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a frame must be like. Times in seconds, sharpness as the variance of the Laplacian, brightness 0 to 255."""

    side_px_min: int = 16
    sharpness_min: float = 40.0
    brightness_min: float = 25.0
    brightness_max: float = 235.0
    clock_ahead_s_max: float = 5.0
    clock_behind_s_max: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMeasured:
    """The image decodes. Sizes in pixels, measures by name."""

    width_px: int
    height_px: int
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUnusable:
    """The image does not decode, or its bytes are not to be had; `reason` is a code."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSequence:
    """One session of a device: the next number expected, and numbers before it that never came.

    Below `known_from` too much is missing to remember; whether such a number came before is not known.
    """

    next_sequence: int
    holes: tuple[int, ...] = ()
    known_from: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSequences:
    """State of one device: its latest sessions, in `order` and in `one_shots` the one heard from last at the end.

    Each submission over HTTP is a session of one frame. These stand in `one_shots`, so that many of them push none of the
    long ones out.
    """

    sessions: Mapping[str, SessionSequence] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    one_shots: tuple[str, ...] = ()


INITIAL = DeviceSequences()

Sent = FrameCaptured | FrameRefused | FramesDropped


def is_repeated(state: DeviceSequences, session_id: str, sequence: int) -> bool:
    """Whether this number of the session was counted before."""
    session = state.sessions.get(session_id)
    return session is not None and session.known_from <= sequence < session.next_sequence and sequence not in session.holes


def is_too_late(state: DeviceSequences, session_id: str, sequence: int) -> bool:
    """Whether this number lies so far back that nobody knows if it was counted before."""
    session = state.sessions.get(session_id)
    return session is not None and sequence < session.known_from and sequence not in session.holes


def decide(
    limits: Limits,
    state: DeviceSequences,
    event: Sent,
    answer: ImageMeasured | ImageUnusable | None,
    cause: Cause,
) -> tuple[FrameAccepted | FrameRejected, ...]:
    """Exactly one outcome for each frame that was sent; none for word of dropped ones.

    A frame that is redriven had no outcome: whatever is known of its number, it is no repeat and not too late.
    """
    if isinstance(event, FramesDropped):
        return ()
    frame, knows = event.frame, cause.redriven is None
    if knows and is_repeated(state, frame.session_id, frame.sequence):
        return (
            _rejected(event, "repeated", f"sequence {frame.sequence} of session {frame.session_id} was counted before", cause),
        )
    if knows and is_too_late(state, frame.session_id, frame.sequence):
        detail = (
            f"sequence {frame.sequence} of session {frame.session_id} comes after more than {_HOLES_KEPT} others went missing"
        )
        return (_rejected(event, "too_late", detail, cause),)
    if isinstance(event, FrameRefused):
        return (_rejected(event, event.reason, event.detail, cause),)
    match answer:
        case ImageUnusable():
            return (_rejected(event, answer.reason, answer.detail, cause),)
        case ImageMeasured() if min(answer.width_px, answer.height_px) < limits.side_px_min:
            detail = f"{answer.width_px}x{answer.height_px} px, and the shorter side must have {limits.side_px_min}"
            return (_rejected(event, "too_small", detail, cause),)
        case ImageMeasured():
            return (_accepted(limits, state, event, answer, cause),)
        case None:
            raise AssertionError("a captured frame is always measured")
        case _:
            assert_never(answer)


def fold(state: DeviceSequences, event: Sent) -> DeviceSequences:
    """Count the frame's number in its session; dropped ones are counted as numbers that will not come."""
    match event:
        case FrameCaptured() | FrameRefused():
            session_id, first, last = event.frame.session_id, event.frame.sequence, event.frame.sequence
            is_one_shot = event.channel == _ONE_SHOT_CHANNEL
        case FramesDropped():
            session_id, first, last = event.session_id, event.first_sequence, event.last_sequence
            is_one_shot = False
        case _:
            assert_never(event)
    session = state.sessions.get(session_id, SessionSequence(next_sequence=0))
    sessions = {**state.sessions, session_id: _counted(session, first, last)}
    order = tuple(s for s in state.order if s != session_id)
    one_shots = tuple(s for s in state.one_shots if s != session_id)
    if is_one_shot:
        one_shots = (*one_shots, session_id)[-_ONE_SHOTS_KEPT:]
    else:
        order = (*order, session_id)[-_SESSIONS_KEPT:]
    return replace(state, sessions={s: sessions[s] for s in (*order, *one_shots)}, order=order, one_shots=one_shots)


def _counted(session: SessionSequence, first: int, last: int) -> SessionSequence:
    """The session with `first` to `last` counted, and what is missing before them."""
    holes = [h for h in session.holes if not first <= h <= last]
    holes += range(max(session.next_sequence, first - _HOLES_KEPT), first)
    forgotten = first - _HOLES_KEPT if first - session.next_sequence > _HOLES_KEPT else 0
    if len(holes) > _HOLES_KEPT:
        forgotten = max(forgotten, holes[-_HOLES_KEPT])
    return SessionSequence(
        next_sequence=max(session.next_sequence, last + 1),
        holes=tuple(holes[-_HOLES_KEPT:]),
        known_from=max(session.known_from, forgotten),
    )


def _accepted(limits: Limits, state: DeviceSequences, event: FrameCaptured, image: ImageMeasured, cause: Cause) -> FrameAccepted:
    frame = event.frame
    session = state.sessions.get(frame.session_id, SessionSequence(next_sequence=0))
    return FrameAccepted(
        event_id=ids.event_id(cause.position, "FrameAccepted"),
        source=cause.position,
        frame=frame,
        width_px=image.width_px,
        height_px=image.height_px,
        measures=image.measures,
        warnings=_warnings(limits, event, image),
        missing_before=max(0, frame.sequence - session.next_sequence),
        assessed_at_us=cause.now_us,
    )


def _warnings(limits: Limits, event: FrameCaptured, image: ImageMeasured) -> tuple[str, ...]:
    late_s = (event.received_at_us - event.frame.captured_at_us) / 1e6
    found = {
        "blurred": image.measures["sharpness"] < limits.sharpness_min,
        "clock_ahead": late_s < -limits.clock_ahead_s_max,
        "clock_behind": late_s > limits.clock_behind_s_max,
        "dark": image.measures["brightness_mean"] < limits.brightness_min,
        "overexposed": image.measures["brightness_mean"] > limits.brightness_max,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def _rejected(event: FrameCaptured | FrameRefused, reason: str, detail: str, cause: Cause) -> FrameRejected:
    return FrameRejected(
        event_id=ids.event_id(cause.position, "FrameRejected"),
        source=cause.position,
        frame=event.frame,
        blob_stored=isinstance(event, FrameCaptured) and reason != "blob_gone",
        reasons=(reason,),
        detail=detail,
        assessed_at_us=cause.now_us,
    )
