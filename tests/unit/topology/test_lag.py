"""The round that measures lag, on in-memory twins: what it tells of a view store that is away."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from processors.step import Ports
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.codec import FixedSchemas
from schemas.errors import TransientError, ViewStoreUnavailableError
from streams.memory import MemoryLog, MemoryViewStore
from streams.ports import Stored
from tests.given import AT_US
from tests.simulation import virtual_time
from topology.health import Health
from topology.lag import measure_lag

EVERY_S = 5.0


class Leaving(MemoryViewStore):
    """A view store that is away from one time to another."""

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        if 2 * EVERY_S <= asyncio.get_running_loop().time() < 4 * EVERY_S:
            raise ViewStoreUnavailableError("Redis: connection refused")
        return await super().load(view, partition, keys)


def test_a_view_store_that_is_away_is_told_once_a_round_until_it_is_back() -> None:
    """However many steps a worker has, each round ends at the first that gets no answer; a good round says that all is well."""
    log = MemoryLog(lambda: AT_US)
    ports: Ports[Any] = Ports(log=log, appender=log, views=Leaving(), schemas=FixedSchemas(), clock=lambda: AT_US)
    steps = tuple(ViewStep(view) for view in VIEWS.values())
    told: list[str] = []

    def away(error: TransientError | None) -> None:
        told.append("" if error is None else str(error))

    async def six_rounds() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(5.5 * EVERY_S, stop.set)
        await measure_lag(steps, ports, stop, away=away, every_s=EVERY_S)

    with capture_logs() as lines:
        virtual_time.run(six_rounds)
    gone = "Redis: connection refused"
    assert told == ["", "", gone, gone, "", ""]
    assert [(line["event"], line["processor"]) for line in lines] == [("lag not measured", "device_frames")] * 2


def test_ready_is_only_said_while_nothing_is_waited_for() -> None:
    """Before and after the work, and while something is away, the answer is 503; the last says what is."""
    health = Health(host="127.0.0.1", port=0)
    assert health.answer("/health/ready")[0] == 503
    health.ready = True
    assert health.answer("/health/ready") == (200, "text/plain", b"ready\n")
    health.waits_for = "Redis: connection refused"
    assert health.answer("/health/ready") == (503, "text/plain", b"not ready: Redis: connection refused\n")
    assert health.answer("/health/live")[0] == 200
    health.waits_for = ""
    assert health.answer("/health/ready")[0] == 200
