"""Headers: CloudEvents in binary mode, the trace, and who caused what."""

import pytest

from schemas.envelope import envelope_of, header, rfc3339, to_headers
from tests.given import accepted, captured


def test_the_headers_are_cloudevents_in_binary_mode() -> None:
    """Every attribute by its name, in UTF-8; the trace only when there is one."""
    event = captured(0)
    made = envelope_of(
        event, source="hindsight/sdk", time_us=1, correlation_id="c1", causation_id="c2", traceparent="00-ab-cd-01"
    )
    assert dict(to_headers(made)) == {
        "ce_specversion": b"1.0",
        "ce_id": event.event_id.encode(),
        "ce_type": b"hindsight.frames.FrameCaptured",
        "ce_source": b"hindsight/sdk",
        "ce_time": b"1970-01-01T00:00:00.000001Z",
        "ce_correlationid": b"c1",
        "ce_causationid": b"c2",
        "content-type": b"application/avro",
        "traceparent": b"00-ab-cd-01",
    }
    silent = envelope_of(accepted(), source="s", time_us=1, correlation_id="", causation_id="")
    assert "traceparent" not in dict(to_headers(silent))


@pytest.mark.parametrize(("headers", "found"), [((), ""), ((("a", b"x"), ("a", b"y")), "x"), ((("a", b"\xff"),), "\ufffd")])
def test_a_header_is_text_whatever_it_holds(headers: tuple[tuple[str, bytes], ...], found: str) -> None:
    """Absent is empty, the first of several counts, and broken text hurts nobody."""
    assert header(headers, "a") == found


def test_times_are_rfc_3339_in_utc() -> None:
    """Six decimals and a Z."""
    assert rfc3339(1_790_000_000_123_456) == "2026-09-21T14:13:20.123456Z"
