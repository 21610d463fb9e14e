"""infer, the step: what another content than the pinned one read is not recorded; the frame waits until that is mended."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from processors.infer.core import Answered, Route
from processors.infer.step import InferStep, Retries
from processors.metrics import CALL_SECONDS
from processors.step import Prepared
from schemas.errors import InferenceUnavailableError
from schemas.events import FrameAccepted
from streams.memory import MemoryBlobStore
from streams.ports import Answer
from tests.given import AT_US, accepted, cause
from tests.simulation import virtual_time

PINNED, OTHER = "ab" * 32, "ef" * 32


class Server:
    """An inference server in memory: what each release's files are now, and how many calls it had."""

    def __init__(self, **digests: str | None) -> None:
        self.digests = digests
        self.calls = 0

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        self.calls += 1
        await asyncio.sleep(0.3)
        steps = [{"step": "detection", "digest": self.digests[release]}, {"step": "postprocess", "digest": OTHER}]
        report = json.dumps({"steps": steps, "runtime": {}}).encode()
        return Answer(result_json=b"{}", report_json=report, endpoint="one:8001")


class Bench:
    """One step with a release in force, and a frame for it."""

    def __init__(self, server: Server) -> None:
        self.route = Route(release="r1", parameters={}, pins={"detection": PINNED}, releases_offset=4)
        blobs = MemoryBlobStore()
        self.event: FrameAccepted = accepted()
        blob = blobs.put(b"image", "image/jpeg")
        self.event = replace(self.event, frame=replace(self.event.frame, blob=blob))
        self.step = InferStep(
            pipeline="gate",
            route=lambda frame: self.route,
            inference=server,
            blobs=blobs,
            clock=lambda: AT_US,
            retries=Retries(),
            concurrency=6,
        )

    async def prepare(self) -> Prepared:
        return await self.step.prepare(self.event, cause(3, "vision.assessments"))

    async def patiently(self, every_s: float = 0.1) -> Any:
        """What the shell does with a frame that must wait."""
        while True:
            try:
                return (await self.prepare()).answer
            except InferenceUnavailableError:
                await asyncio.sleep(every_s)


def on_bench(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    virtual_time.run(whole)


def test_what_is_pinned_may_read() -> None:
    """So may a step that reports no digest, and one that the release does not pin."""

    async def test() -> None:
        for digest in (PINNED, None):
            answer = (await Bench(Server(r1=digest)).prepare()).answer
            assert isinstance(answer, Answered)
            assert (answer.route.release, answer.called.attempts) == ("r1", 1)

    on_bench(test)


def test_another_content_is_not_recorded_and_says_what_to_do() -> None:
    """The frame has no outcome; the error names the release, the step, both digests and the endpoint, and is counted."""

    def counted() -> float:
        return next(s.value for s in CALL_SECONDS.labels("r1", "not_pinned").collect()[0].samples if s.name.endswith("_count"))

    async def test() -> None:
        before = counted()
        with pytest.raises(InferenceUnavailableError) as raised:
            await Bench(Server(r1=OTHER)).prepare()
        said = str(raised.value)
        assert all(part in said for part in ("r1 pins detection", PINNED, OTHER, "one:8001", "restart Triton", "promote"))
        assert counted() == before + 1

    on_bench(test)


def test_frames_that_wait_leave_the_server_alone() -> None:
    """Ten frames wait for a minute: the server is asked about once a second, and all are read once the content is back."""

    async def test() -> None:
        server = Server(r1=OTHER)
        bench = Bench(server)
        with pytest.raises(InferenceUnavailableError):
            await bench.prepare()
        frames = [asyncio.create_task(bench.patiently()) for _ in range(10)]
        await asyncio.sleep(60)
        assert 30 <= server.calls <= 62
        assert not any(frame.done() for frame in frames)
        server.digests["r1"] = PINNED
        answers = await asyncio.wait_for(asyncio.gather(*frames), timeout=2.5)
        assert {type(answer) for answer in answers} == {Answered}

    on_bench(test)


def test_a_promotion_frees_the_frames_that_wait() -> None:
    """The release is asked for again at each try: a frame that waits is read at the next one by what is in force then."""

    async def test() -> None:
        server = Server(r1=OTHER, r2=PINNED)
        bench = Bench(server)
        frame = asyncio.create_task(bench.patiently())
        await asyncio.sleep(10)
        bench.route = replace(bench.route, release="r2", releases_offset=9)
        answer = await asyncio.wait_for(frame, timeout=0.6)
        assert (answer.route.release, answer.route.releases_offset) == ("r2", 9)

    on_bench(test)
