"""How fast is looking back, and how fast is a view rebuilt? On real Kafka, registry, Redis and S3, with made logs.

    python -m tests.benchmarks.replay_speed          writes docs/reference/replay-speed.{json,md,svg}

1. For logs of 10^4 to 10^6 events: the state of a random device at a random moment, with snapshots as the default settings
   take and thin them, and from the start of the log; a sample of the answers is compared.
2. On the largest log: events per second of CPU that a rebuild of each view takes, beside a plain loop that only consumes and
   decodes the same records, in turns, in this process.

The events carry the times of a month, so that a moment has as many events around it as at a real site.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from processors.lookback.at import device_at
from processors.snapshots.keeping import Keeper, Ports
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS
from processors.views.upkeep import rebuild
from schemas.catalogue import TOPICS
from schemas.codec import decode
from schemas.plain import to_plain
from streams.records import system_clock
from tests.benchmarks import made_log, speed_page
from topology import wiring
from topology.configuration import stack_layer
from topology.past import open_past
from topology.settings import Settings
from topology.snapshots import rules_of
from topology.stack.local import LocalStack

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
EVENTS_OF_A_FRAME = 2.08
MONTH_US = 28 * 86_400_000_000
ROUNDS = 3
Json = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--compared", type=int, default=8, help="answers held against the fold from the start")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="hindsight-bench-") as home, _stack(Path(home)):
        found: Json = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "looking_back": []}
        for size in sizes:
            settings = _settings(Path(home), f"b{size}")
            events = _write(settings, Path(home), size)
            found["looking_back"].append(_looking_back(settings, events, asked.moments, asked.compared))
            _save(asked.out, found)
        found["rebuilding"] = _rebuilding(_settings(Path(home), f"b{sizes[-1]}"))
        _save(asked.out, found)


def _save(folder: Path, found: Json) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replay-speed.json").write_text(json.dumps(found, indent=2) + "\n")
    if "rebuilding" in found:
        (folder / "replay-speed.svg").write_text(speed_page.plot(found))
        (folder / "replay-speed.md").write_text(speed_page.page(found))


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


# --- a log


@contextmanager
def _stack(home: Path) -> Iterator[LocalStack]:
    servers = CHECKOUT / ".hindsight" / "servers"
    with LocalStack(
        home, servers=("kafka", "registry", "redis", "s3"), ports="free", servers_folder=servers, owned=True
    ) as stack:
        say("servers are up")
        yield stack


def _settings(home: Path, namespace: str) -> Settings:
    layer: Json = stack_layer(home)
    kafka = {**layer.pop("kafka"), "partitions": PARTITIONS}
    return Settings(**{**layer, "kafka": kafka, "namespace": namespace})


def _write(settings: Settings, home: Path, size: int) -> int:
    """Write a log of about that many events; gives how many they are."""
    wiring.prepare(settings)
    _let_times_be_given(settings)
    frames = round(size / EVENTS_OF_A_FRAME)
    site = made_log.Site(frames=frames, partitions=PARTITIONS, every_us=MONTH_US // frames)
    began = time.monotonic()
    servers, namespace = wiring.bootstrap_servers(settings), wiring.namespace(settings)
    made_log.write(servers, namespace, wiring.schemas(settings), made_log.releases(), wait_each=1)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        shares = [(home, settings.namespace, site, only) for only in ((0, 1), (2, 3))]
        events = sum(pool.starmap(_write_share, shares))
    say(f"{events} events written in {time.monotonic() - began:.0f} s")
    return events


def _write_share(home: Path, namespace: str, site: made_log.Site, only: tuple[int, ...]) -> int:
    settings = _settings(home, namespace)
    servers, name = wiring.bootstrap_servers(settings), wiring.namespace(settings)
    return made_log.write(servers, name, wiring.schemas(settings), made_log.chain(site, only))


def _let_times_be_given(settings: Settings) -> None:
    """The broker takes the events' times as they are given, and not its own."""
    admin = AdminClient({"bootstrap.servers": wiring.bootstrap_servers(settings)})
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    names = [wiring.namespace(settings).topic(name) for name in TOPICS]
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
    for future in admin.incremental_alter_configs(resources).values():
        future.result()


# --- looking back


def _looking_back(settings: Settings, events: int, moments: int, compared: int) -> Json:
    began = time.monotonic()
    taken = _take_snapshots(settings)
    took_s = time.monotonic() - began
    say(f"{taken} snapshots taken in {took_s:.0f} s")
    rng = random.Random(17)
    names = made_log.Site(frames=0).names()
    asked = [(rng.choice(names), made_log.STARTS_US + rng.randrange(MONTH_US)) for _ in range(moments)]
    with_s, answers = _timed(settings, asked, with_snapshots=True)
    without_s, whole = _timed(settings, asked[:compared], with_snapshots=False)
    different = sum(a != b for a, b in zip(answers, whole, strict=False))
    found = {
        "events": events,
        "snapshots": taken,
        "snapshots_took_s": round(took_s, 1),
        "with_snapshots": _spread(with_s),
        "from_the_start": _spread(without_s),
        "compared": compared,
        "different": different,
    }
    say(json.dumps(found))
    assert different == 0, "an answer with snapshots is not the one from the start of the log"
    return found


