"""assess: exactly one outcome for each captured frame, and a device's sequence with its holes."""

from dataclasses import replace
from typing import Any

import pytest

from processors.assess import core
from processors.assess.core import ImageMeasured, ImageUnusable, Limits
from processors.redriven import Redriven
from schemas import ids
from schemas.events import FrameAccepted, FrameRefused, FrameRejected, FramesDropped
from schemas.plain import from_plain, to_plain
from schemas.types import DeviceId, EventId, SourcePosition
from tests.given import AT_US, captured, cause, folded, frame

GOOD = ImageMeasured(width_px=32, height_px=24, measures={"sharpness": 50.0, "brightness_mean": 100.0})


def after(*events: Any) -> core.DeviceSequences:
    return folded(core.fold, core.INITIAL, events)  # type: ignore[no-any-return]


def decided(state: core.DeviceSequences, event: Any, answer: Any = GOOD, offset: int = 9) -> tuple[Any, ...]:
    return core.decide(Limits(), state, event, answer, cause(offset))


def dropped(first: int, last: int) -> FramesDropped:
    return FramesDropped(
        event_id=EventId("d"),
        device_id=DeviceId("gate-1"),
        session_id="s",
        first_sequence=first,
        last_sequence=last,
        frames_count=last - first + 1,
        reason="spool full",
        received_at_us=AT_US,
    )


def test_a_good_frame_is_accepted_with_what_was_measured() -> None:
    """A fit image gives one FrameAccepted whose id follows from its source."""
    where = cause(9).position
    assert decided(after(), captured(0)) == (
        FrameAccepted(
            event_id=ids.event_id(where, "FrameAccepted"),
            source=where,
            frame=captured(0).frame,
            width_px=32,
            height_px=24,
            measures=GOOD.measures,
            warnings=(),
            missing_before=0,
            assessed_at_us=AT_US,
        ),
    )


def test_the_same_number_again_is_refused_as_repeated() -> None:
    """A frame sent twice is counted once: the second one is rejected, whatever its image is like."""
    for answer in (GOOD, ImageUnusable(reason="not_an_image", detail="")):
        (event,) = decided(after(captured(0)), captured(0), answer)
        assert isinstance(event, FrameRejected)
        assert event.reasons == ("repeated",)


def test_a_jump_tells_how_many_are_missing() -> None:
    """Numbers that were left out are counted once, at the frame that shows the hole."""
    state = after(captured(0))
    (event,) = decided(state, captured(4))
    assert event.missing_before == 3
    (following,) = decided(core.fold(state, captured(4)), captured(5))
    assert following.missing_before == 0


def test_a_late_frame_fills_its_hole_once() -> None:
    """A frame that comes after its successors is accepted, and only the first time."""
    state = after(captured(0), captured(3))
    assert state.sessions["s"].holes == (1, 2)
    (late,) = decided(state, captured(1))
    assert isinstance(late, FrameAccepted)
    assert late.missing_before == 0
    state = core.fold(state, captured(1))
    assert state.sessions["s"] == core.SessionSequence(next_sequence=4, holes=(2,))
    (again,) = decided(state, captured(1))
    assert again.reasons == ("repeated",)


def refused(sequence: int) -> FrameRefused:
    return FrameRefused(
        event_id=EventId("f"), frame=frame(sequence), reason="truncated", detail="cut off", received_at_us=AT_US, channel="grpc"
    )


def test_what_the_door_refused_is_rejected_and_counted_in_the_sequence() -> None:
    """A frame refused at the door is rejected for the door's reason, and does not count as missing before the next one."""
    (event,) = decided(after(captured(0)), refused(1), None)
    assert isinstance(event, FrameRejected)
    assert (event.reasons, event.detail, event.blob_stored) == (("truncated",), "cut off", False)
    (following,) = decided(after(captured(0), refused(1)), captured(2))
    assert isinstance(following, FrameAccepted)
    assert following.missing_before == 0


def test_dropped_numbers_are_not_missing_and_give_no_outcome() -> None:
    """Word of dropped frames moves the sequence on, closes holes in its range, and decides nothing."""
    assert decided(after(), dropped(0, 4), None) == ()
    (event,) = decided(after(dropped(0, 4)), captured(5))
    assert event.missing_before == 0
    state = after(captured(0), captured(5), dropped(2, 3))
    assert state.sessions["s"].holes == (1, 4)


def test_a_hole_too_long_to_remember_is_said_to_be_so() -> None:
    """Numbers below what is remembered are refused as too late, never as counted before; remembered holes still fill."""
    state = after(captured(0), captured(10_000))
    assert len(state.sessions["s"].holes) == 512
    (far,) = decided(state, captured(17))
    assert far.reasons == ("too_late",)
    (near,) = decided(state, captured(9_999))
    assert isinstance(near, FrameAccepted)
    (repeated,) = decided(state, captured(10_000))
    assert repeated.reasons == ("repeated",)


