"""The demo: three devices, two releases, a promotion midway, and what was known before and after it.

Everything goes the way it would in production: over gRPC from a spool, or through POST /analyze; commands to the release
processor; answers from the log and the views. `report` turns what was gathered into the summary.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2 as httpx

from processors.lookback.at import DeviceAt, device_at
from processors.views.folds import FrameResult
from schemas import ids
from schemas.errors import TransientError
from schemas.events import PromoteRelease, RegisterRelease, ReleasePromoted, ReleaseRegistered, ResultDerived
from schemas.plain import from_plain
from schemas.types import ReleaseStep
from streams.edge import Capture, EdgeClient, Spool
from streams.records import system_clock
from topology import commands, model_store, models, wiring
from topology.configuration import Configuration
from topology.demo.media import Media
from topology.demo.sources import GATE_DEVICE, SourceFrame, gate_frames, photograph_frames, yard_frames
from topology.settings import Settings

FIRST, SECOND = "gate_reader_r1", "gate_reader_r2"
_SPOOL_BYTES = 500_000_000
_RESULT_S = 180.0
_COMMAND_S = 120.0
_POLL_S = 0.1
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One frame of the demo and the id that it has in the log."""

    frame: SourceFrame
    frame_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What the demo gathered. Moments in microseconds since the epoch."""

    sent: tuple[Sent, ...]
    results: dict[str, ResultDerived]
    before: DeviceAt
    after: DeviceAt
    took_s: float


async def run_demo(configuration: Configuration, media: Media, *, say: Say, progress: Progress) -> Demo:
    """Run the demo against a stack that is up.

    Args:
        say: Gets a line for each thing that happens.
        progress: Gets what is counted, how many are done, how many there will be.
    Raises:
        TransientError: a result did not come in time.
    """
    began = time.monotonic()
    settings = configuration.settings
    for release in (FIRST, SECOND):
        await asyncio.to_thread(_register, configuration, release, say)
    gate, yard, photographs = list(gate_frames(media)), list(yard_frames(media)), list(photograph_frames(media))
    say(f"gate-1 ({len(gate)} frames) and yard-1 ({len(yard)}) stream over gRPC")
    say(f"photos-1 ({len(photographs)} photographs) goes through POST /analyze, once under each release")
    session = f"demo-{system_clock() // 1_000_000}"
    sent: list[Sent] = []
    known: list[DeviceAt] = []
    async with _Doors(settings, configuration.home / "demo" / session, session) as doors, _Results(settings) as results:
        for half, release, reason in ((0, FIRST, "the demo begins with it"), (1, SECOND, "newer models")):
            await asyncio.to_thread(_promote, settings, release, reason, say)
            part = await doors.stream([*_half(gate, half), *_half(yard, half)])
            part += [await doors.analyze(frame) for frame in photographs]
            await results.wait([one.frame_id for one in part], partial(progress, f"read by {release}"))
            sent += part
            known.append(await asyncio.to_thread(_gate_now, settings))
    return Demo(sent=tuple(sent), results=results.found, before=known[0], after=known[1], took_s=time.monotonic() - began)


class _Doors:
    """Both doors as a device uses them: spools that are sent over gRPC, and uploads over HTTP."""

    def __init__(self, settings: Settings, folder: Path, session: str) -> None:
        self._address = f"{settings.gateway.host}:{settings.gateway.port}"
        self._folder = folder
        self._session = session
        self._http = httpx.AsyncClient(base_url=f"http://{settings.http.host}:{settings.http.port}", timeout=30)
        self._edges: dict[str, tuple[Spool, EdgeClient, asyncio.Task[None]]] = {}
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for spool, _, sending in self._edges.values():
            await sending
            spool.close()
        await self._http.aclose()

    async def stream(self, frames: Sequence[SourceFrame]) -> list[Sent]:
        """Offer frames to their devices' spools, and wait until the gateway has acknowledged all."""
        sent = []
        for frame in frames:
            spool, client, _ = self._edge(frame.device_id)
            capture = Capture(image=frame.image_jpeg, captured_at_us=system_clock(), passage_id=self._passage(frame))
            spooled = await client.offer(capture)
            sent.append(Sent(frame=frame, frame_id=ids.frame_id(frame.device_id, spool.session_id, spooled.sequence)))
        for _, client, _ in self._edges.values():
            await client.drained()
        return sent

    async def analyze(self, frame: SourceFrame) -> Sent:
        """Upload one image; its task is a frame like any other."""
        answer = await self._http.post(
            "/analyze", data={"device_id": frame.device_id}, files={"image": ("frame.jpg", frame.image_jpeg, "image/jpeg")}
        )
        if answer.status_code != httpx.codes.ACCEPTED:
            raise TransientError(
                f"POST /analyze answered {answer.status_code}: {answer.text}", do="look at `hindsight logs http`"
            )
        return Sent(frame=frame, frame_id=answer.json()["task_id"])

    def _edge(self, device_id: str) -> tuple[Spool, EdgeClient, asyncio.Task[None]]:
        if device_id not in self._edges:
            spool = Spool(self._folder / device_id, device_id=device_id, limit_bytes=_SPOOL_BYTES, session_id=self._session)
            client = EdgeClient(self._address, spool)
            self._edges[device_id] = (spool, client, asyncio.create_task(client.run(self._stop)))
        return self._edges[device_id]

    def _passage(self, frame: SourceFrame) -> str | None:
        """A passage is one of this run's: the same container seen again tomorrow is another."""
        return None if frame.passage_id is None else f"{self._session}/{frame.passage_id}"


