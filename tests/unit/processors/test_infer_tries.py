"""infer and model processes that die: a frame is tried again, and one that kills them has an end that names the step."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from processors.infer.core import Answered, Failed, ReadInstead, Route
from processors.infer.step import InferStep, Retries
from schemas.errors import InferenceTimeoutError, InferenceUnavailableError, ModelProcessDiedError, ServerLostError
from schemas.events import FrameAccepted
from schemas.types import EventId, RolloutArm
from streams.fleet import Fleet
from streams.memory import MemoryBlobStore
from streams.ports import Answer
from tests.given import AT_US, accepted, cause
from tests.simulation import virtual_time
from tests.unit.streams.test_fleet import Server as FleetServer

POISON, FINE, HANGS = b"poison", b"fine", b"hangs"
STEPS = {"ocr": "recognizer", "boxes": "detection"}
R1 = Route(release="r1", parameters={}, pins={}, releases_offset=4, steps_by_model=STEPS)


class Server:
    """An inference server whose model process dies of one picture: every call in it fails, and then all wait for healing."""

    endpoint = "one:8001"

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.releases: list[str] = []
        self.deaths = 0
        self.died = asyncio.Event()
        self.is_dead = False
        self.error: Exception | None = None
        self.heal_s = 3.0

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        if self.is_dead:
            raise InferenceUnavailableError("its process of ocr is dead")
        self.asked.append(image)
        self.releases.append(release)
        if self.error is not None:
            raise self.error
        if image == POISON:
            await asyncio.sleep(0.1)
            self.kill()
        died = asyncio.create_task(self.died.wait())
        await asyncio.wait({died}, timeout=0.3)
        if died.done():
            raise ModelProcessDiedError("not healthy", model="ocr", endpoint=self.endpoint)
        died.cancel()
        return Answer(result_json=b"{}", report_json=json.dumps({"steps": []}).encode(), endpoint=self.endpoint)

    def kill(self) -> None:
        self.deaths += 1
        self.is_dead = True
        self.died.set()
        asyncio.get_running_loop().call_later(self.heal_s, self.heal)

    def heal(self) -> None:
        self.is_dead = False
        self.died = asyncio.Event()


class Bench:
    def __init__(self, route: Route = R1) -> None:
        self.server = Server()
        self.blobs = MemoryBlobStore()
        self.count = 0
        self.step = InferStep(
            pipeline="gate",
            route=lambda frame: route,
            inference=self.server,
            blobs=self.blobs,
            clock=lambda: AT_US,
            retries=Retries(attempts_max=2, deaths_max=3),
            concurrency=6,
        )

    async def read(self, image: bytes) -> Any:
        """What becomes of a frame; the shell asks again when it must wait."""
        event: FrameAccepted = accepted()
        event = replace(event, frame=replace(event.frame, blob=self.blobs.put(image, "image/jpeg")))
        self.count += 1
        why = replace(cause(self.count, "vision.assessments"), event_id=EventId(f"frame-{self.count}"))
        while True:
            try:
                return (await self.step.prepare(event, why)).answer
            except InferenceUnavailableError:
                await asyncio.sleep(0.2)


def on(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    virtual_time.run(whole)


def test_frames_beside_one_that_kills_the_model_are_read_and_that_one_fails_with_its_step_named() -> None:
    """It has three tries; those in the call with it are tried again, and none of them is blamed."""

    async def test() -> None:
        bench = Bench()
        outcomes = await asyncio.gather(*(bench.read(image) for image in (FINE, POISON, FINE, FINE)))
        assert [type(o) for o in outcomes] == [Answered, Failed, Answered, Answered]
        failed = outcomes[1]
        assert (failed.error_class, failed.step, failed.called.endpoint) == ("model_process_died", "recognizer", "one:8001")
        assert (bench.server.deaths, bench.server.asked.count(POISON), failed.called.attempts) == (3, 3, 3)

    on(test)


def test_two_frames_that_kill_the_model_do_not_get_the_others_blamed() -> None:
    """Each is tried by itself after the first death."""

    async def test() -> None:
        bench = Bench()
        outcomes = await asyncio.gather(*(bench.read(image) for image in (POISON, FINE, POISON, FINE, FINE, FINE)))
        assert [type(o) for o in outcomes] == [Failed, Answered, Failed, Answered, Answered, Answered]

    on(test)


def test_a_death_spends_no_attempt_of_a_frame() -> None:
    """A process that somebody killed twice: the frame is read, and its attempt is its first."""

    async def test() -> None:
        for heal_s, again_s in ((3.0, 3.35), (0.0, 0.2)):
            bench = Bench()
            bench.server.heal_s = heal_s
            reading = asyncio.create_task(bench.read(FINE))
            for at_s in (0.1, again_s):
                asyncio.get_running_loop().call_later(at_s, bench.server.kill)
            answered = await reading
            assert (type(answered), answered.called.attempts, bench.server.deaths) == (Answered, 1, 2)

    on(test)


def test_a_release_on_trial_that_kills_the_model_is_not_asked_again_for_the_frame() -> None:
    """The release in force reads it; the trial's failure is recorded with its step."""

    async def test() -> None:
        arm = RolloutArm(rollout_id="x", kind="canary", stage=0, arm="candidate")
        for heal_s in (3.0, 0.0):
            bench = Bench(replace(R1, release="r2", rollout=arm, instead=R1))
            bench.server.heal_s = heal_s
            asyncio.get_running_loop().call_later(0.1, bench.server.kill)
            both = await bench.read(FINE)
            assert isinstance(both, ReadInstead)
            candidate = both.candidate
            assert (type(both.outcome), candidate.error_class, candidate.step) == (Answered, "model_process_died", "recognizer")
            assert bench.server.deaths == 1

    on(test)


