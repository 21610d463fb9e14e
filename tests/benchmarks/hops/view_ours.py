"""The view hop as a worker does it: Faust's consumer, one view, Redis. Prints one line of JSON when everything is counted.

python -m tests.benchmarks.hops.view_ours HOME NAMESPACE RECORDS
"""

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from streams.kafka_groups import KafkaGroups
from tests.benchmarks.hops.made import settings_of
from topology import processing, wiring
from topology.agents import Agents, Group

VIEW = "device_frames"
_POLL_S = 0.2


async def run(home: Path, name: str, records: int) -> dict[str, Any]:
    """Events, and the seconds and CPU seconds that they took after the first of them."""
    settings = settings_of(home, name)
    using = wiring.clients(settings)
    kafka = KafkaGroups(wiring.bootstrap_servers(settings), wiring.namespace(settings))
    batch = settings.worker.batch_records
    failures: list[BaseException] = []
    agents = Agents(
        (Group(name="views", steps=(ViewStep(VIEWS[VIEW]),), window=batch, batch=batch),),
        using.ports(),
        bootstrap_servers=wiring.bootstrap_servers(settings),
        namespace=wiring.namespace(settings),
        limits=processing.faust_limits(settings),
        kafka=kafka,
        failed=failures.append,
    )
    partitions = using.log.partitions(VIEWS[VIEW].topic)

    async def counted(at_least: int, every_s: float) -> int:
        while True:
            found = sum([(await using.views.standing(VIEW, p)).position for p in partitions])
            if found >= at_least or failures:
                return found
            await asyncio.sleep(every_s)

    await agents.start()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # as a worker does
    begun = await counted(1, 0.01)
    began, began_cpu = time.monotonic(), time.process_time()
    done = await counted(records, _POLL_S)
    took = {"events": done - begun, "wall_s": time.monotonic() - began, "cpu_s": time.process_time() - began_cpu}
    await agents.stop()
    await asyncio.to_thread(kafka.close)
    await using.close()
    assert not failures, failures
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
