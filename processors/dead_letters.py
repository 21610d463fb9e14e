"""Records that cannot be used are kept aside, untouched, with headers that say where they lay and what was wrong."""

from schemas.catalogue import DEAD_LETTERS
from schemas.envelope import rfc3339
from schemas.errors import HindsightError
from streams.records import Outgoing, Record

PREFIX = "hindsight_dlq_"


def dead_letter(record: Record, error: HindsightError, processor: str, now_us: int) -> Outgoing:
    """The record on vision.dead-letters: same value, same headers, keyed by its topic; its own key in a header."""
    told = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "appended_at_ms": str(record.appended_at_ms),
        "processor": processor,
        "error_class": type(error).__name__,
        "error_message": str(error)[:2000],
        "at": rfc3339(now_us),
    }
    headers = [(f"{PREFIX}{name}", value.encode()) for name, value in told.items()]
    if record.key is not None:
        headers.append((f"{PREFIX}key", record.key))
    return Outgoing(
        topic=DEAD_LETTERS, key=record.topic.encode(), value=record.value, headers=(*record.headers, *headers), partition=0
    )
