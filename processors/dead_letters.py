"""Records that cannot be used are kept aside, untouched, with headers that say where they lay and what was wrong.

A record can be longer than any topic takes, since brokers bound it as compressed: of such a one the length and digest are
kept, and its value stays where it lay. `letters` reads what is written here.
"""

import hashlib
from typing import Any

from schemas.catalogue import DEAD_LETTERS
from schemas.envelope import rfc3339
from schemas.events import InferenceFailed
from streams.records import HEADERS_ROOM_BYTES, LONGEST_RECORD_BYTES, Outgoing, Record, size_of

PREFIX = "hindsight_dlq_"


def dead_letter(
    record: Record, error: Exception, processor: str, now_us: int, *, was_counted: bool = False, outcome: Any = None
) -> Outgoing:
    """The record on vision.dead-letters: same value, same headers, keyed by its topic; its own key in a header.

    Args:
        was_counted: Whether the processor decoded the record and folded it into its state.
        outcome: The event that records the failure, where one does.
    """
    told = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "appended_at_ms": str(record.appended_at_ms),
        "processor": processor,
        "error_class": type(error).__name__,
        "error_message": (str(error) or repr(error))[:2000],
        "at": rfc3339(now_us),
        "counted": "1" if was_counted else "0",
    }
    if outcome is not None:
        told |= {"outcome_id": outcome.event_id, "outcome_release": getattr(outcome, "release", None) or ""}
    if isinstance(outcome, InferenceFailed):
        told |= _failure(outcome)
    value, headers = record.value, record.headers
    if value is not None and len(value) > LONGEST_RECORD_BYTES:
        told |= {"left_out_value_bytes": str(len(value)), "left_out_value_sha256": hashlib.sha256(value).hexdigest()}
        value = None
    if size_of(headers) + len(record.key or b"") > HEADERS_ROOM_BYTES // 2:
        told["left_out_headers_bytes"] = str(size_of(headers) + len(record.key or b""))
        headers = ()
    own = [(f"{PREFIX}{name}", text.encode("utf-8", "replace")) for name, text in told.items()]
    if record.key is not None and "left_out_headers_bytes" not in told:
        own.append((f"{PREFIX}key", record.key))
    return Outgoing(topic=DEAD_LETTERS, key=record.topic.encode(), value=value, headers=(*own, *headers), partition=0)


def _failure(outcome: InferenceFailed) -> dict[str, str]:
    """Which input made which step fail, and where."""
    return {
        "failure": outcome.error_class,
        "step": outcome.failed_step or "",
        "release": outcome.release,
        "endpoint": outcome.endpoint,
        "attempts": str(outcome.attempts),
        "frame_id": outcome.frame.frame_id,
        "blob_sha256": outcome.frame.blob.sha256,
    }
