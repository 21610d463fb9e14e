"""fleet: a call goes to a server that is likely to answer soon; one that is away costs nothing, and comes back by itself."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from schemas.errors import (
    InferenceTimeoutError,
    InferenceUnavailableError,
    ModelProcessDiedError,
    ReleaseNotReadyError,
    StepFailedError,
)
from streams.fleet import Fleet
from streams.ports import Answer
from tests.simulation import virtual_time


class Server:
    """A server in memory: how long it takes, what goes wrong with it, and what it was asked."""

    def __init__(self, endpoint: str, takes_s: float = 0.1) -> None:
        self.endpoint = endpoint
        self.takes_s = takes_s
        self.trouble: Exception | None = None
        self.missing: set[str] = set()
        self.dead: dict[str, str] = {}
        self.hangs = False
        self.asked: list[float] = []
        self.in_flight = self.in_flight_most = self.given_up = self.probed = 0

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        self.asked.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            if self.trouble is not None:
                raise self.trouble
            if release in self.dead:
                raise ModelProcessDiedError("not healthy", model=self.dead[release], endpoint=self.endpoint)
            if release in self.missing:
                raise ReleaseNotReadyError(f"{release} is not ready")
            await asyncio.sleep(1e6 if self.hangs else self.takes_s)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.in_flight -= 1
        return Answer(result_json=b"{}", report_json=b"{}", endpoint=self.endpoint)

    async def is_live(self) -> bool:
        return self.trouble is None and not self.hangs

    async def is_well(self, release: str) -> bool:
        self.probed += 1
        return release not in self.dead and await self.is_live()


AWAY = InferenceUnavailableError("connection refused")
_names = iter(range(10**6))


def servers(*takes_s: float) -> tuple[Server, ...]:
    return tuple(Server(f"t{next(_names)}:1", takes) for takes in takes_s)


def on(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(test)


def fleet(of: tuple[Server, ...], *, timeout_s: float = 30.0, calls: int = 4, hedge_after_s: float | None = None) -> Fleet:
    return Fleet(
        of,
        timeout_s=timeout_s,
        calls_per_server=calls,
        hedge_after_s=hedge_after_s,
        now_s=asyncio.get_running_loop().time,
        rng=random.Random(1),
    )


async def ask(one: Fleet, release: str = "r1") -> str:
    return (await one.infer(release, b"", {})).endpoint


async def ask_many(one: Fleet, count: int, *, at_once: int = 4, release: str = "r1") -> list[str]:
    """So many calls, some at a time."""
    room, found = asyncio.Semaphore(at_once), []

    async def single() -> None:
        async with room:
            found.append(await ask(one, release))

    await asyncio.gather(*(single() for _ in range(count)))
    return found


def now() -> float:
    return asyncio.get_running_loop().time()


def test_load_is_shared_and_the_faster_server_has_more_of_it() -> None:
    """Neither stands idle while the other works."""

    async def test() -> None:
        fast, slow = both = servers(0.1, 0.3)
        found = await ask_many(fleet(both), 400)
        assert found.count(fast.endpoint) > 1.5 * found.count(slow.endpoint) > 60

    on(test)


def test_a_server_that_is_away_is_passed_over_within_the_call() -> None:
    """Every call has its answer from the other one, and the one that is away is soon asked no more."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.trouble = AWAY
        found = await ask_many(fleet(both), 100)
        assert set(found) == {other.endpoint}
        assert len(one.asked) < 20

    on(test)


def test_a_server_that_came_back_is_used_again() -> None:
    """Found out by a question of its own, and not by a frame."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        calls = fleet(both)
        one.trouble = AWAY
        await ask_many(calls, 200)
        asked = len(one.asked)
        one.trouble = None
        began = now()
        while len(one.asked) == asked:
            await ask(calls)
        assert now() - began < 5.0
        assert (await ask_many(calls, 200)).count(one.endpoint) > 60
        assert other.trouble is None

    on(test)


def test_when_all_are_away_a_call_fails_at_once_and_says_why_of_each() -> None:
    """The frame waits where it lies; nothing is asked of a server whose breaker is open."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.trouble = other.trouble = AWAY
        calls = fleet(both)
        for _ in range(50):
            with pytest.raises(InferenceUnavailableError) as told:
                await ask(calls)
            assert one.endpoint in str(told.value)
            assert other.endpoint in str(told.value)
        assert len(one.asked) < 10
        one.trouble = None
        began = now()
        while True:
            try:
                assert await ask(calls) == one.endpoint
                break
            except InferenceUnavailableError:
                await asyncio.sleep(0.05)
        assert now() - began < 5.0

    on(test)


def test_a_server_without_a_release_is_good_for_another() -> None:
    """And its breaker stays closed; the release is looked for there again after a while."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.missing = {"r2"}
        calls = fleet(both)
        assert set(await ask_many(calls, 60, release="r2")) == {other.endpoint}
        assert (await ask_many(calls, 60, release="r1")).count(one.endpoint) > 10
        one.missing = set()
        await asyncio.sleep(1.0)
        assert (await ask_many(calls, 60, release="r2")).count(one.endpoint) > 10

    on(test)


def test_a_failed_step_is_the_answer() -> None:
    """No other server is asked for it, and no breaker opens."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.trouble = other.trouble = StepFailedError("boom", step="detection")
        calls = fleet(both)
        for _ in range(20):
            with pytest.raises(StepFailedError):
                await ask(calls)
        assert len(one.asked) + len(other.asked) == 20

    on(test)


