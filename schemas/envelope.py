"""What travels beside an event: CloudEvents attributes in binary mode, W3C trace context, correlation and causation."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.catalogue import full_name

Headers = tuple[tuple[str, bytes], ...]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Headers of one event.

    `source` is the part of the system that wrote it, such as hindsight/infer; `correlation_id` is the frame or the
    command that started it all; `causation_id` is the event or command just before it.
    """

    id: str
    type: str
    source: str
    time_us: int
    correlation_id: str
    causation_id: str
    traceparent: str = ""


def envelope_of(
    event: Any, *, source: str, time_us: int, correlation_id: str, causation_id: str, traceparent: str = ""
) -> Envelope:
    """The envelope of an event; its id is the event's own."""
    own_id = event.event_id if hasattr(event, "event_id") else event.command_id
    return Envelope(
        id=own_id,
        type=full_name(type(event)),
        source=source,
        time_us=time_us,
        correlation_id=correlation_id,
        causation_id=causation_id,
        traceparent=traceparent,
    )


def to_headers(envelope: Envelope) -> Headers:
    """Kafka headers by the CloudEvents Kafka binding, binary mode."""
    pairs = [
        ("ce_specversion", "1.0"),
        ("ce_id", envelope.id),
        ("ce_type", envelope.type),
        ("ce_source", envelope.source),
        ("ce_time", rfc3339(envelope.time_us)),
        ("ce_correlationid", envelope.correlation_id),
        ("ce_causationid", envelope.causation_id),
        ("content-type", "application/avro"),
    ]
    if envelope.traceparent:
        pairs.append(("traceparent", envelope.traceparent))
    return tuple((key, value.encode()) for key, value in pairs)


def header(headers: Iterable[tuple[str, bytes]], name: str) -> str:
    """One header as text; empty when it is absent or not text."""
    for key, value in headers:
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return ""


def rfc3339(time_us: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
