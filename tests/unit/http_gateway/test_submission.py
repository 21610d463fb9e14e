"""Fields of a form, headers and positions: pure rules of the HTTP gateway."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.http_gateway.problems import ProblemError
from streams.http_gateway.result_stream import parse_position, position_text
from streams.http_gateway.submission import described, device_of, fingerprint, key_of, session_of, time_us, traceparent_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _reason(work: Callable[[], object]) -> str:
    try:
        work()
    except ProblemError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2000-01-01T00:00:00Z", 946_684_800_000_000),
        ("2000-01-01t01:00:00.000001+01:00", 946_684_800_000_001),
        ("2000-01-01 00:00:01z", 946_684_801_000_000),
        ("2026-11-22T03:47:00.123456789Z", 1_795_319_220_123_456),
    ],
)
def test_rfc_3339_is_read_to_the_microsecond(text: str, expected: int) -> None:
    """Offsets, lower case and fractions are understood; what is finer than a microsecond is cut."""
    assert time_us(text) == expected


@pytest.mark.parametrize(
    "text", ["1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"]
)
def test_a_time_far_out_is_a_problem(text: str) -> None:
    """Readers in some languages fail on such times, so they do not come onto the log."""
    assert _reason(lambda: time_us(text)) == "bad_timestamp"


@pytest.mark.parametrize("name", ["@sources", "a b", "gate/1", "\U0001f600", "-x", "n" * 129, "x\u0000"])
def test_a_device_that_no_door_lets_in_is_a_problem(name: str) -> None:
    """Names are the same at every door, so that a device is one device."""
    assert _reason(lambda: device_of({"device_id": name})) == "bad_field"


@pytest.mark.parametrize("labels", ['{"a": "\\ud800"}', '{"a": 1}', "[]", "{", '{"a": "%s"}' % ("x" * 257)])
def test_labels_that_no_event_can_hold_are_a_problem(labels: str) -> None:
    """Half a surrogate pair, a number, a list, half a document, a text too long."""
    assert _reason(lambda: described({"labels": labels})) == "bad_field"


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_problem(text: str) -> None:
    """No text raises anything but the problem that names it."""
    assert _reason(lambda: time_us(text)) in ("", "bad_timestamp")


@given(st.dictionaries(st.sampled_from(["device_id", "captured_at", "passage_id", "labels", "x"]), st.text(max_size=60)))
def test_any_fields_are_understood_or_a_problem(fields: dict[str, str]) -> None:
    """Whatever a form holds, the answer is a submission or a problem."""
    assert _reason(lambda: device_of(fields)) in ("", "bad_field", "missing_field")
    assert _reason(lambda: described(fields)) in ("", "bad_field", "bad_timestamp")


def test_a_key_has_a_session_of_its_own_for_each_device() -> None:
    """The same device and key give the same session, everything else another one."""
    sessions = {session_of("a", "k"), session_of("a", "l"), session_of("b", "k")}
    assert len(sessions) == 3
    assert session_of("a", "k") in sessions


def test_the_fingerprint_tells_images_and_fields_apart() -> None:
    """Only the same image with the same fields, in any order, is the same submission."""
    same = fingerprint(b"x", {"a": "1", "b": "2"})
    assert fingerprint(b"x", {"b": "2", "a": "1"}) == same
    assert same not in {fingerprint(b"y", {"a": "1", "b": "2"}), fingerprint(b"x", {"a": "1", "b": "3"}), fingerprint(b"x", {})}


def test_only_whole_trace_contexts_travel_on() -> None:
    """A traceparent passes when W3C's rules hold for it, and is dropped otherwise."""
    assert traceparent_of(PARENT) == PARENT
    broken = [None, "", "00", PARENT + "-extra", PARENT.replace("4bf", "4BF"), "ff" + PARENT[2:], f"00-{'0' * 32}-{'1' * 16}-01"]
    assert {traceparent_of(text) for text in broken} == {""}


def test_keys_have_a_length_and_visible_characters() -> None:
    """No key is fine; an empty, long or unprintable one is a problem."""
    assert key_of(None) is None
    assert key_of("k" * 255) == "k" * 255
    for bad in ("", "a b", "k" * 256, "\x00"):
        with pytest.raises(ProblemError):
            key_of(bad)


@given(st.dictionaries(st.integers(0, 999_999), st.integers(0, 10**18 - 1), min_size=1))
def test_positions_survive_the_way_through_an_event_id(offsets: dict[int, int]) -> None:
    """What is sent as an id comes back as the same offsets."""
    assert parse_position(position_text(offsets)) == offsets
