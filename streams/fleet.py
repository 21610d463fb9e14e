"""Several inference servers as one `Inference`: each call goes to the one that is likely to answer first.

Guarantees: one deadline covers waiting for room, every server that is tried, and the hedge. A server that is away, or that does
not have a release ready, is passed over within the same call; no attempt of the frame is spent on it. A call in which a server
went away fails, since the frame may be why; so does one in which a model process died, and its server gets no more calls for
that release until a probe finds the process alive. Each server has a bounded number of calls in flight: when all are full,
callers wait, and so do the partitions behind them. When none is to be had, the call fails at once and says why of each; the
frame waits in Kafka.

The choice is by two random servers and the lower of their loads: the time that a call took lately, which rises at once and falls
slowly, times the calls in flight. A call that is not over took as long as it has so far, and one that failed took a while: a
server that refuses everything at once is not a fast one. Source: M. Mitzenmacher, The power of two choices in randomized load
balancing, 2001; the estimate is the peak EWMA of Twitter's Finagle.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge, Histogram

from schemas.errors import (
    InferenceTimeoutError,
    InferenceUnavailableError,
    ModelProcessDiedError,
    ReleaseNotReadyError,
    ServerLostError,
    StepFailedError,
)
from streams.breaker import Breaker
from streams.ports import Answer

CALLS = Counter("hindsight_endpoint_calls_total", "Calls to an inference server by outcome.", ("endpoint", "outcome"))
SECONDS = Histogram(
    "hindsight_endpoint_call_seconds",
    "Time of an answered call.",
    ("endpoint",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge("hindsight_endpoint_in_flight", "Calls in flight.", ("endpoint",))
DEAD = Gauge("hindsight_endpoint_dead_releases", "Releases that cannot be read there: a process is dead.", ("endpoint",))
HEDGED = Counter("hindsight_endpoint_hedged_total", "Second tries that were begun beside a slow first one.", ("endpoint",))
log = structlog.get_logger()
_FORGET_S = 10.0
_NOT_READY_S = 0.5
_LIVE_S = 1.0
_WELL_EVERY_S = 1.0
_WELL_S = 5.0
_FAILED_AS_S = 2.0
_LOOK_S = 0.5
_DO = "check that Triton runs and has the release: `hindsight status`"


class Server(Protocol):
    """One inference server."""

    @property
    def endpoint(self) -> str:
        """host:port."""

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        """As `ports.Inference`; may be cancelled."""

    async def is_live(self) -> bool:
        """Whether it says that it lives; False when it does not answer."""

    async def is_well(self, release: str) -> bool:
        """Whether every model process of a release answers to a probe; False when nothing answers."""


class Fleet:
    """Use it inside one event loop.

    Args:
        servers: At least one.
        timeout_s: Deadline of one call, whatever is tried in it.
        calls_per_server: Most calls in flight on one server.
        hedge_after_s: After so long without an answer another server is asked beside; None never does.
        now_s: A monotonic clock in seconds; the loop's own.
    """

    def __init__(
        self,
        servers: tuple[Server, ...],
        *,
        timeout_s: float,
        calls_per_server: int,
        hedge_after_s: float | None = None,
        now_s: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        self._members = tuple(_Member(server, now_s, calls_per_server) for server in servers)
        self._timeout_s = timeout_s
        self._hedge_after_s = hedge_after_s
        self._now_s = now_s
        self._random = rng or random.Random()
        self._waiting: list[asyncio.Future[None]] = []
        self._finding_out: set[asyncio.Task[None]] = set()

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        def ask(member: "_Member") -> Awaitable[Answer]:
            return member.server.infer(release, image, parameters, traceparent=traceparent)

        limit = asyncio.timeout(self._timeout_s)
        call = _Call(release, ask, self._timeout_s, limit)
        try:
            async with limit:
                return await self._answered(call)
        except TimeoutError as error:
            waited = f"{release}: no answer within {self._timeout_s:g} s from {call.last or 'a server with room'}"
            raise InferenceTimeoutError(waited, endpoint=call.last) from error

    async def _answered(self, call: "_Call") -> Answer:
        """From the first server that answers; those that are away are passed over."""
        while True:
            member = await self._admitted(call)
            try:
                return await self._hedged(call, member)
            except ServerLostError:
                # It may be the frame's doing: no other server has it before who sent it has thought about that.
                raise
            except InferenceUnavailableError as error:
                call.away[member.server.endpoint] = str(error)

    async def _admitted(self, call: "_Call") -> "_Member":
        """A server that takes the call; waits while those that could are full.

        Raises:
            InferenceUnavailableError: none could.
        """
        while True:
            fit = [m for m in self._members if m.server.endpoint not in call.away and m.takes(call.release)]
            self._find_out(call.release)
            if not fit:
                raise InferenceUnavailableError(self._why_none(call), do=_DO)
            if with_room := [m for m in fit if m.has_room]:
                return self._better(with_room, call)
            await self._room()

    async def _room(self) -> None:
        """Wait until there may be room, or it is time to see whether a server that was away is back."""
        room = asyncio.get_running_loop().create_future()
        self._waiting.append(room)
        try:
            await asyncio.wait({room}, timeout=_LOOK_S)
        finally:
            if room in self._waiting:
                self._waiting.remove(room)

    def _better(self, members: "list[_Member]", call: "_Call") -> "_Member":
        """The less loaded of two; the call has its place there from now on."""
        chosen = min(self._random.sample(members, min(2, len(members))), key=lambda m: m.load())
        chosen.take(call)
        return chosen

    def _why_none(self, call: "_Call") -> str:
        known = {m.server.endpoint: m.why(call.release) for m in self._members}
        return "; ".join(f"{endpoint}: {call.away.get(endpoint, why)}" for endpoint, why in known.items())

    async def _hedged(self, call: "_Call", first: "_Member") -> Answer:
        """The first of one or two that answers; the other is given up."""
        tasks = {self._begun(call, first)}
        try:
            if self._hedge_after_s is not None:
                done, _ = await asyncio.wait(tasks, timeout=self._hedge_after_s)
                if not done and (second := self._beside(call, first)) is not None:
                    HEDGED.labels(second.server.endpoint).inc()
                    tasks.add(self._begun(call, second))
            return await _first_good(tasks, self._hedge_after_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _beside(self, call: "_Call", first: "_Member") -> "_Member | None":
        others = [m for m in self._members if m is not first and m.takes(call.release) and m.has_room]
        others = [m for m in others if m.server.endpoint not in call.away]
        return self._better(others, call) if others else None

    def _begun(self, call: "_Call", member: "_Member") -> "asyncio.Task[Answer]":
        """The call in the place that was taken for it, which it gives back however it ends, also before it began."""

        def left(_: "asyncio.Task[Answer]") -> None:
            member.leave(call)
            self._tell_of_room()

        task = asyncio.create_task(self._asked(call, member))
        task.add_done_callback(left)
        return task

    async def _asked(self, call: "_Call", member: "_Member") -> Answer:
        call.last, began_s = member.server.endpoint, self._now_s()
        try:
            answer = await call.ask(member)
        except ReleaseNotReadyError:
            member.is_without(call.release)
            raise
        except ModelProcessDiedError as error:
            member.lost_process(call.release, error.model)
            raise
        except InferenceUnavailableError:
            member.ended(began_s, "unavailable")
            raise
        except InferenceTimeoutError:
            member.ended(began_s, "timeout")
            raise
        except StepFailedError:
            member.ended(began_s, "step_failed")
            raise
        except asyncio.CancelledError:
            # Who waited for room most of the time says nothing about the server that it came to last.
            had_it = self._now_s() - began_s >= call.timeout_s / 2
            member.ended(began_s, "timeout" if call.limit.expired() and had_it else "given_up")
            raise
        except Exception:
            member.ended(began_s, "unexpected")
            raise
        member.ended(began_s, "ok")
        return answer

    def _tell_of_room(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def _find_out(self, release: str) -> None:
        """Ask servers that are out, beside the calls, whether they read again, and others whether what died there does."""
        for member in self._members:
            if member.breaker.is_due and not member.is_asked:
                member.is_asked = True
                self._beside_the_calls(self._ask_whether_it_lives(member, release))
            for release in member.to_probe():
                self._beside_the_calls(self._ask_whether_it_is_well(member, release))

    def _beside_the_calls(self, asking: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(asking)
        self._finding_out.add(task)
        task.add_done_callback(self._finding_out.discard)

    async def _ask_whether_it_lives(self, member: "_Member", release: str) -> None:
        """A server that says that it lives may hang in every inference: no frame finds that out, a probe does."""
        alive = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIVE_S):
                    alive = await member.server.is_live()
            if alive:
                alive = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WELL_S):
                        alive = await member.server.is_well(release)
        finally:
            member.is_asked = False
            member.breaker.lives(alive)
            self._tell_of_room()

    async def _ask_whether_it_is_well(self, member: "_Member", release: str) -> None:
        is_well = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WELL_S):
                    is_well = await member.server.is_well(release)
        finally:
            member.found(release, is_well)
            self._tell_of_room()


class _Call:
    """One frame's call: who is asked, until when, who was away."""

    def __init__(
        self, release: str, ask: "Callable[[_Member], Awaitable[Answer]]", timeout_s: float, limit: asyncio.Timeout
    ) -> None:
        self.release = release
        self.ask = ask
        self.timeout_s = timeout_s
        self.limit = limit
        self.away: dict[str, str] = {}
        self.last = ""


