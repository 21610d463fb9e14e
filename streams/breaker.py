"""A circuit breaker around `Inference`: a server that is away is asked by one call now and then, not by every frame.

Closed, calls go through. After `failures` in a row it opens: calls fail at once, for `open_s`. Then one call goes
through to find out (half open), and its outcome closes the breaker or opens it again. A step that fails is the
ensemble's own answer and does not count; a server that is away or too slow does.
"""

from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter, Gauge

from schemas.errors import InferenceTimeoutError, InferenceUnavailableError, StepFailedError
from streams.ports import Answer, Inference

STATE = Gauge("hindsight_breaker_state", "0 closed, 1 half open, 2 open.", ("endpoint",))
OPENED = Counter("hindsight_breaker_opened_total", "How often the breaker opened.", ("endpoint",))
_CLOSED, _HALF_OPEN, _OPEN = 0, 1, 2
log = structlog.get_logger()


class BreakingInference:
    """Use it inside one event loop.

    Args:
        name: Endpoint, for metrics and messages.
        now_s: A monotonic clock in seconds.
        failures: Failures in a row that open it.
        open_s: How long it stays open before a call may find out.
    """

    def __init__(
        self, inner: Inference, *, name: str, now_s: Callable[[], float], failures: int = 5, open_s: float = 1.0
    ) -> None:
        self._inner = inner
        self._name = name
        self._now_s = now_s
        self._failures_max = failures
        self._open_s = open_s
        self._failures = 0
        self._opened_at_s: float | None = None
        self._probing = False
        STATE.labels(name).set(_CLOSED)

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        probing = self._admit()
        try:
            answer = await self._inner.infer(release, image, parameters, traceparent=traceparent)
        except (InferenceUnavailableError, InferenceTimeoutError):
            self._failed()
            raise
        except StepFailedError:
            self._answered()
            raise
        finally:
            if probing:
                self._probing = False
        self._answered()
        return answer

    def _admit(self) -> bool:
        """Whether this call is the one that finds out; raises while the breaker is open."""
        if self._opened_at_s is None:
            return False
        if self._probing or self._now_s() - self._opened_at_s < self._open_s:
            raise InferenceUnavailableError(
                f"the breaker of {self._name} is open", do="check that Triton runs: `hindsight status`"
            )
        self._probing = True
        STATE.labels(self._name).set(_HALF_OPEN)
        return True

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_max or self._opened_at_s is not None:
            if self._opened_at_s is None:
                OPENED.labels(self._name).inc()
                log.warning("breaker opens", endpoint=self._name, failures=self._failures)
            self._opened_at_s = self._now_s()
            STATE.labels(self._name).set(_OPEN)

    def _answered(self) -> None:
        if self._opened_at_s is not None:
            log.info("breaker closes", endpoint=self._name)
        self._failures, self._opened_at_s = 0, None
        STATE.labels(self._name).set(_CLOSED)
