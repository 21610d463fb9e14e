"""From a decided event to a record: the event's key, which chooses the partition, CloudEvents headers, the trace.

Whoever sends frames may choose partitions by another hash than ours. What follows from a frame lies where its own key
says, so that one who looks for a device finds all of it in one partition of each derived topic.
"""

from typing import Any

from processors.step import Cause
from schemas.catalogue import COMMANDS, RELEASES, TOPIC_OF, TOPICS
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from streams.records import Outgoing, hold_size


def outgoing(event: Any, *, cause: Cause, source: str, time_us: int, schemas: Schemas) -> Outgoing:
    """The record of an event that a processor decided on.

    Raises:
        ContractError: it is longer than its topic takes.
    """
    topic = TOPIC_OF[type(event)]
    envelope = envelope_of(
        event,
        source=f"hindsight/{source}",
        time_us=time_us,
        correlation_id=cause.correlation_id,
        causation_id=cause.event_id,
        traceparent=cause.traceparent,
    )
    out = Outgoing(
        topic=topic,
        key=key_of(event).encode(),
        value=encode(event, schemas),
        headers=to_headers(envelope),
        partition=None if TOPICS[topic].chained else 0,
    )
    hold_size(out)
    return out


def key_of(event: Any) -> str:
    """The Kafka key of an event, by its topic's rule."""
    if TOPIC_OF[type(event)] in (RELEASES, COMMANDS) and hasattr(event, "pipeline"):
        return str(event.pipeline)
    for name in ("subject", "device_id", "view", "letter_offset"):
        if hasattr(event, name):
            return str(getattr(event, name))
    return str(event.frame.device_id)