class _Results:
    """Results of the demo's frames, as the views show them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.found: dict[str, ResultDerived] = {}

    async def __aenter__(self) -> Self:
        self._redis = wiring.redis_client(self._settings)
        self._views = wiring.view_store(self._settings, self._redis)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._redis.aclose()

    async def wait(self, frame_ids: Sequence[str], progressed: Callable[[int, int], None]) -> None:
        """Wait until every frame has its result."""
        deadline = time.monotonic() + _RESULT_S
        while True:
            missing = tuple(f for f in frame_ids if f not in self.found)
            progressed(len(frame_ids) - len(missing), len(frame_ids))
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{len(missing)} of {len(frame_ids)} frames have no result after {_RESULT_S:g} s",
                    do="look at `hindsight status` and `hindsight logs worker`",
                )
            await self._look(missing)
            await asyncio.sleep(_POLL_S)

    async def _look(self, missing: tuple[str, ...]) -> None:
        for partition in range(self._settings.kafka.partitions):
            stored = await self._views.load("results_by_frame", partition, missing)
            for frame_id, state in stored.states.items():
                result = from_plain(FrameResult, json.loads(state)).result
                if result is not None:
                    self.found[frame_id] = result


def _half(frames: list[SourceFrame], which: int) -> list[SourceFrame]:
    """The first or the second half, never cutting a passage in two."""
    middle = len(frames) // 2
    while (
        0 < middle < len(frames)
        and frames[middle].passage_id is not None
        and frames[middle].passage_id == frames[middle - 1].passage_id
    ):
        middle += 1
    return frames[middle:] if which else frames[:middle]


def _gate_now(settings: Settings) -> DeviceAt:
    """What the system knows of gate-1 at this moment, asked of the log as of any other moment."""
    log = wiring.event_log(settings)
    try:
        return device_at(
            log,
            wiring.schemas(settings),
            device_id=GATE_DEVICE,
            pipeline=settings.pipeline.name,
            at_us=system_clock(),
            around_s=0.5,
        )
    finally:
        log.close()


def _register(configuration: Configuration, release: str, say: Say) -> None:
    settings = configuration.settings
    versions = models.release_versions(configuration.home, release)
    model_store.register(settings, versions, reason=f"release {release}", say=say, timeout_s=_COMMAND_S)
    command = RegisterRelease(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        release=release,
        steps=tuple(
            ReleaseStep(step=s, model=m, version=v, digest=d) for s, m, v, d in models.release_steps(configuration.home, release)
        ),
        parameters=models.release_parameters(),
        issued_by=commands.who(),
        reason="the demo",
        issued_at_us=system_clock(),
    )
    try:
        commands.send(
            settings, command, until=lambda e: isinstance(e, ReleaseRegistered) and e.release == release, timeout_s=_COMMAND_S
        )
        say(f"{release} is registered")
    except commands.CommandRefusedError as refused:
        if refused.refusal != "already_registered":
            raise
        say(f"{release} was registered before")


def _promote(settings: Settings, release: str, reason: str, say: Say) -> None:
    command = PromoteRelease(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        release=release,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
    )
    try:
        commands.send(
            settings, command, until=lambda e: isinstance(e, ReleasePromoted) and e.release == release, timeout_s=_COMMAND_S
        )
        say(f"{release} is promoted and reads the frames from here on")
    except commands.CommandRefusedError as refused:
        if refused.refusal != "in_force_already":
            raise
        say(f"{release} reads the frames")
