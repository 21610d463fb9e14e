"""The loader and servers that restart, refuse and are away: a promotion comes when one is ready, failures are told once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from processors.release import core
from processors.release.loader import ReleaseLoader
from schemas.catalogue import COMMANDS
from schemas.codec import FixedSchemas, decode
from schemas.errors import ContractError, InferenceUnavailableError
from schemas.events import PromoteRelease, RegisterRelease, ReleaseLoaded, ReleaseLoadFailed, ReleasePromoted
from schemas.types import EventId, ReleaseStep
from streams.records import Outgoing, Position
from tests.given import AT_US, cause
from tests.simulation import virtual_time

ONE, TWO = "one:8001", "two:8001"


class Server:
    """An inference server in memory: empty after a restart, as Triton is."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.ready: set[str] = set()
        self.refuses: dict[str, str] = {}
        self.is_away = False
        self.load_s = 3.0
        self.tries: list[tuple[str, float]] = []

    def restart(self) -> None:
        self.ready.clear()

    async def is_ready(self, release: str) -> bool:
        self._answer()
        return release in self.ready

    async def load(self, release: str) -> None:
        self._answer()
        self.tries.append((release, now()))
        await asyncio.sleep(self.load_s)
        if release in self.refuses:
            raise ContractError(self.refuses[release])
        self.ready.add(release)
        await asyncio.sleep(1.0)

    def _answer(self) -> None:
        if self.is_away:
            raise InferenceUnavailableError("away")


class Bench:
    """A loader, its servers, and a release processor that decides each command as it comes."""

    def __init__(self, *servers: Server) -> None:
        self.state = core.INITIAL
        self.events: list[tuple[float, Any]] = []
        self._schemas = FixedSchemas()
        self._stop = asyncio.Event()
        self._loader = ReleaseLoader(
            pipeline="gate",
            state=lambda: self.state,
            servers=servers,
            appender=self,
            schemas=self._schemas,
            clock=lambda: AT_US + int(now() * 1e6),
        )
        self._running = asyncio.create_task(self._loader.run(self._stop))

    async def append(self, outgoing: Outgoing) -> Position:
        self.decide(decode(outgoing.value, COMMANDS, self._schemas))
        return Position(topic=outgoing.topic, partition=0, offset=0)

    def decide(self, command: Any) -> None:
        events = core.decide(self.state, command, cause(len(self.events), COMMANDS))
        self.state = core.fold_all(events, self.state)
        self.events += [(now(), event) for event in events]

    def register(self, *releases: str) -> None:
        step = ReleaseStep(step="detection", model="detection", version=3, digest="ab")
        for release in releases:
            self.decide(RegisterRelease(**_asked(release), steps=(step,), parameters={}))

    def promote(self, release: str) -> float:
        self.decide(PromoteRelease(**_asked(release)))
        return now()

    def said(self, kind: type) -> list[tuple[float, Any]]:
        return [(at_s, event) for at_s, event in self.events if isinstance(event, kind)]

    async def in_force(self, release: str) -> float:
        """When it came into force, in seconds."""
        deadline_s = now() + 600
        while self.state.in_force != release:
            assert now() < deadline_s, f"{release} does not come into force"
            await asyncio.sleep(0.05)
        return now()

    async def stop(self) -> None:
        self._stop.set()
        await self._running


def now() -> float:
    return asyncio.get_running_loop().time()


def _asked(release: str) -> dict[str, Any]:
    told = {"pipeline": "gate", "release": release, "issued_by": "me", "reason": "", "issued_at_us": AT_US + int(now() * 1e6)}
    return {**told, "command_id": EventId(release)}