def test_a_frame_that_is_redriven_is_neither_too_late_nor_a_repeat() -> None:
    """It had no outcome, whatever is remembered of its number; what counted it was a catch-up."""
    state = after(captured(0), captured(10_000))
    source = SourcePosition(topic="vision.commands", partition=0, offset=3, index=0)
    redriven = Redriven(source=source, reader="assess", attempt=1, letter_offset=0)
    for sequence in (17, 10_000):
        (event,) = core.decide(Limits(), state, captured(sequence), GOOD, replace(cause(9), redriven=redriven))
        assert isinstance(event, FrameAccepted)


def test_many_small_holes_are_forgotten_from_the_oldest() -> None:
    """When more numbers are missing than are kept, the oldest are forgotten, and that is remembered."""
    state = after(*(captured(2 * n) for n in range(600)))
    session = state.sessions["s"]
    assert len(session.holes) == 512
    assert session.known_from == session.holes[0]
    (event,) = decided(state, captured(1))
    assert event.reasons == ("too_late",)


def test_sessions_count_apart_and_the_longest_silent_one_is_forgotten() -> None:
    """Each session starts at 0; of a device's sessions the 64 last heard from are kept."""
    events = [captured(0, session=f"s{n}") for n in range(64)]
    state = after(*events, captured(1, session="s0"), captured(0, session="new"))
    assert len(state.sessions) == 64
    assert "s1" not in state.sessions
    assert state.sessions["s0"].next_sequence == 2
    assert state.order[-2:] == ("s0", "new")


def test_many_submissions_over_http_push_no_stream_out() -> None:
    """Each is a session of its own; the last 64 of them are kept beside the device's streams, not in their places."""
    uploads = [replace(captured(0, session=f"http-{n}"), channel="http") for n in range(200)]
    state = after(captured(0), captured(3), *uploads)
    (again,) = decided(state, captured(3))
    assert again.reasons == ("repeated",)
    (late,) = decided(state, captured(1))
    assert isinstance(late, FrameAccepted)
    (upload,) = decided(state, uploads[-1])
    assert upload.reasons == ("repeated",)
    assert len(state.sessions) == 65
    assert "http-0" not in state.sessions


def test_streams_push_no_submission_out_either() -> None:
    """An upload that is tried again is known, however many streams the device began meanwhile."""
    upload = replace(captured(0, session="http-1"), channel="http")
    (again,) = decided(after(upload, *(captured(0, session=f"s{n}") for n in range(70))), upload)
    assert again.reasons == ("repeated",)


def test_a_state_of_before_there_were_two_lists_is_read_and_goes_on() -> None:
    """What an older worker stored has uploads among the streams; one that is heard from again changes over."""
    stored = {"sessions": {"http-1": {"next_sequence": 1}, "s": {"next_sequence": 4, "holes": [2]}}, "order": ["http-1", "s"]}
    state = from_plain(core.DeviceSequences, stored)
    upload = replace(captured(0, session="http-1"), channel="http")
    (again,) = decided(state, upload)
    assert again.reasons == ("repeated",)
    state = core.fold(state, upload)
    assert (state.order, state.one_shots) == (("s",), ("http-1",))
    assert from_plain(core.DeviceSequences, to_plain(state)) == state


@pytest.mark.parametrize(
    ("answer", "reason", "blob_stored"),
    [
        (ImageUnusable(reason="not_decodable", detail="why"), "not_decodable", True),
        (ImageUnusable(reason="blob_gone", detail="why"), "blob_gone", False),
        (replace(GOOD, height_px=15), "too_small", True),
    ],
)
def test_an_unusable_frame_is_refused_with_its_reason(answer: Any, reason: str, blob_stored: bool) -> None:
    """What was wrong with the bytes becomes the reason, and only gone bytes are said not to be stored."""
    (event,) = decided(after(), captured(0), answer)
    assert isinstance(event, FrameRejected)
    assert (event.reasons, event.blob_stored) == ((reason,), blob_stored)


@pytest.mark.parametrize(
    ("measures", "late_s", "warning"),
    [
        ({"sharpness": 39.9, "brightness_mean": 100.0}, 0, "blurred"),
        ({"sharpness": 50.0, "brightness_mean": 24.9}, 0, "dark"),
        ({"sharpness": 50.0, "brightness_mean": 235.1}, 0, "overexposed"),
        (GOOD.measures, -5.1, "clock_ahead"),
        (GOOD.measures, 300.1, "clock_behind"),
    ],
)
def test_what_is_odd_is_a_warning_and_not_a_refusal(measures: dict[str, float], late_s: float, warning: str) -> None:
    """A blurred, dark or badly timed frame is accepted with a warning; at the limit itself there is none."""
    (event,) = decided(after(), captured(0, late_us=int(late_s * 1e6)), replace(GOOD, measures=measures))
    assert event.warnings == (warning,)
    at_limit = replace(GOOD, measures={"sharpness": 40.0, "brightness_mean": 235.0})
    (event,) = decided(after(), captured(0, late_us=300_000_000), at_limit)
    assert event.warnings == ()


def test_a_repeat_changes_no_state() -> None:
    """Folding what was counted already leaves the sequence as it is."""
    state = after(captured(0), captured(3), captured(1))
    assert core.fold(state, captured(1)) == state
