"""A window of the log: which records an export is of, in offsets of each partition.

A window goes by the broker's clock and is half open, so that exports of adjacent windows have no record twice. Offsets
are fixed before anything is read: an export of the live log ends, however fast the log grows.
"""

from dataclasses import dataclass

from schemas.catalogue import (
    ASSESSMENTS,
    CANDIDATES,
    COMMANDS,
    ERASURES,
    FRAMES,
    INFERENCES,
    MONITORING,
    REDRIVES,
    RELEASES,
    RESULTS,
)
from schemas.errors import ConfigurationError
from streams.ports import EventLog
from streams.records import ms_from

# Causes before what they cause: the order of records that the broker took in the same millisecond.
CHAIN = (COMMANDS, RELEASES, FRAMES, ASSESSMENTS, INFERENCES, CANDIDATES, RESULTS, MONITORING, ERASURES, REDRIVES)
OF_PIPELINES = frozenset({COMMANDS, RELEASES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Records appended at `from_us` or later and before `to_us` (us since the epoch), to the broker's millisecond.

    None is the start of what is kept, or its end as of now. `devices` leaves out other devices' records; commands and
    releases are of pipelines, and always in. An empty `devices` takes all.
    """

    from_us: int | None = None
    to_us: int | None = None
    devices: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.from_us is not None and self.to_us is not None and self.from_us >= self.to_us:
            raise ConfigurationError("the window ends before it begins", setting="--to", do="name a later moment with --to")

    @property
    def keys(self) -> frozenset[bytes]:
        """The devices as records' keys."""
        return frozenset(device.encode() for device in self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The part of one partition that a window is of: start <= offset < stop."""

    topic: str
    partition: int
    start: int
    stop: int


def spans(log: EventLog, window: Window, topics: tuple[str, ...] = CHAIN) -> tuple[Span, ...]:
    """The window in offsets, by topic and partition.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    return tuple(span(log, window, topic, partition) for topic in topics for partition in log.partitions(topic))


def span(log: EventLog, window: Window, topic: str, partition: int, *, early_ms: int = 0) -> Span:
    """One partition of the window, from `early_ms` before its beginning.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    bounds = log.bounds(topic, partition)
    start = bounds.earliest if window.from_us is None else log.offset_at(topic, partition, ms_from(window.from_us) - early_ms)
    stop = bounds.end if window.to_us is None else log.offset_at(topic, partition, ms_from(window.to_us))
    return Span(topic=topic, partition=partition, start=max(start, bounds.earliest), stop=min(stop, bounds.end))
