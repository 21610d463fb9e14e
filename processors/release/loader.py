"""Makes the inference servers agree with the log: what is registered gets loaded, and what came of it is reported.

A server that restarts comes up empty; it is filled again here. Reports are commands, so that one writer decides what
they mean: the release processor, which acts next.

Guarantees: a promotion is reported ready by a server that was asked after it was requested; a load under way holds up no
promotion of a release that is ready, and a server that hangs none of another. A release that reads, is waited for or is the way
back and does not load is tried again, with backoff; any other one when somebody asks for it. A failure is told once for each
server and promotion. A promotion is given up when every server has failed: one that is away might still carry it out.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from processors.release.core import PipelineReleases
from schemas.catalogue import COMMANDS, DEAD_LETTERS
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.errors import ContractError, TransientError
from schemas.events import ReportReleaseLoaded, ReportReleaseLoadFailed
from schemas.types import EventId
from streams.ports import Appender, ModelServer
from streams.records import Clock, Outgoing

log = structlog.get_logger()
_RETRY_FIRST_S = 1.0
_RETRY_MOST_S = 60.0
_ANNOUNCE_AGAIN_S = 5.0


@dataclass(slots=True, kw_only=True)
class _Failure:
    """A release that one server did not load. Times are the loop's."""

    message: str
    is_told: bool
    pause_s: float
    again_at_s: float