def test_no_server_has_more_calls_than_it_may() -> None:
    """The others wait for room, in the call and not in the server."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        await ask_many(fleet(both, calls=3), 200, at_once=50)
        assert (one.in_flight_most, other.in_flight_most) == (3, 3)

    on(test)


def test_one_deadline_covers_waiting_for_room_and_the_call() -> None:
    """Whoever waited in vain for room is told so at the same time as whoever waited for the answer."""

    async def test() -> None:
        (one,) = only = servers(0.1)
        one.hangs = True
        calls = fleet(only, timeout_s=2.0, calls=1)
        began = now()
        outcomes = await asyncio.gather(ask(calls), ask(calls), return_exceptions=True)
        assert [type(o) for o in outcomes] == [InferenceTimeoutError, InferenceTimeoutError]
        assert now() - began == pytest.approx(2.0)
        assert (one.in_flight, one.given_up) == (0, 1)

    on(test)


def test_a_server_that_hangs_is_out_after_a_few_calls() -> None:
    """Its calls run into the deadline; then the other one has everything."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.hangs = True
        calls = fleet(both, timeout_s=1.0)
        outcomes = await asyncio.gather(*(ask(calls) for _ in range(8)), return_exceptions=True)
        assert 0 < sum(isinstance(o, InferenceTimeoutError) for o in outcomes) <= 4
        asked = len(one.asked)
        assert set(await ask_many(calls, 50)) == {other.endpoint}
        assert len(one.asked) == asked

    on(test)


def test_a_hedge_asks_another_server_after_a_while_and_gives_the_slow_one_up() -> None:
    """The answer comes from whoever is first; what was begun at the other is cancelled, and counts as nobody's failure."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        one.hangs = other.hangs = True
        one.hangs = False
        calls = fleet(both, hedge_after_s=0.5)
        began = now()
        assert set(await ask_many(calls, 40, at_once=2)) == {one.endpoint}
        assert now() - began < 20.0
        assert 0 < other.given_up < 5
        other.hangs = False
        await asyncio.sleep(60)
        assert (await ask_many(calls, 60)).count(other.endpoint) > 5

    on(test)


def test_a_slow_server_is_known_as_slow_also_when_a_hedge_outruns_it() -> None:
    """Its calls never end, and took as long as they were waited for."""

    async def test() -> None:
        slow, fast = both = servers(5.0, 0.05)
        calls = fleet(both, hedge_after_s=0.5)
        assert set(await ask_many(calls, 200, at_once=1)) == {fast.endpoint}
        assert len(slow.asked) < 20

    on(test)


def test_a_hedge_that_hangs_does_not_hide_that_the_first_one_failed() -> None:
    """The step that failed is told as soon as the other had as long as a hedge waits, and not at the deadline."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        other.hangs = True

        async def fails(*_: Any, **__: Any) -> Answer:
            await asyncio.sleep(1.0)
            raise StepFailedError("failed", step="recognizer", endpoint=one.endpoint)

        one.infer = fails  # type: ignore[method-assign]
        calls = fleet(both, hedge_after_s=0.5)
        outcomes = []
        for _ in range(4):
            began = now()
            with pytest.raises((StepFailedError, InferenceTimeoutError)) as told:
                await ask(calls)
            outcomes.append((getattr(told.value, "step", None), now() - began < 3.0))
        assert outcomes == [("recognizer", True)] * 4

    on(test)


def test_a_call_that_is_not_over_counts_for_as_long_as_it_has_lasted() -> None:
    """A server that was never slow before takes a few calls, and not all that there is room for."""

    async def test() -> None:
        hung, good = both = servers(0.1, 0.1)
        calls = fleet(both, calls=16)
        await ask_many(calls, 20)
        await asyncio.sleep(100)
        hung.hangs, before = True, len(hung.asked)
        callers = [asyncio.create_task(ask_many(calls, 50, at_once=1)) for _ in range(8)]
        await asyncio.sleep(5)
        assert len(hung.asked) - before < 6
        assert len(good.asked) > 100
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    on(test)


def test_a_server_that_refuses_everything_at_once_is_not_a_fast_one() -> None:
    """A broken model on one host costs a try now and then; the frames go where they are read."""

    async def test() -> None:
        bad, good = both = servers(0.1, 0.3)
        bad.trouble = StepFailedError("CUDA out of memory", step="detection", endpoint=bad.endpoint)
        calls, failed = fleet(both), 0
        for _ in range(200):
            try:
                assert await ask(calls) == good.endpoint
            except StepFailedError:
                failed += 1
        assert 0 < failed < 12

    on(test)


