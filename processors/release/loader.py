"""Makes the inference servers agree with the log: what is registered gets loaded, and what came of it is reported.

A server that restarts comes up empty; it is filled again here. Reports are commands, so that one writer decides what
they mean: the release processor, which acts next.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from processors.release.core import PipelineReleases
from schemas.catalogue import COMMANDS
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.errors import ContractError, TransientError
from schemas.events import ReportReleaseLoaded, ReportReleaseLoadFailed
from schemas.types import EventId
from streams.ports import Appender, ModelServer
from streams.records import Clock, Outgoing

log = structlog.get_logger()


class ReleaseLoader:
    """Reconciles every server with one pipeline's state.

    Args:
        state: The newest state known.
        keep_loaded: How many releases stay loaded: the one in force, one that waits, and the newest of the others.
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

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until told to stop."""
        while not stop.is_set():
            for server in self._servers:
                try:
                    await self.reconcile(server)
                except TransientError as error:
                    log.warning("inference server away", endpoint=server.endpoint, error=str(error))
            try:
                await asyncio.wait_for(stop.wait(), self._every_s)
            except TimeoutError:
                continue

    async def reconcile(self, server: ModelServer) -> None:
        """One look at one server: load what is missing, report what came of it."""
        state = self._state()
        for release in wanted(state, self._keep_loaded):
            entry = state.releases[release]
            if entry.load_error or await server.is_ready(release):
                if not entry.load_error and server.endpoint not in entry.loaded_on:
                    await self._report_loaded(release, server.endpoint, 0)
                continue
            started_us = self._clock()
            log.info("loading", release=release, endpoint=server.endpoint)
            try:
                await server.load(release)
            except ContractError as error:
                log.error("not loaded", release=release, endpoint=server.endpoint, error=str(error))
                if server.endpoint not in entry.loaded_on:
                    await self._report_failed(release, server.endpoint, str(error))
                continue
            await self._report_loaded(release, server.endpoint, self._clock() - started_us)

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
            )
        )

    async def _send(self, command: Any) -> None:
        await self._appender.append(command_record(command, self._schemas, self._clock()))


def wanted(state: PipelineReleases, keep_loaded: int) -> tuple[str, ...]:
    """Releases that should be loaded, the most urgent first."""
    asked = (state.in_force, state.pending.release if state.pending is not None else None)
    first = [r for r in asked if r is not None and r in state.releases]
    newest = sorted(state.releases, key=lambda r: (-state.releases[r].registered_at_us, r))
    return tuple(dict.fromkeys([*first, *newest]))[:keep_loaded]


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
        topic=COMMANDS, key=command.pipeline.encode(), value=encode(command, schemas), headers=to_headers(envelope), partition=0
    )