class ReleaseLoader:
    """Reconciles every server with one pipeline's state. Use it inside one event loop.

    Args:
        state: The newest state known.
        keep_loaded: How many releases stay loaded: the one in force, one that waits, one on trial, the one that read before,
            and the newest of the others.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        state: Callable[[], PipelineReleases],
        servers: tuple[ModelServer, ...],
        appender: Appender,
        schemas: Schemas,
        clock: Clock,
        every_s: float = 0.5,
        keep_loaded: int = 4,
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._servers = servers
        self._appender = appender
        self._schemas = schemas
        self._clock = clock
        self._every_s = every_s
        self._keep_loaded = keep_loaded
        self._loading: set[tuple[str, str]] = set()
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._announced: dict[str, tuple[str, float]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile and announce until told to stop."""
        async with asyncio.TaskGroup() as looks:
            for server in self._servers:
                looks.create_task(self._again_and_again(partial(self.reconcile, server), stop))
                looks.create_task(self._again_and_again(partial(self.announce, server), stop))

    async def reconcile(self, server: ModelServer) -> None:
        """One look at a server: load what is missing, report what came of it."""
        try:
            await self._fill(server)
        except TransientError as error:
            log.warning("inference server away", endpoint=server.endpoint, error=str(error))
            self._failures = {place: failure for place, failure in self._failures.items() if place[0] != server.endpoint}
        for (endpoint, release), failure in list(self._failures.items()):
            if endpoint == server.endpoint and not failure.is_told:
                await self._report_failed(release, endpoint, failure.message)
                failure.is_told = True

    def _have_all_failed(self, release: str) -> bool:
        return all((server.endpoint, release) in self._failures for server in self._servers)

    async def announce(self, server: ModelServer) -> None:
        """Report that the release that a promotion waits for is ready on this server."""
        state, endpoint, now_s = self._state(), server.endpoint, asyncio.get_running_loop().time()
        if state.pending is None or state.pending.release not in state.releases:
            self._announced.pop(endpoint, None)
            return
        release = state.pending.release
        last, last_at_s = self._announced.get(endpoint, ("", 0.0))
        if (endpoint, release) in self._loading or (last == release and now_s < last_at_s + _ANNOUNCE_AGAIN_S):
            return
        if await server.is_ready(release):
            await self._report_loaded(release, endpoint, 0)
            self._announced[endpoint] = (release, now_s)

    async def _again_and_again(self, look: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await look()
            except TransientError as error:
                log.warning("loader waits", error=str(error))
            try:
                await asyncio.wait_for(stop.wait(), self._every_s)
            except TimeoutError:
                continue

    async def _fill(self, server: ModelServer) -> None:
        state = self._state()
        for release in wanted(state, self._keep_loaded):
            place = (server.endpoint, release)
            if await server.is_ready(release):
                self._failures.pop(place, None)
                if server.endpoint not in state.releases[release].loaded_on:
                    await self._report_loaded(release, server.endpoint, 0)
            elif self._is_due(place, state):
                await self._load(server, release)

    def _is_due(self, place: tuple[str, str], state: PipelineReleases) -> bool:
        """Whether to try a release that is not ready on a server."""
        failure, release = self._failures.get(place), place[1]
        if release in (*asked_for(state), *state.earlier[:1]):
            return failure is None or failure.again_at_s <= asyncio.get_running_loop().time()
        if failure is not None:
            failure.pause_s, failure.again_at_s = _RETRY_FIRST_S, 0.0
        return failure is None

    async def _load(self, server: ModelServer, release: str) -> None:
        place, started_us = (server.endpoint, release), self._clock()
        log.info("loading", release=release, endpoint=server.endpoint)
        self._loading.add(place)
        try:
            await server.load(release)
        except ContractError as error:
            log.error("not loaded", release=release, endpoint=server.endpoint, error=str(error))
            self._failed(place, str(error) or repr(error))
            return
        finally:
            self._loading.discard(place)
        self._failures.pop(place, None)
        await self._report_loaded(release, server.endpoint, self._clock() - started_us)

    def _failed(self, place: tuple[str, str], message: str) -> None:
        """Remember a failure; the same one again is told only to somebody who waits for it."""
        before, pending = self._failures.get(place), self._state().pending
        is_waited_for = pending is not None and pending.release == place[1]
        pause_s = before.pause_s if before is not None else _RETRY_FIRST_S
        self._failures[place] = _Failure(
            message=message,
            is_told=before is not None and before.is_told and before.message == message and not is_waited_for,
            pause_s=min(pause_s * 2, _RETRY_MOST_S),
            again_at_s=asyncio.get_running_loop().time() + pause_s,
        )

    async def _report_loaded(self, release: str, endpoint: str, duration_us: int) -> None:
        await self._send(
            ReportReleaseLoaded(
                command_id=EventId(str(uuid.uuid4())),
                pipeline=self._pipeline,
                release=release,
                endpoint=endpoint,
                duration_us=duration_us,
                issued_at_us=self._clock(),
            )
        )

    async def _report_failed(self, release: str, endpoint: str, message: str) -> None:
        await self._send(
            ReportReleaseLoadFailed(
                command_id=EventId(str(uuid.uuid4())),
                pipeline=self._pipeline,
                release=release,
                endpoint=endpoint,
                error_message=message[:4000],
                issued_at_us=self._clock(),
                gives_up=self._have_all_failed(release),
            )
        )

    async def _send(self, command: Any) -> None:
        await self._appender.append(command_record(command, self._schemas, self._clock()))


def wanted(state: PipelineReleases, keep_loaded: int) -> tuple[str, ...]:
    """Releases that should be loaded, the most urgent first."""
    newest = sorted(state.releases, key=lambda r: (-state.releases[r].registered_at_us, r))
    asked, earlier = asked_for(state), [r for r in state.earlier if r in state.releases]
    return tuple(dict.fromkeys([*asked, *earlier[:1], *newest, *earlier]))[: max(keep_loaded, len(asked) + 1)]


def asked_for(state: PipelineReleases) -> tuple[str, ...]:
    """The release in force, the one that waits and the one on trial."""
    pending = state.pending.release if state.pending is not None else None
    asked = (state.in_force, pending, state.rollout.release if state.rollout is not None else None)
    return tuple(r for r in asked if r is not None and r in state.releases)


def command_record(command: Any, schemas: Schemas, now_us: int) -> Outgoing:
    """A command as a record of vision.commands."""
    envelope = envelope_of(
        command,
        source="hindsight/commands",
        time_us=now_us,
        correlation_id=command.command_id,
        causation_id=command.command_id,
    )
    return Outgoing(
        topic=COMMANDS, key=_key_of(command).encode(), value=encode(command, schemas), headers=to_headers(envelope), partition=0
    )


def _key_of(command: Any) -> str:
    for name in ("pipeline", "device_id"):
        if hasattr(command, name):
            return str(getattr(command, name))
    return DEAD_LETTERS
