"""The healer: a dead model process is started anew and told once; what a server lacks is told when that changes and lasts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from processors.release import core
from processors.release.healing import ModelHealer, difference
from processors.release.state import Difference
from schemas.catalogue import COMMANDS
from schemas.codec import FixedSchemas, decode
from schemas.errors import ContractError, InferenceUnavailableError, ModelProcessDiedError
from schemas.events import (
    LoadedModelsDiffered,
    ModelHealed,
    PromoteRelease,
    RegisterRelease,
    ReportLoadedModels,
    ReportReleaseLoaded,
)
from schemas.types import EventId, ReleaseStep
from streams.records import Outgoing, Position
from tests.given import AT_US, cause
from tests.simulation import virtual_time

ONE, TWO = "one:8001", "two:8001"
STEPS = tuple(ReleaseStep(step=m, model=m, version=3, digest="ab") for m in ("detection", "recognizer"))
ALL = frozenset({"r1", "detection", "recognizer"})


class Server:
    """What a server has loaded, which of its processes are dead, and what was asked of it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.names = ALL
        self.dead: set[str] = set()
        self.refuses = False
        self.is_away = False
        self.is_busy_for = 0
        self.says_otherwise = 0
        self.healed: list[str] = []
        self.probes = 0

    async def probe(self, release: str) -> None:
        self.probes += 1
        self._answer()
        if self.is_busy_for:
            self.is_busy_for -= 1
            raise ModelProcessDiedError("not healthy", model="detection", endpoint=self.endpoint)
        if self.dead:
            await asyncio.sleep(1.0)
            raise ModelProcessDiedError("not healthy", model=min(self.dead), endpoint=self.endpoint)

    async def heal(self, model: str) -> None:
        self._answer()
        self.healed.append(model)
        await asyncio.sleep(2.0)
        if self.refuses:
            raise ContractError("no memory")
        self.dead.discard(model)

    async def loaded(self) -> frozenset[str]:
        self._answer()
        if self.says_otherwise:
            self.says_otherwise -= 1
            return frozenset()
        return self.names

    def _answer(self) -> None:
        if self.is_away:
            raise InferenceUnavailableError("away")


class Bench:
    """Two workers' healers, their servers, and a release processor that decides each command as it comes."""

    def __init__(self, *servers: Server, workers: int = 1) -> None:
        self.state = core.INITIAL
        self.events: list[Any] = []
        self._schemas = FixedSchemas()
        self._stop = asyncio.Event()
        told = {"pipeline": "gate", "release": "r1", "command_id": EventId("c"), "issued_at_us": AT_US}
        asked = {**told, "issued_by": "me", "reason": ""}
        self.decide(RegisterRelease(**asked, steps=STEPS, parameters={}))
        self.decide(PromoteRelease(**asked))
        self.decide(ReportReleaseLoaded(**told, endpoint=ONE, duration_us=1))
        healers = (
            ModelHealer(
                pipeline="gate",
                state=lambda: self.state,
                servers=servers,
                appender=self,
                schemas=self._schemas,
                clock=lambda: AT_US + int(asyncio.get_running_loop().time() * 1e6),
            )
            for _ in range(workers)
        )
        self._running = [asyncio.create_task(healer.run(self._stop)) for healer in healers]

    async def append(self, outgoing: Outgoing) -> Position:
        self.decide(decode(outgoing.value, COMMANDS, self._schemas))
        return Position(topic=outgoing.topic, partition=0, offset=0)

    def decide(self, command: Any) -> None:
        events = core.decide(self.state, command, cause(len(self.events), COMMANDS))
        self.state = core.fold_all(events, self.state)
        self.events += events

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._running)