def _take_snapshots(settings: Settings) -> int:
    async def work() -> int:
        using = wiring.clients(settings)
        loop = asyncio.get_running_loop()
        ports = Ports(
            log=using.log,
            schemas=using.schemas,
            blobs=using.blobs,
            append=lambda out: asyncio.run_coroutine_threadsafe(_append(using, out), loop).result(60),
            clock=system_clock,
        )
        try:
            return await asyncio.to_thread(_keep, ports, settings)
        finally:
            await using.close()

    return asyncio.run(work())


async def _append(using: wiring.Clients, outgoing: Any) -> object:
    return await using.appender.append(outgoing)


def _keep(ports: Ports, settings: Settings) -> int:
    count = 0
    for view in VIEWS.values():
        for partition in ports.log.partitions(view.topic):
            keeper = Keeper(view, partition, ports, rules_of(settings.snapshots))
            while keeper.step() is not None:
                count += 1
        say(f"{view.name}: {count} snapshots so far")
    return count


def _timed(settings: Settings, asked: list[tuple[str, int]], *, with_snapshots: bool) -> tuple[list[float], list[Any]]:
    """Seconds that each answer took, clients made anew for each as a command makes them, and the answers."""
    took, answers, worth = [], [], settings.snapshots.used_from_events
    for device, at_us in asked:
        began = time.monotonic()
        with open_past(settings, None) as past:
            found = device_at(
                past.log,
                past.schemas,
                device_id=device,
                pipeline=made_log.PIPELINE,
                at_us=at_us,
                snapshots=Snapshots(past.log, past.schemas, past.blobs, worth=worth) if with_snapshots else None,
            )
        took.append(time.monotonic() - began)
        answers.append(to_plain(replace(found, snapshots=(), notes=())))
    return took, answers


def _spread(seconds: list[float]) -> Json:
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "median_s": round(statistics.median(ordered), 4),
        "p95_s": round(ordered[int(len(ordered) * 0.95)], 4),
        "most_s": round(ordered[-1], 4),
    }


# --- rebuilding


def _rebuilding(settings: Settings) -> list[Json]:
    """Each view's first partition that has events, in turns with the plain loop over the same records."""
    log, schemas = wiring.event_log(settings), wiring.schemas(settings)
    gc.collect()
    gc.freeze()  # as workers do
    out = []
    for view in VIEWS.values():
        partition = max(log.partitions(view.topic), key=lambda p: log.bounds(view.topic, p).end)
        end = log.bounds(view.topic, partition).end
        if end < 1000:
            continue

        def plain(topic: str = view.topic, place: int = partition, stop: int = end) -> None:
            for record in log.read(topic, place, 0, stop):
                decode(record.value, topic, schemas)

        def anew(view: Any = view, place: int = partition) -> None:
            asyncio.run(_rebuild(settings, view, place))

        rounds = [(_cost(plain), _cost(anew)) for _ in range(ROUNDS)]
        plain_cpu, rebuild_cpu = (statistics.median(r[n][0] for r in rounds) for n in (0, 1))
        plain_s, rebuild_s = (statistics.median(r[n][1] for r in rounds) for n in (0, 1))
        found = {
            "view": view.name,
            "events": end,
            "plain_per_cpu_s": round(end / plain_cpu),
            "rebuild_per_cpu_s": round(end / rebuild_cpu),
            "ratio": round(statistics.median(p[0] / r[0] for p, r in rounds), 3),
            "plain_per_s": round(end / plain_s),
            "rebuild_per_s": round(end / rebuild_s),
        }
        say(json.dumps(found))
        out.append(found)
    log.close()
    return out


async def _rebuild(settings: Settings, view: Any, partition: int) -> None:
    using = wiring.clients(settings)
    made = await rebuild(view, using.log, using.views, using.schemas, partition)
    assert made.swapped, "the rebuilt view was not taken"
    await using.close()


def _cost(work: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds of all threads of this process, and seconds by the clock."""
    before, began = time.process_time(), time.monotonic()
    work()
    return time.process_time() - before, time.monotonic() - began


def _machine() -> Json:
    return {
        "cores": os.cpu_count(),
        "processor": next(
            (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
            "",
        ),
        "python": platform.python_version(),
        "load_average_1m": round(os.getloadavg()[0], 1),
        "memory_mb_most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
