"""JSON Lines: one record a line in append order, and the way back to the very same record and event.

A line is an object: `topic`, `partition`, `offset`, `appended_at` (RFC 3339) and `appended_at_ms` (the same, exact), `key`,
`headers` (pairs, in their order), `repeat`, `type` and `event` (every field, numbers exact). Bytes that are not text are
`{"base64": ...}`. What cannot be decoded has `type` and `event` null, `trouble`, and its bytes as `value`.
"""

import base64
import json
from typing import Any

from processors.export.moments import Moment, moments
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally
from schemas.catalogue import EVENT_BY_NAME
from schemas.envelope import rfc3339
from schemas.errors import DecodeError
from schemas.plain import from_plain, to_plain
from streams.past import Past
from streams.records import Record


def export(past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
    """Every record of the window, repeats and unreadable ones too."""
    with output.partial(output.target).open("w", encoding="utf-8", newline="\n") as lines:
        for moment in moments(past, window):
            tally.count(moment)
            lines.write(line_of(moment))
            lines.write("\n")


def line_of(moment: Moment) -> str:
    """One line, without its end."""
    record = moment.record
    head = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "appended_at": _shown(record.appended_at_ms),
        "appended_at_ms": record.appended_at_ms,
        "key": _written(record.key),
        "headers": [[name, _written(value)] for name, value in record.headers],
        "repeat": moment.is_repeat,
    }
    if moment.event is not None:
        return _json({**head, "type": type(moment.event).__name__, "event": to_plain(moment.event)})
    value = None if record.value is None else {"base64": base64.b64encode(record.value).decode()}
    return _json({**head, "type": None, "event": None, "trouble": moment.trouble, "value": value})


def moment_of(line: str) -> Moment:
    """The record and event back. The record's value is None where the event is there.

    Raises:
        DecodeError: this is no such line.
    """
    try:
        said = json.loads(line)
        record = Record(
            topic=said["topic"],
            partition=said["partition"],
            offset=said["offset"],
            appended_at_ms=said["appended_at_ms"],
            key=_read(said["key"]),
            value=_read(said.get("value")),
            headers=tuple((name, _read(value)) for name, value in said["headers"]),  # type: ignore[misc]  # Kafka has null headers
        )
        event = None if said["type"] is None else from_plain(EVENT_BY_NAME[said["type"]], said["event"])
        return Moment(record=record, event=event, trouble=said.get("trouble", ""), is_repeat=said["repeat"])
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"this is no line of an export: {error!r}") from error


def _shown(at_ms: int) -> str | None:
    try:
        return rfc3339(at_ms * 1000)
    except OverflowError:  # a bundle may claim a year that no calendar has
        return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _written(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _read(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"], validate=True)
    return None if value is None else str(value).encode()