def on(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    virtual_time.run(whole)


def test_a_dead_process_is_started_anew_and_told_with_the_time_that_it_was_down() -> None:
    """Once, with what was seen; the other server and the revision of the releases stay as they are."""

    async def test() -> None:
        one, two = Server(ONE), Server(TWO)
        bench = Bench(one, two)
        await asyncio.sleep(10)
        revision = bench.state.revision
        one.dead = {"recognizer"}
        await asyncio.sleep(30)
        (healed,) = bench.said(ModelHealed)
        assert (healed.endpoint, healed.model, healed.release, healed.seen) == (ONE, "recognizer", "r1", "not healthy")
        assert 2.0 <= healed.down_us / 1e6 < 6.0
        assert (one.healed, two.healed, bench.state.revision) == (["recognizer"], [], revision)
        await bench.stop()

    on(test)


def test_a_process_that_dies_again_and_again_is_started_less_and_less_often() -> None:
    """Each start leaves something behind: an hour of deaths is some twenty starts, and the first come soon."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one)

        async def dies() -> None:
            while True:
                one.dead = {"recognizer"}
                await asyncio.sleep(0.5)

        dying = asyncio.create_task(dies())
        await asyncio.sleep(60)
        assert 3 <= len(one.healed) <= 6
        await asyncio.sleep(3600)
        assert 10 <= len(one.healed) <= 30
        dying.cancel()
        await asyncio.sleep(400)
        assert bench.said(ModelHealed)
        await bench.stop()

    on(test)


def test_a_death_is_told_also_when_another_release_reads_by_then() -> None:
    """The healing was refused while the first read; the second, which has the same models, answers when it is done."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one)
        one.dead, one.refuses = {"recognizer"}, True
        await asyncio.sleep(10)
        told = {"pipeline": "gate", "release": "r2", "command_id": EventId("d"), "issued_at_us": AT_US}
        asked = {**told, "issued_by": "me", "reason": ""}
        bench.decide(RegisterRelease(**asked, steps=STEPS, parameters={}))
        bench.decide(PromoteRelease(**asked))
        bench.decide(ReportReleaseLoaded(**told, endpoint=ONE, duration_us=1))
        assert bench.state.in_force == "r2"
        one.refuses = False
        await asyncio.sleep(60)
        assert [(e.endpoint, e.model) for e in bench.said(ModelHealed)] == [(ONE, "recognizer")]
        await bench.stop()

    on(test)


def test_two_dead_processes_are_both_started_anew() -> None:
    """A probe names the first of them only; the second is found when the first lives."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one)
        one.dead = {"recognizer", "detection"}
        await asyncio.sleep(30)
        assert one.dead == set()
        assert sorted(e.model for e in bench.said(ModelHealed)) == ["detection", "recognizer"]
        await bench.stop()

    on(test)


def test_several_workers_tell_of_one_death_once() -> None:
    """The second report is of a death that began before the healing was told. Another death is told again."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one, workers=2)
        for deaths in (1, 2):
            one.dead = {"recognizer"}
            await asyncio.sleep(30)
            assert len(bench.said(ModelHealed)) == deaths
        await bench.stop()

    on(test)


def test_what_was_dead_in_one_probe_and_alive_in_the_next_is_left_alone() -> None:
    """A process that did not get to run for a second is called dead by the server, too."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one)
        one.is_busy_for = 1
        await asyncio.sleep(30)
        assert one.healed == []
        await bench.stop()

    on(test)


def test_a_server_that_refuses_is_tried_again_and_tells_nothing_until_it_is_mended() -> None:
    """The time that it was down counts from the first sight."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one)
        one.dead, one.refuses = {"recognizer"}, True
        await asyncio.sleep(30)
        assert len(one.healed) > 2
        assert bench.said(ModelHealed) == []
        one.refuses = False
        await asyncio.sleep(30)
        assert [e.down_us > 28_000_000 for e in bench.said(ModelHealed)] == [True]
        await bench.stop()

    on(test)


def test_a_difference_is_told_when_it_lasts_and_again_when_it_is_over() -> None:
    """A restart that is mended within a look is none; what stays missing or unknown is one event, however long it lasts."""

    async def test() -> None:
        one = Server(ONE)
        bench = Bench(one, workers=2)
        one.says_otherwise = 1
        await asyncio.sleep(10)
        assert bench.said(LoadedModelsDiffered) == []
        one.names = frozenset({"stranger"})
        await asyncio.sleep(60)
        one.is_away = True
        await asyncio.sleep(60)
        one.is_away, one.names = False, ALL
        await asyncio.sleep(60)
        assert [(e.missing, e.unknown) for e in bench.said(LoadedModelsDiffered)] == [(("r1",), ("stranger",)), ((), ())]
        assert bench.state.differences == {}
        await bench.stop()

    on(test)


def test_what_two_workers_tell_of_a_difference_at_once_is_one_event() -> None:
    """Whoever decides knows what was told."""
    told = ReportLoadedModels(
        command_id=EventId("c"), pipeline="gate", endpoint=ONE, missing=("r1",), unknown=(), issued_at_us=AT_US
    )
    first = core.decide(core.INITIAL, told, cause(0, COMMANDS))
    assert len(first) == 1
    assert core.decide(core.fold_all(first, core.INITIAL), told, cause(1, COMMANDS)) == ()


def test_members_of_a_release_are_not_unknown_and_what_a_server_never_had_is_not_missing() -> None:
    """A load under way is no difference."""
    state = core.INITIAL
    command = RegisterRelease(
        command_id=EventId("c"),
        pipeline="gate",
        release="r1",
        steps=STEPS,
        parameters={},
        issued_by="me",
        reason="",
        issued_at_us=AT_US,
    )
    state = core.fold_all(core.decide(state, command, cause(0, COMMANDS)), state)
    assert difference(state, ONE, ALL, 4) == difference(state, ONE, frozenset(), 4) == Difference(missing=(), unknown=())
    told = ReportReleaseLoaded(
        command_id=EventId("c"), pipeline="gate", release="r1", endpoint=ONE, duration_us=1, issued_at_us=AT_US
    )
    state = core.fold_all(core.decide(state, told, cause(1, COMMANDS)), state)
    assert difference(state, ONE, frozenset(), 4).missing == ("r1",)
    assert difference(state, TWO, frozenset(), 4).missing == ()
