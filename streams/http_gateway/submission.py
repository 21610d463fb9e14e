"""From a form's text fields to a checked submission. Pure: the clock's reading comes in as an argument.

`Intake` acts next; a field that cannot be used is a `ProblemError` that names it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas import ids
from streams.http_gateway.problems import ProblemError

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME_CHARACTERS, _LABELS, _LABEL_CHARACTERS = 128, 32, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the client says of its image. `captured_at_us` is None when it says nothing."""

    captured_at_us: int | None
    passage_id: str | None
    labels: Mapping[str, str]


def device_of(fields: Mapping[str, str]) -> str:
    """The device's name.

    Raises:
        ProblemError: missing, too long, or with characters that no name has.
    """
    return _name("device_id", fields.get("device_id", ""))


def described(fields: Mapping[str, str]) -> Described:
    """The optional fields.

    Raises:
        ProblemError: one of them cannot be used.
    """
    unknown = sorted(fields.keys() - {"device_id", "captured_at", "passage_id", "labels"})
    if unknown:
        raise ProblemError("bad_field", f"unknown fields: {', '.join(repr(name[:64]) for name in unknown)}")
    captured, passage = fields.get("captured_at", ""), fields.get("passage_id", "")
    return Described(
        captured_at_us=time_us(captured) if captured else None,
        passage_id=_name("passage_id", passage) if passage else None,
        labels=_labels(fields.get("labels", "")),
    )


def time_us(text: str) -> int:
    """RFC 3339 with an offset, as microseconds since the epoch.

    Raises:
        ProblemError: something else, or before 1970.
    """
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError("it must look like 2026-11-22T03:47:00Z")
        at = (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(microseconds=1)
        if at < 0:
            raise ValueError("it is before 1970")
    except (ValueError, OverflowError) as error:
        raise ProblemError("bad_timestamp", f"{text[:64]!r} is not an RFC 3339 time with an offset: {error}") from error
    return at


def key_of(header: str | None) -> str | None:
    """The idempotency key, or None without one."""
    if header is not None and not _KEY.fullmatch(header):
        raise ProblemError("bad_idempotency_key", "an Idempotency-Key has 1 to 255 visible ASCII characters")
    return header


def traceparent_of(header: str | None) -> str:
    """A well-formed W3C traceparent, or nothing: a broken one must not travel on."""
    return header if header and _TRACEPARENT.fullmatch(header) and not header.startswith("ff") else ""


def session_of(device_id: str, key: str) -> str:
    """The session of a submission with a key: the same key gives the same frame, whatever was forgotten in between."""
    return f"http-{ids.named_id('idempotency', device_id, key)}"


def fingerprint(image: bytes, fields: Mapping[str, str]) -> str:
    """sha256 over image and fields: what makes two submissions the same."""
    text = json.dumps(dict(fields), sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(hashlib.sha256(image).digest() + text).hexdigest()


def _name(what: str, value: str) -> str:
    if not value:
        raise ProblemError("missing_field", f"field {what!r} is missing or empty")
    if len(value) > _NAME_CHARACTERS or not value.isprintable() or value != value.strip():
        raise ProblemError("bad_field", f"{what} has at most {_NAME_CHARACTERS} printable characters and no space around it")
    return value


def _labels(text: str) -> Mapping[str, str]:
    if not text:
        return {}
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError("bad_field", f"labels is not JSON: {error}") from error
    fits = isinstance(labels, dict) and len(labels) <= _LABELS
    if not fits or not all(isinstance(v, str) and max(len(k), len(v)) <= _LABEL_CHARACTERS for k, v in labels.items()):
        raise ProblemError(
            "bad_field", f"labels is a JSON object of at most {_LABELS} texts with at most {_LABEL_CHARACTERS} characters each"
        )
    return {str(k): str(v) for k, v in labels.items()}
