"""The vocabulary of the edge: what a source offers, what the spool keeps, and what it hands out."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledFrame:
    """A frame that waits to be sent."""

    sequence: int
    captured_at_us: int
    image: bytes = field(repr=False)
    media_type: str
    passage_id: str | None
    labels: Mapping[str, str]
    traceparent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledDrop:
    """Word of frames given up, all of first to last, that waits to be sent."""

    sequence: int
    last_sequence: int
    reason: str


Entry = SpooledFrame | SpooledDrop


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What a source offers. `mark` says where in its source it lies, so that a source can go on after a restart."""

    image: bytes = field(repr=False)
    captured_at_us: int
    media_type: str = "image/jpeg"
    passage_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """What became of an offer: the frame's number, whether it is kept, and how many frames were given up for it."""

    sequence: int
    kept: bool
    dropped_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the spool holds now. `dropped_count` counts frames given up whose notice is not acknowledged yet."""

    frames_count: int
    bytes_used: int
    drops_count: int
    dropped_count: int