def test_an_error_that_nobody_expects_leaves_a_server_usable() -> None:
    """Also the one call that goes through while its breaker is half open."""

    async def test() -> None:
        (one,) = only = servers(0.05)
        calls, read = fleet(only), one.infer
        one.trouble = AWAY
        for _ in range(5):
            with pytest.raises(InferenceUnavailableError):
                await ask(calls)
        one.trouble = None

        async def malformed(*_: Any, **__: Any) -> Answer:
            one.infer = read  # type: ignore[method-assign]
            raise ValueError("malformed tensor")

        one.infer = malformed  # type: ignore[method-assign]
        errors: list[str] = []
        for _ in range(20):
            await asyncio.sleep(1)
            try:
                await ask(calls)
                errors.append("")
            except (ValueError, InferenceUnavailableError) as error:
                errors.append(type(error).__name__)
        assert "ValueError" in errors
        assert errors[-10:] == [""] * 10

    on(test)


def test_who_waits_for_room_hears_of_a_server_that_is_back() -> None:
    """Soon, and not when the full one has an answer."""

    async def test() -> None:
        slow, back = both = servers(0.1, 0.1)
        calls = fleet(both, calls=2)
        back.trouble = AWAY
        await ask_many(calls, 30)
        slow.takes_s, began = 25.0, now()
        waiting = [asyncio.create_task(ask(calls)) for _ in range(6)]
        await asyncio.sleep(1)
        back.trouble = None
        assert (await asyncio.gather(*waiting)).count(back.endpoint) == 4
        assert now() - began < 26.0
        assert min(t for t in back.asked if t > began + 1) < began + 8

    on(test)


def test_who_waited_for_room_most_of_the_time_says_nothing_about_the_server() -> None:
    """One healthy server with too many callers: some time out, and its breaker stays closed."""

    async def test() -> None:
        (one,) = only = servers(0.9)
        calls = fleet(only, timeout_s=10.0)
        outcomes = await asyncio.gather(*(ask(calls) for _ in range(100)), return_exceptions=True)
        assert 0 < sum(isinstance(o, InferenceTimeoutError) for o in outcomes) < 70
        assert await ask(calls) == one.endpoint

    on(test)


def test_a_server_that_lives_and_hangs_is_left_alone_until_a_probe_says_otherwise() -> None:
    """No frame waits out its time there again and again; when it reads again, it is used."""

    async def test() -> None:
        hung, _ = both = servers(0.1, 0.1)
        hung.hangs = True

        async def lives() -> bool:
            return True

        hung.is_live = lives  # type: ignore[method-assign]

        async def is_well(release: str) -> bool:
            hung.probed += 1
            await asyncio.sleep(1e6 if hung.hangs else 0.01)
            return True

        hung.is_well = is_well  # type: ignore[method-assign]
        calls, late = fleet(both), 0
        while now() < 1200:
            try:
                await ask_many(calls, 8, at_once=8)
            except InferenceTimeoutError:
                late += 1
        assert late <= 2
        assert hung.probed > 20
        hung.hangs = False
        await asyncio.sleep(30)
        assert (await ask_many(calls, 100)).count(hung.endpoint) > 10

    on(test)


def test_without_a_hedge_nobody_is_asked_twice() -> None:
    """It is an option."""

    async def test() -> None:
        both = servers(2.0, 2.0)
        await ask_many(fleet(both), 20)
        assert sum(len(s.asked) for s in both) == 20

    on(test)


def test_a_server_whose_model_process_died_gets_no_more_calls_for_that_release_until_a_probe_finds_it_alive() -> None:
    """Who was in a call is told of the death; the other server has the release meanwhile, and another release stays."""

    async def test() -> None:
        one, other = both = servers(0.1, 0.1)
        calls = fleet(both)
        one.dead = {"r1": "recognizer"}
        found: list[Any] = [*await asyncio.gather(*(ask(calls) for _ in range(4)), return_exceptions=True)]
        found += [await ask(calls) for _ in range(60)]
        deaths = [f for f in found if isinstance(f, ModelProcessDiedError)]
        assert {(f.model, f.endpoint) for f in deaths} == {("recognizer", one.endpoint)}
        assert {f for f in found if f not in deaths} == {other.endpoint}
        assert (await ask_many(calls, 60, release="r2")).count(one.endpoint) > 10
        assert one.probed in range(4, 13)
        one.dead = {}
        began = now()
        while await ask(calls) != one.endpoint:
            assert now() - began < 3.0

    on(test)


def test_where_every_process_of_a_release_is_dead_a_call_waits_at_once_and_says_which() -> None:
    """The frame waits in the log, and goes on by itself."""

    async def test() -> None:
        (one,) = only = servers(0.1)
        calls = fleet(only)
        one.dead = {"r1": "recognizer"}
        with pytest.raises(ModelProcessDiedError):
            await ask(calls)
        for _ in range(30):
            with pytest.raises(InferenceUnavailableError, match="its process of recognizer is dead"):
                await ask(calls)
            await asyncio.sleep(0.1)
        assert len(one.asked) == 1
        one.dead = {}
        began = now()
        while True:
            try:
                assert await ask(calls) == one.endpoint
                break
            except InferenceUnavailableError:
                await asyncio.sleep(0.05)
        assert now() - began < 1.5

    on(test)
