"""A circuit breaker: a server that is away is asked by one call now and then, not by every frame.

Closed, calls go through. After `failures` in a row it opens, for `open_s`, and for twice as long each time that finding out
shows nothing better. Then somebody finds out whether the server lives; if it does, one call goes through (half open), and its
outcome closes the breaker or opens it again. A step that fails is the ensemble's own answer and does not count; a server
that is away or too slow does.
"""

from collections.abc import Callable
from enum import IntEnum

import structlog
from prometheus_client import Counter, Gauge

STATE = Gauge("hindsight_breaker_state", "0 closed, 1 half open, 2 open.", ("endpoint",))
OPENED = Counter("hindsight_breaker_opened_total", "How often the breaker opened.", ("endpoint",))
log = structlog.get_logger()


class State(IntEnum):
    """As the metric says it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Use it inside one event loop.

    Args:
        name: Endpoint, for metrics and messages.
        now_s: A monotonic clock in seconds.
        failures: Failures in a row that open it.
        open_s: How long it stays open before somebody may find out, the first time.
        open_most_s: And the longest.
    """

    def __init__(
        self, name: str, *, now_s: Callable[[], float], failures: int = 3, open_s: float = 0.5, open_most_s: float = 4.0
    ) -> None:
        self._name = name
        self._now_s = now_s
        self._failures_max = failures
        self._open_first_s, self._open_most_s = open_s, open_most_s
        self._open_s = open_s
        self._failures = 0
        self._until_s = 0.0
        self._is_tried = False
        self._state = State.CLOSED
        STATE.labels(name).set(State.CLOSED)

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_due(self) -> bool:
        """Whether somebody should find out if the server lives."""
        return self._state is State.OPEN and self._now_s() >= self._until_s

    @property
    def admits(self) -> bool:
        """Whether a call may go through now."""
        return self._state is State.CLOSED or (self._state is State.HALF_OPEN and not self._is_tried)

    def begin(self) -> None:
        """A call goes through."""
        self._is_tried = self._state is State.HALF_OPEN

    def lives(self, alive: bool) -> None:
        """Somebody found out."""
        if self._state is not State.OPEN:
            return
        if alive:
            self._is_tried = False
            self._to(State.HALF_OPEN)
        else:
            self._open_again()

    def answered(self) -> None:
        """The server answered a call, whatever the answer."""
        if self._state is not State.CLOSED:
            log.info("breaker closes", endpoint=self._name)
        self._failures, self._open_s, self._is_tried = 0, self._open_first_s, False
        self._to(State.CLOSED)

    def failed(self) -> None:
        """The server is away, or was too slow."""
        self._failures += 1
        self._is_tried = False
        if self._state is State.HALF_OPEN:
            self._open_again()
        elif self._state is State.CLOSED and self._failures >= self._failures_max:
            OPENED.labels(self._name).inc()
            log.warning("breaker opens", endpoint=self._name, failures=self._failures)
            self._until_s = self._now_s() + self._open_s
            self._to(State.OPEN)

    def given_up(self) -> None:
        """A call ended without an outcome: nobody waits for it any more."""
        self._is_tried = False

    def _open_again(self) -> None:
        self._open_s = min(2 * self._open_s, self._open_most_s)
        self._until_s = self._now_s() + self._open_s
        self._to(State.OPEN)

    def _to(self, state: State) -> None:
        self._state = state
        STATE.labels(self._name).set(state)
