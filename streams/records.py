"""The vocabulary of the log: records as they lie there, records to be written, and where they went."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas.catalogue import TOPICS
from schemas.envelope import Headers
from schemas.errors import ContractError

Clock = Callable[[], int]

LONGEST_RECORD_BYTES = 8 * 1024 * 1024
HEADERS_ROOM_BYTES = 256 * 1024
LEFT_OUT = "hindsight_left_out"
"""Header of an empty record that an import wrote in the place of one that its bundle does not hold."""
BESIDE_VALUE_BYTES = HEADERS_ROOM_BYTES + 4096  # headers, key, and Kafka's own framing


def system_clock() -> int:
    """Microseconds since the epoch, UTC: the clock that every entry point passes down."""
    return time.time_ns() // 1000


def ms_from(at_us: int) -> int:
    """The first millisecond that is not before a moment: the broker's clock has no finer one."""
    return -(-at_us // 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as the broker holds it. `topic` is the catalogue's name, without any namespace.

    `appended_at_ms` is the broker's clock (LogAppendTime): when the system learned of it.
    """

    topic: str
    partition: int
    offset: int
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to be written. With `partition` None the key chooses, by the same hash as Java's producer."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


def size_of(headers: Headers) -> int:
    """Bytes that headers take on the wire, about."""
    return sum(len(name) + len(value or b"") + 10 for name, value in headers)


def hold_size(outgoing: Outgoing) -> None:
    """Brokers refuse a record that is too long only after it was sent, and a gapless producer ends with it.

    Raises:
        ContractError: the record is longer than its topic takes.
    """
    value_bytes, headers_bytes = len(outgoing.value or b""), size_of(outgoing.headers) + len(outgoing.key or b"")
    longest = TOPICS[outgoing.topic].longest_bytes
    if value_bytes > longest or headers_bytes > HEADERS_ROOM_BYTES:
        raise ContractError(
            f"a record of {value_bytes} bytes with {headers_bytes} bytes of key and headers is too long for {outgoing.topic}, "
            f"which takes {longest} and {HEADERS_ROOM_BYTES}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a written record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a partition holds: offsets from `earliest` up to, and not including, `end`."""

    earliest: int
    end: int
