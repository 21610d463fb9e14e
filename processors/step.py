"""What a processor is, and the ports that the shell runs it on.

A processor reads one topic. For each record the shell decodes the event, lets a processor that asks the world *prepare*
(blobs, models; nothing else does), lets one that *decides* say what follows, with the state and what was prepared, appends
that, folds the event into the state, and stores state and position together. `decide` and `fold` are pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from processors.redriven import Redriven
from schemas.codec import Schemas
from schemas.types import SourcePosition
from streams.ports import Appender, EventLog, Stored, ViewStore
from streams.records import Clock

S = TypeVar("S")
E_contra = TypeVar("E_contra", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What a command rests on: the event's position (index 0), its id, the trace, and the clock at the time.

    `redriven` says how the record came to lie there again, if it did.
    """

    position: SourcePosition
    event_id: str
    correlation_id: str
    traceparent: str
    now_us: int
    redriven: Redriven | None = None

    def source(self, index: int) -> SourcePosition:
        """The source of the index-th event that follows on one topic."""
        return replace(self.position, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the world answered, as plain values for `decide`. `dead_letter` names why the record is kept aside as well."""

    answer: Any = None
    dead_letter: str | None = None


NOTHING = Prepared()


@dataclass(frozen=True, slots=True)
class NoState:
    """Of a processor that keeps nothing but how far it came."""


class Step(Protocol[S]):
    """One processor. `name` is also the name of its state in the view store and of its consumer group."""

    @property
    def name(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def state_type(self) -> type[S]: ...
    @property
    def initial(self) -> S: ...

    def key(self, event: Any) -> str | None:
        """Whose state the event belongs to; None when it changes no state."""

    def fold(self, state: S, event: Any) -> S:
        """The state with the event counted. Pure, and the same whether live, catching up, or replaying."""


@runtime_checkable
class Deciding(Protocol):
    """What a step has as well when something follows from what it reads; a view only folds."""

    def decide(self, state: Any, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        """The events that follow. Pure."""


@runtime_checkable
class Asking(Protocol):
    """What a step has as well when it asks the world; many of its records are prepared at once."""

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        """Ask. Raises TransientError to be called again later; every other outcome is an answer."""


# The states of a view's partition by a snapshot at or before a position, one that the log still reaches back to.
SnapshotAt = Callable[[str, int, int], Stored | None]


def no_snapshot(view: str, partition: int, stop: int) -> Stored | None:
    """Where nobody takes any."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports(Generic[S]):
    """What the shell needs beside the step."""

    log: EventLog
    appender: Appender
    views: ViewStore
    schemas: Schemas
    clock: Clock
    snapshot: SnapshotAt = no_snapshot