def test_a_release_on_trial_is_not_blamed_for_a_death_before_it_had_the_frame() -> None:
    """The frame waits for the healing, a canary begins meanwhile: the release in force reads it, and no sample is taken."""

    async def test() -> None:
        arm = RolloutArm(rollout_id="x", kind="canary", stage=0, arm="candidate")
        bench, on_trial = Bench(), replace(R1, release="r2", rollout=arm, instead=R1)
        asyncio.get_running_loop().call_later(0.1, bench.server.kill)
        reading = asyncio.create_task(bench.read(FINE))
        await asyncio.sleep(1.0)
        bench.step._route = lambda frame: on_trial
        answered = await reading
        assert (type(answered), answered.route.release, answered.route.rollout) == (Answered, "r1", None)
        assert "r2" not in bench.server.releases

    on(test)


def test_a_timeout_names_the_step_of_the_model_that_kept_it() -> None:
    """And no step where the model is not known, or does several."""

    async def test() -> None:
        for model, step in (("boxes", "detection"), ("other", None), (None, None)):
            bench = Bench()
            bench.server.error = InferenceTimeoutError("late", endpoint="one:8001", model=model)
            failed = await bench.read(FINE)
            assert (failed.error_class, failed.step) == ("timeout", step)

    on(test)


def test_frames_that_come_while_others_kill_the_model_are_not_blamed() -> None:
    """One after another, a third of them poison: whoever is tried alone is alone, also beside frames that are new."""

    async def test() -> None:
        bench = Bench()
        bench.server.heal_s = 1.0
        draw = random.Random(1)
        images = [POISON if draw.random() < 0.3 else FINE for _ in range(120)]

        async def later(image: bytes, at_s: float) -> Any:
            await asyncio.sleep(at_s)
            return await bench.read(image)

        outcomes = await asyncio.gather(*(later(image, 0.25 * n) for n, image in enumerate(images)))
        assert [type(o) for o in outcomes] == [Failed if image == POISON else Answered for image in images]

    on(test)


class Triton(FleetServer):
    """One of a fleet that dies as a whole of one picture, and hangs in another."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.deaths, self.back_at_s = 0, 0.0

    async def is_live(self) -> bool:
        return self._now_s() >= self.back_at_s

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        deaths = self.deaths
        if self._now_s() < self.back_at_s:
            raise InferenceUnavailableError("connection refused")
        if image == POISON:
            self.deaths, self.back_at_s = deaths + 1, self._now_s() + 5.0
        await asyncio.sleep(1e6 if image == HANGS else 0.1)
        if self.deaths > deaths:
            raise ServerLostError("Socket closed", endpoint=self.endpoint)
        return Answer(result_json=b"{}", report_json=b'{"steps": []}', endpoint=self.endpoint)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def on_fleet(*endpoints: str) -> tuple[Bench, tuple[Triton, ...]]:
    bench, servers = Bench(), tuple(Triton(endpoint) for endpoint in endpoints)
    now_s = asyncio.get_running_loop().time
    bench.step._inference = Fleet(servers, timeout_s=30.0, calls_per_server=4, now_s=now_s)
    return bench, servers


def test_a_frame_that_kills_the_server_itself_has_an_end() -> None:
    """Not one server after the other for ever: it fails after as many deaths as one that kills a process; others are read."""

    async def test() -> None:
        bench, servers = on_fleet("ta:1", "tb:1")
        outcomes = await asyncio.gather(*(bench.read(image) for image in (FINE, POISON, FINE, FINE)))
        assert [type(o) for o in outcomes] == [Answered, Failed, Answered, Answered]
        assert (outcomes[1].error_class, sum(s.deaths for s in servers)) == ("server_lost", 3)

    on(test)


def test_a_frame_that_hangs_has_an_end_also_when_it_opens_the_breaker() -> None:
    """Its tries are counted over the waits for the server, and the frames behind it are read."""

    async def test() -> None:
        for count in (1, 2):
            bench, _ = on_fleet(*(f"th{count}{n}:1" for n in range(count)))
            bench.step._retries = Retries(attempts_max=4)
            failed = await bench.read(HANGS)
            assert (type(failed), failed.error_class, failed.called.attempts) == (Failed, "timeout", 4)
            assert type(await bench.read(FINE)) is Answered

    on(test)
