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
from streams.admission import NAME_RULE, is_name, is_time, trouble_in_texts
from streams.http_gateway.problems import ProblemError

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    device_id = fields.get("device_id", "")
    if not device_id:
        raise ProblemError("missing_field", "field 'device_id' is missing or empty")
    if not is_name(device_id):
        raise ProblemError("bad_field", f"device_id holds {NAME_RULE}")
    return device_id


def described(fields: Mapping[str, str]) -> Described:
    """The optional fields.

    Raises:
        ProblemError: one of them cannot be used.
    """
    unknown = sorted(fields.keys() - {"device_id", "captured_at", "passage_id", "labels"})
    if unknown:
        raise ProblemError("bad_field", f"unknown fields: {', '.join(repr(name[:64]) for name in unknown)}")
    captured, passage, labels = fields.get("captured_at", ""), fields.get("passage_id", ""), _labels(fields.get("labels", ""))
    if trouble := trouble_in_texts(passage, labels):
        raise ProblemError("bad_field", trouble)
    return Described(captured_at_us=time_us(captured) if captured else None, passage_id=passage or None, labels=labels)


def time_us(text: str) -> int:
    """RFC 3339 with an offset, as microseconds since the epoch.

    Raises:
        ProblemError: something else, or not in the years 2000 to 2099.
    """
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError("it must look like 2026-11-22T03:47:00Z")
        at = (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(microseconds=1)
        if not is_time(at):
            raise ValueError("it is not in the years 2000 to 2099")
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


def _labels(text: str) -> Mapping[str, str]:
    if not text:
        return {}
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError("bad_field", f"labels is not JSON: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ProblemError("bad_field", "labels is a JSON object of texts")
    return labels