def on_bench(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    virtual_time.run(whole)


def test_a_release_that_is_ready_is_promoted_within_a_second() -> None:
    """To and fro between two loaded releases, also right after one another; each is reported loaded once, with its duration."""

    async def test() -> None:
        bench = Bench(Server(ONE))
        bench.register("r1", "r2")
        bench.promote("r1")
        await bench.in_force("r1")
        await asyncio.sleep(60)
        for release in ("r2", "r1", "r2", "r1"):
            asked_s = bench.promote(release)
            assert await bench.in_force(release) - asked_s < 1.0
        assert [(e.release, round(e.duration_us / 1e6)) for _, e in bench.said(ReleaseLoaded)] == [("r1", 4), ("r2", 4)]
        await bench.stop()

    on_bench(test)


def test_a_promotion_waits_until_a_restarted_server_is_ready_again() -> None:
    """That the server once had the release promotes nothing: it is loaded first, and no event says that it is loaded twice."""

    async def test() -> None:
        server = Server(ONE)
        bench = Bench(server)
        bench.register("r1", "r2")
        bench.promote("r1")
        await asyncio.sleep(60)
        server.restart()
        bench.promote("r2")
        await bench.in_force("r2")
        assert "r2" in server.ready
        assert len(bench.said(ReleaseLoaded)) == 2
        await bench.stop()

    on_bench(test)


def test_while_every_server_is_away_a_promotion_waits() -> None:
    """It is neither refused nor given up, however long that takes, and happens when one is back."""

    async def test() -> None:
        one, two = Server(ONE), Server(TWO)
        bench = Bench(one, two)
        bench.register("r1")
        one.is_away = two.is_away = True
        bench.promote("r1")
        await asyncio.sleep(3600)
        assert (bench.state.in_force, bench.said(ReleaseLoadFailed)) == (None, [])
        two.is_away = False
        assert await bench.in_force("r1") < 3610
        await bench.stop()

    on_bench(test)


def test_a_promotion_outlasts_one_server_that_cannot_while_another_is_away() -> None:
    """The failure is told at once and ends nothing; the server that comes back has the release loaded, and it is promoted."""

    async def test() -> None:
        one, two = Server(ONE), Server(TWO)
        bench = Bench(one, two)
        one.refuses, two.is_away = {"r1": "no memory"}, True
        bench.register("r1")
        bench.promote("r1")
        await asyncio.sleep(600)
        assert [(event.endpoint, event.gives_up) for _, event in bench.said(ReleaseLoadFailed)] == [(ONE, False)]
        two.is_away = False
        assert await bench.in_force("r1") < 610
        await bench.stop()

    on_bench(test)


def test_a_promotion_is_given_up_when_the_last_server_fails() -> None:
    """Also in the same words as the first, long after it; one that failed before it went away is asked again."""

    async def test() -> None:
        one, two = Server(ONE), Server(TWO)
        bench = Bench(one, two)
        one.refuses, two.refuses = {"r1": "no file"}, {"r1": "no file"}
        bench.register("r1")
        await asyncio.sleep(60)
        two.is_away = True
        await asyncio.sleep(60)
        bench.promote("r1")
        await asyncio.sleep(600)
        assert bench.state.pending is not None
        two.is_away = False
        await asyncio.sleep(10)
        assert bench.state.pending is None
        assert [event.gives_up for _, event in bench.said(ReleaseLoadFailed)][-1:] == [True]
        await bench.stop()

    on_bench(test)


def test_a_load_under_way_holds_up_no_promotion() -> None:
    """A newer release takes long to load; one that is ready is promoted within a second all the same."""

    async def test() -> None:
        server = Server(ONE)
        bench = Bench(server)
        bench.register("r1", "r2")
        bench.promote("r1")
        await asyncio.sleep(60)
        server.load_s = 100.0
        bench.register("r3")
        await asyncio.sleep(1)
        asked_s = bench.promote("r2")
        assert await bench.in_force("r2") - asked_s < 1.0
        assert "r3" not in server.ready
        await bench.stop()

    on_bench(test)


def test_one_server_that_can_is_enough() -> None:
    """The first server refuses at once and the second takes its time: the failure is told and ends nothing."""

    async def test() -> None:
        one, two = Server(ONE), Server(TWO)
        one.refuses, one.load_s, two.load_s = {"r1": "no file"}, 0.0, 20.0
        bench = Bench(one, two)
        bench.register("r1")
        bench.promote("r1")
        await bench.in_force("r1")
        await asyncio.sleep(600)
        assert [type(event) for _, event in bench.events[-3:]] == [ReleaseLoadFailed, ReleaseLoaded, ReleasePromoted]
        assert bench.state.releases["r1"].loaded_on == (TWO,)
        await bench.stop()

    on_bench(test)


def test_a_server_that_hangs_holds_up_no_other() -> None:
    """One takes two minutes to say nothing; the other one, which came up empty, is filled within seconds."""

    async def test() -> None:
        hung, other = Server(ONE), Server(TWO)
        bench = Bench(hung, other)
        bench.register("r1")
        bench.promote("r1")
        await bench.in_force("r1")
        await asyncio.sleep(60)
        hung.load_s = 120.0
        hung.restart()
        await asyncio.sleep(5)
        other.restart()
        await asyncio.sleep(6)
        assert ("r1" in other.ready, "r1" in hung.ready) == (True, False)
        await bench.stop()

    on_bench(test)


def test_the_way_back_is_tried_again() -> None:
    """A server had no memory for the release before when it came up; minutes later it has it, and a rollback takes a moment."""

    async def test() -> None:
        server = Server(ONE)
        bench = Bench(server)
        bench.register("r1", "r2")
        for release in ("r1", "r2"):
            bench.promote(release)
            await bench.in_force(release)
        server.restart()
        server.refuses = {"r1": "no memory"}
        await asyncio.sleep(20)
        server.refuses = {}
        await asyncio.sleep(120)
        assert server.ready == {"r1", "r2"}
        await bench.stop()

    on_bench(test)


def test_servers_that_fail_each_in_its_own_words_are_told_once_each() -> None:
    """Two messages that take turns are two events, whether the release is in force or in standby, where one try is enough."""

    async def test() -> None:
        one, two, three = Server(ONE), Server(TWO), Server("three:8001")
        bench = Bench(one, two, three)
        bench.register("r1", "r2")
        bench.promote("r1")
        await bench.in_force("r1")
        await asyncio.sleep(60)
        for server in (one, two, three):
            server.restart()
        one.refuses, two.refuses = dict.fromkeys(("r1", "r2"), "no memory"), dict.fromkeys(("r1", "r2"), "no file")
        one.tries = []
        await asyncio.sleep(600)
        told = sorted((event.release, event.endpoint) for _, event in bench.said(ReleaseLoadFailed))
        assert told == [("r1", ONE), ("r1", TWO), ("r2", ONE), ("r2", TWO)]
        three.restart()
        await asyncio.sleep(600)
        assert bench.state.releases["r2"].load_error == ""
        assert [release for release, _ in one.tries].count("r2") == 1
        await bench.stop()

    on_bench(test)


def test_a_release_in_force_that_does_not_load_is_tried_again_and_told_once() -> None:
    """After a restart it fails for ten minutes: one event, fewer tries as time goes by, and the load that works is told."""

    async def test() -> None:
        server = Server(ONE)
        bench = Bench(server)
        bench.register("r1")
        bench.promote("r1")
        await bench.in_force("r1")
        server.restart()
        server.refuses, server.tries = {"r1": "no memory"}, []
        await asyncio.sleep(600)
        assert [event.error_message for _, event in bench.said(ReleaseLoadFailed)] == ["no memory"]
        assert 8 <= len(server.tries) <= 20
        server.refuses = {}
        await asyncio.sleep(70)
        assert "r1" in server.ready
        entry = bench.state.releases["r1"]
        assert (entry.loaded_on, entry.load_error, len(bench.said(ReleaseLoaded))) == ((ONE,), "", 2)
        await bench.stop()

    on_bench(test)


def test_a_loader_that_starts_tries_what_another_could_not_load() -> None:
    """An old failure of the release in force, told by a worker that is gone, is no reason not to try."""

    async def test() -> None:
        server = Server(ONE)
        first = Bench(server)
        first.register("r1")
        first.promote("r1")
        await first.in_force("r1")
        server.restart()
        server.refuses = {"r1": "no memory"}
        await asyncio.sleep(10)
        await first.stop()
        server.refuses = {}
        second = Bench(server)
        second.state = first.state
        assert second.state.releases["r1"].load_error == "no memory"
        await asyncio.sleep(10)
        assert ("r1" in server.ready, second.state.releases["r1"].load_error) == (True, "")
        await second.stop()

    on_bench(test)


@pytest.mark.parametrize("message", ["no file", ""])
def test_a_release_that_nobody_waits_for_is_tried_once(message: str) -> None:
    """It fails in standby and is left alone; each promotion tries it again and is told of the failure, until it loads."""

    async def test() -> None:
        server = Server(ONE)
        server.refuses = {"r1": message}
        bench = Bench(server)
        bench.register("r1")
        await asyncio.sleep(600)
        assert len(server.tries) == 1
        for times in range(2, 10):
            bench.promote("r1")
            await asyncio.sleep(10)
            assert (len(server.tries), len(bench.said(ReleaseLoadFailed)), bench.state.pending) == (times, times, None)
        server.refuses = {}
        asked_s = bench.promote("r1")
        assert await bench.in_force("r1") - asked_s < 6.0
        await bench.stop()

    on_bench(test)
