"""One worker: any set of processors in one process, with a port for health and metrics.

It ends by itself when a processor cannot go on (exit code 1), so that whoever supervises it starts it again: what was
not acknowledged comes back. SIGTERM leaves the groups at once; nothing in flight is lost, since it comes back too.
"""

import asyncio
import signal
from collections.abc import Callable

import structlog

from processors.release.core import PipelineReleases
from processors.release.follower import ReleaseFollower
from processors.release.loader import ReleaseLoader
from schemas.errors import ConfigurationError
from streams.records import system_clock
from streams.triton import TritonInference, TritonModels
from topology import wiring
from topology.agents import Agents
from topology.health import Health
from topology.settings import Settings

log = structlog.get_logger()


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The processors that are meant, in the order of the chain.

    Raises:
        ConfigurationError: one of them does not exist.
    """
    unknown = sorted(set(names) - set(wiring.PROCESSORS))
    if unknown:
        raise ConfigurationError(
            f"there is no processor {', '.join(unknown)}",
            setting="--processors",
            do=f"choose from {', '.join(wiring.PROCESSORS)}",
        )
    return tuple(p for p in wiring.PROCESSORS if p in names)


async def run_worker(settings: Settings, names: tuple[str, ...], *, metrics_port: int) -> int:
    """Run until SIGTERM, SIGINT or a processor that cannot go on.

    Returns:
        The exit code: 0 after a signal, 1 after a failure.
    """
    stop, troubles = asyncio.Event(), []

    def failed(error: BaseException) -> None:
        troubles.append(error)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await asyncio.to_thread(wiring.prepare, settings)
    using = wiring.clients(settings)
    health = Health(host=settings.worker.host, port=metrics_port)
    follower = ReleaseFollower(using.log, using.schemas, settings.pipeline.name)
    inference = TritonInference(settings.triton.endpoints[0], timeout_s=settings.triton.timeout_s)
    if {"infer", "release"} & set(names):
        await asyncio.to_thread(follower.start)
    agents = Agents(
        wiring.groups(settings, names, using, follower=follower, inference=inference),
        using.ports(),
        bootstrap_servers=wiring.bootstrap_servers(settings),
        namespace=wiring.namespace(settings),
        limits=wiring.faust_limits(settings),
        failed=failed,
    )
    health.start()
    await agents.start()
    loading = (
        asyncio.create_task(_load_releases(settings, using, lambda: follower.current()[0], stop)) if "release" in names else None
    )
    health.ready = True
    log.info("worker ready", processors=names, metrics_port=metrics_port)
    await stop.wait()
    health.ready = False
    log.info("worker stops", reason=repr(troubles[0]) if troubles else "signal")
    if loading is not None:
        await loading
    await agents.stop()
    follower.stop()
    await inference.close()
    await using.close()
    health.stop()
    return 1 if troubles else 0


async def _load_releases(
    settings: Settings, using: wiring.Clients, state: Callable[[], PipelineReleases], stop: asyncio.Event
) -> None:
    """Keep the inference servers as the log says until told to stop."""
    servers = tuple(TritonModels(endpoint) for endpoint in settings.triton.endpoints)
    loader = ReleaseLoader(
        pipeline=settings.pipeline.name,
        state=state,
        servers=servers,
        appender=using.appender,
        schemas=using.schemas,
        clock=system_clock,
    )
    await loader.run(stop)
    for server in servers:
        await server.close()
