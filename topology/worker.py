"""One worker: any set of processors in one process, with a port for health and metrics.

It ends by itself when a processor cannot go on (exit code 1), so that whoever supervises it starts it again: what was
not acknowledged comes back. SIGTERM leaves the groups at once; nothing in flight is lost, since it comes back too. The
end itself is bounded.
"""

import asyncio
import faulthandler
import gc
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from processors.release.core import PipelineReleases
from processors.release.follower import ReleaseFollower
from processors.release.healing import ModelHealer
from processors.release.loader import ReleaseLoader
from schemas.catalogue import COMMANDS
from schemas.errors import ConfigurationError, TransientError
from streams.fleet import Fleet
from streams.kafka_groups import KafkaGroups
from streams.records import system_clock
from streams.slow_steps import NamingSlowSteps
from streams.triton import TritonInference, TritonModels
from streams.triton_processes import TritonProcesses
from topology import processing, wiring
from topology.agents import Agents
from topology.caught_up import keep_caught_up
from topology.checks import keep_checking
from topology.filling import filled
from topology.health import Health
from topology.lag import measure_lag
from topology.settings import Settings
from topology.snapshots import keep_snapshots

log = structlog.get_logger()
_STOP_S = 4.0
_END_S = 9.0


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The processors that are meant, in the order of the chain.

    Raises:
        ConfigurationError: one of them does not exist.
    """
    unknown = sorted(set(names) - set(processing.PROCESSORS))
    if unknown:
        raise ConfigurationError(
            f"there is no processor {', '.join(unknown)}",
            setting="--processors",
            do=f"choose from {', '.join(processing.PROCESSORS)}",
        )
    return tuple(p for p in processing.PROCESSORS if p in names)


async def run_worker(settings: Settings, names: tuple[str, ...], *, metrics_port: int) -> int:
    """Run until SIGTERM, SIGINT or a processor that cannot go on.

    Returns:
        The exit code: 0 after a signal, 1 after a failure.
    """
    stop, troubles = asyncio.Event(), []

    def failed(error: BaseException) -> None:
        troubles.append(error)
        stop.set()

    def waits_for(away: TransientError | None) -> None:
        health.waits_for = "" if away is None else str(away)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await asyncio.to_thread(wiring.prepare, settings)
    using = wiring.clients(settings)
    health = Health(host=settings.worker.host, port=metrics_port)
    follower = ReleaseFollower(using.log, using.schemas, settings.pipeline.name)
    tritons = tuple(TritonInference(endpoint, timeout_s=settings.triton.timeout_s) for endpoint in settings.triton.endpoints)
    processes = tuple(TritonProcesses(endpoint) for endpoint in settings.triton.endpoints)
    fleet = Fleet(
        tritons,
        timeout_s=settings.triton.timeout_s,
        calls_per_server=settings.triton.calls_per_endpoint,
        hedge_after_s=settings.triton.hedge_after_s or None,
        now_s=asyncio.get_running_loop().time,
    )
    inference = NamingSlowSteps(fleet, processes, timeout_s=settings.triton.timeout_s)
    if {"infer", "release", "shadow"} & set(names):
        await asyncio.to_thread(follower.start)
    groups = processing.groups(settings, names, using, follower=follower, inference=inference)
    kafka = KafkaGroups(wiring.bootstrap_servers(settings), wiring.namespace(settings))
    agents = Agents(
        groups,
        using.ports(),
        bootstrap_servers=wiring.bootstrap_servers(settings),
        namespace=wiring.namespace(settings),
        limits=processing.faust_limits(settings),
        kafka=kafka,
        failed=failed,
    )
    health.start()
    await agents.start()
    beside = [_watched(keep_caught_up(groups, using.ports(), kafka, stop), failed)]
    steps = [step for group in groups for step in group.steps]
    beside.append(_watched(measure_lag(steps, using.ports(), stop, away=waits_for), failed))
    if "views" in names and settings.checks.on:
        owned = partial(agents.assigned, group="views")
        beside.append(_watched(keep_checking(settings.checks, using.ports(), owned, stop), failed))
    if "views" in names:
        beside.append(_watched(keep_snapshots(settings, using, stop), failed))
    if "release" in names:
        beside.append(_watched(_load_releases(settings, using, lambda: follower.current()[0], stop), failed))

        def deciding() -> bool:
            return bool(agents.assigned(COMMANDS, group="release"))

        beside.append(_watched(_heal_models(settings, using, processes, lambda: follower.current()[0], deciding, stop), failed))
    # What was imported and built stays until the end: collections need not walk it, and neither does the exit.
    gc.freeze()
    # Thousands of events live at once and few in cycles: looking for those as often as Python does took a fifth of the time.
    gc.set_threshold(50_000, 20, 50)
    health.ready = True
    log.info("worker ready", processors=names, metrics_port=metrics_port)
    await stop.wait()
    health.ready = False
    log.info("worker stops", reason=repr(troubles[0]) if troubles else "signal")
    _end_within(_END_S, 1 if troubles else 0)
    await _within(_STOP_S, "what runs beside", *beside)
    await _within(_STOP_S, "agents", asyncio.create_task(agents.stop()))
    follower.stop()
    await asyncio.gather(*(triton.close() for triton in tritons), *(one.close() for one in processes))
    await asyncio.to_thread(kafka.close)
    await using.close()
    health.stop()
    return 1 if troubles else 0


def _end_within(limit_s: float, code: int) -> None:
    """End the process even if a thread of some library does not: nothing in flight was acknowledged, so it comes again."""

    def end() -> None:
        log.warning("ended before it was done", what="process", waited_s=limit_s)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(code)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()


async def _within(limit_s: float, what: str, *tasks: "asyncio.Task[None]") -> None:
    """Let tasks come to their end, and end them when they take too long: what was in flight comes again anyway."""
    late = (await asyncio.wait(tasks, timeout=limit_s))[1]
    for task in late:
        task.cancel()
    if late:
        log.warning("ended before it was done", what=what, waited_s=limit_s)
        await asyncio.wait(late, timeout=1.0)


def _watched(work: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]) -> "asyncio.Task[None]":
    """A task beside the agents, whose failure is the worker's."""

    def done(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed(error)

    task = asyncio.create_task(work)
    task.add_done_callback(done)
    return task


async def _load_releases(
    settings: Settings, using: wiring.Clients, state: Callable[[], PipelineReleases], stop: asyncio.Event
) -> None:
    """Keep the inference servers as the log says until told to stop."""
    tritons = tuple(TritonModels(endpoint) for endpoint in settings.triton.endpoints)
    servers = filled(settings, using, tritons, state)
    loader = ReleaseLoader(
        pipeline=settings.pipeline.name,
        state=state,
        servers=servers,
        appender=using.appender,
        schemas=using.schemas,
        clock=system_clock,
        keep_loaded=settings.triton.releases_loaded,
    )
    await loader.run(stop)
    for triton in tritons:
        await triton.close()


async def _heal_models(
    settings: Settings,
    using: wiring.Clients,
    servers: tuple[TritonProcesses, ...],
    state: Callable[[], PipelineReleases],
    deciding: Callable[[], bool],
    stop: asyncio.Event,
) -> None:
    """Keep what the inference servers have loaded at work until told to stop, in the worker that decides on releases."""
    healer = ModelHealer(
        pipeline=settings.pipeline.name,
        state=state,
        servers=servers,
        appender=using.appender,
        schemas=using.schemas,
        clock=system_clock,
        is_ours=deciding,
        keep_loaded=settings.triton.releases_loaded,
    )
    await healer.run(stop)