@dataclass(slots=True)
class _Death:
    """A dead process: of which model, and when to look for it again."""

    model: str
    again_at_s: float


class _Member:
    """A server with what is known of it."""

    def __init__(self, server: Server, now_s: Callable[[], float], calls_most: int) -> None:
        self.server = server
        self.breaker = Breaker(server.endpoint, now_s=now_s)
        self.is_asked = False
        self._now_s = now_s
        self._calls_most = calls_most
        self._in_flight: dict[_Call, float] = {}
        self._took_s, self._took_at_s = 0.0, now_s()
        self._without: dict[str, float] = {}
        self._died: dict[str, _Death] = {}

    @property
    def has_room(self) -> bool:
        return len(self._in_flight) < self._calls_most

    def takes(self, release: str) -> bool:
        """Whether a call for a release may go here."""
        return self.breaker.admits and release not in self._died and self._without.get(release, 0.0) <= self._now_s()

    def why(self, release: str) -> str:
        """Why none may."""
        if not self.breaker.admits:
            return "its breaker is open"
        died = self._died.get(release)
        return f"its process of {died.model} is dead" if died is not None else f"it does not have {release} ready"

    def load(self) -> float:
        now_s = self._now_s()
        lately_s = self._took_s * math.exp((self._took_at_s - now_s) / _FORGET_S)
        oldest_s = now_s - min(self._in_flight.values(), default=now_s)
        return max(lately_s, oldest_s) * (len(self._in_flight) + 1)

    def take(self, call: _Call) -> None:
        """A call has a place here."""
        self._in_flight[call] = self._now_s()
        self.breaker.begin()
        IN_FLIGHT.labels(self.server.endpoint).set(len(self._in_flight))

    def leave(self, call: _Call) -> None:
        del self._in_flight[call]
        IN_FLIGHT.labels(self.server.endpoint).set(len(self._in_flight))

    def is_without(self, release: str) -> None:
        """It lives, and does not have a release: others may be read there, and this one is asked for again in a while."""
        self.breaker.answered()
        self._without = {r: until_s for r, until_s in self._without.items() if until_s > self._now_s()}
        self._without[release] = self._now_s() + _NOT_READY_S
        CALLS.labels(self.server.endpoint, "not_ready").inc()

    def lost_process(self, release: str, model: str) -> None:
        """It lives, and cannot read by a release until a process of it is started again."""
        self.breaker.answered()
        CALLS.labels(self.server.endpoint, "process_died").inc()
        if release not in self._died:
            log.warning("model process dead", endpoint=self.server.endpoint, release=release, model=model)
            self._died[release] = _Death(model, self._now_s() + _WELL_EVERY_S)
        DEAD.labels(self.server.endpoint).set(len(self._died))

    def to_probe(self) -> tuple[str, ...]:
        """Releases whose dead process somebody should look for now; they count as looked for."""
        due = tuple(r for r, death in self._died.items() if death.again_at_s <= self._now_s())
        for release in due:
            self._died[release].again_at_s = math.inf
        return due

    def found(self, release: str, is_well: bool) -> None:
        """Somebody looked."""
        if is_well:
            log.info("model process lives again", endpoint=self.server.endpoint, release=release)
            del self._died[release]
        else:
            self._died[release].again_at_s = self._now_s() + _WELL_EVERY_S
        DEAD.labels(self.server.endpoint).set(len(self._died))

    def ended(self, began_s: float, outcome: str) -> None:
        CALLS.labels(self.server.endpoint, outcome).inc()
        seconds = self._now_s() - began_s
        if outcome == "ok":
            SECONDS.labels(self.server.endpoint).observe(seconds)
        is_failure = outcome in ("step_failed", "unexpected")
        self._took(max(seconds, _FAILED_AS_S) if is_failure else seconds)
        if outcome == "given_up":
            self.breaker.given_up()
        elif outcome in ("unavailable", "timeout"):
            self.breaker.failed()
        else:
            self.breaker.answered()

    def _took(self, seconds: float) -> None:
        """Rises at once, falls slowly."""
        now_s = self._now_s()
        keeps = math.exp((self._took_at_s - now_s) / _FORGET_S)
        self._took_s = max(seconds, self._took_s * keeps + seconds * (1 - keeps))
        self._took_at_s = now_s


async def _first_good(tasks: "set[asyncio.Task[Answer]]", patience_s: float | None) -> Answer:
    """The first answer; an error when every one ended with one, or the last one takes longer than `patience_s` after one."""
    waiting, first_error = set(tasks), None
    while waiting:
        limit_s = patience_s if first_error is not None else None
        done, waiting = await asyncio.wait(waiting, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
        for task in done:
            if (error := task.exception()) is None:
                return task.result()
            first_error = first_error or error
    assert first_error is not None, "every task ended, and none with an answer"
    raise first_error
