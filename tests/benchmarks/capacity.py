"""What 10,000 frames a second would take, on paper: from what a frame costs at each hop, as measured here.

    python -m tests.benchmarks.capacity          writes docs/reference/capacity.{json,md,svg}

Measures the chain from Kafka to results and views with a model that takes no time (one worker, then two): CPU of each program,
bytes on each topic, for a frame. Takes the door's costs from `ingest-speed.json` and the models' from `gpu.json` beside it. What
is not measured anywhere is said to be assumed.
"""

import argparse
import json
import math
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.catalogue import RESULTS, TOPICS
from tests.benchmarks.chart import COLORS, Line, chart
from tests.benchmarks.null_model import _cpu_s
from tests.benchmarks.replay_speed import CHECKOUT, _machine, say
from tests.benchmarks.stand_in import StandIn, stand_in
from tests.e2e.deployment import ALL, devices_on_every_partition, until
from topology import wiring

Json = dict[str, Any]
RATES = (100, 1000, 10_000)
BUSY = 0.6
"""How busy anything may be on average, so that there is room for what is not."""
FRAME_BYTES = (20_000, 200_000)
REPLICATION = 3
_SERVERS = ("kafka", "redis", "s3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    with stand_in("capacity", HINDSIGHT_WORKER__CONCURRENT_CALLS="8") as deployment:
        found: Json = {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "chain": _chain(deployment, asked.frames, asked.rounds),
            "door": _door(asked.out),
            "models": _models(asked.out),
        }
    (asked.out / "capacity.json").write_text(json.dumps(found, indent=1) + "\n")
    (asked.out / "capacity.md").write_text(page(found))
    (asked.out / "capacity.svg").write_text(plot(found))


def _chain(deployment: StandIn, frames: int, rounds: int) -> Json:
    """Costs of a frame from Kafka to results and views, by the number of workers."""
    taken: Json = {}
    deployment.start_workers(ALL)
    deployment.release(0)
    _through(deployment, 200)
    before = _bytes(deployment)
    for workers in (1, 2):
        if workers > 1:
            deployment.start_workers(ALL)
        taken[str(workers)] = [_through(deployment, frames) for _ in range(rounds)]
        say(workers, taken[str(workers)])
    done = 2 * rounds * frames
    written = {topic: round((after - before.get(topic, 0)) / done) for topic, after in _bytes(deployment).items()}
    return {"by_workers": taken, "log_bytes": {topic: size for topic, size in sorted(written.items()) if size}}


def _through(deployment: StandIn, frames: int) -> Json:
    """Results a second, and milliseconds of CPU for a frame, once all frames lie on Kafka."""
    devices = devices_on_every_partition(each=4)
    wanted = deployment.appended(RESULTS) + frames // len(devices) * len(devices)
    deployment.publish(devices, frames // len(devices))
    pids = {name: deployment.stack.program_state(name).process.pid for name in _SERVERS}  # type: ignore[union-attr]
    workers = [worker.process.pid for worker in deployment.living()]

    def spent() -> Json:
        return {"workers": sum(map(_cpu_s, workers)), **{name: _cpu_s(pid) for name, pid in pids.items()}}

    first, began, before = deployment.appended(RESULTS), time.monotonic(), spent()
    until(lambda: deployment.appended(RESULTS) >= wanted, within_s=300, what="a result of each frame")
    took, after, count = time.monotonic() - began, spent(), wanted - first
    deployment.drain()
    return {"rate": round(count / took, 1), "cpu_ms": {n: round(1000 * (after[n] - before[n]) / count, 3) for n in after}}


def _bytes(deployment: StandIn) -> dict[str, int]:
    """Bytes on the broker's disk, by topic."""
    space, folder = wiring.namespace(deployment.settings), deployment.stack.layout.data("kafka")
    sizes = {}
    for topic in TOPICS:
        found = subprocess.run(
            ["find", str(folder), "-path", f"*{space.topic(topic)}-*", "-name", "*.log", "-printf", "%s\n"],
            capture_output=True,
            text=True,
            check=True,
        )
        sizes[topic] = sum(map(int, found.stdout.split()))
    return sizes


def _door(folder: Path) -> Json:
    """What a gateway spends on a frame of 20 kB that shares its object, from the page on ingest."""
    sizes = json.loads((folder / "ingest-speed.json").read_text())["sizes"]
    (runs,) = (size["runs"]["gateway, segments"] for size in sizes if size["size_bytes"] == FRAME_BYTES[0])
    return {
        "gateway_cpu_ms": round(statistics.median(run["cpu_us_per_frame"] for run in runs) / 1000, 2),
        "puts": statistics.median(run["puts_per_frame"] for run in runs),
    }


def _models(folder: Path) -> Json:
    """Milliseconds of a card for the detection of one frame, in batches."""
    gpu = json.loads((folder / "gpu.json").read_text())
    case = max(
        (c for c in gpu["cases"] if c["network"].startswith("ppocr_v4_detection")), key=lambda c: (c["batch"], c["width_px"])
    )
    (timing,) = (t for t in case["timings"] if t["engine"] == "onnx_cuda")
    return {
        "gpu": gpu["gpu"]["name"],
        "batch": case["batch"],
        "size_px": [case["width_px"], case["height_px"]],
        "detection_ms": round(timing["median_ms"] / case["batch"], 3),
    }


def needs(found: Json, rate: float) -> Json:
    """What a rate takes, each with its hop's measured cost and nothing busier than BUSY."""
    chain = found["chain"]
    alone = {n: statistics.median(t["cpu_ms"][n] for t in chain["by_workers"]["1"]) for n in ("workers", *_SERVERS)}
    log_bytes = sum(chain["log_bytes"].values())
    cores = {name: rate * ms / 1000 / BUSY for name, ms in alone.items()}
    workers = math.ceil(cores["workers"])
    door = found["door"]
    return {
        "workers": workers,
        "partitions": 2 ** math.ceil(math.log2(max(4, workers))),
        "gateways": math.ceil(rate * door["gateway_cpu_ms"] / 1000 / BUSY),
        "puts_s": math.ceil(rate * door["puts"]),
        "broker_cores": round(cores["kafka"], 1),
        "redis_cores": round(cores["redis"], 1),
        "s3_cores": round(cores["s3"], 1),
        "log_mb_s": round(rate * log_bytes * REPLICATION / 1e6, 1),
        "blob_mb_s": [round(rate * size / 1e6) for size in FRAME_BYTES],
        "cards": math.ceil(rate * found["models"]["detection_ms"] / 1000 / BUSY),
    }


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine, models, chain = found["machine"], found["models"], found["chain"]
    needed = [needs(found, rate) for rate in RATES]
    one, two = (chain["by_workers"][n] for n in ("1", "2"))
    rates = [statistics.median(t["rate"] for t in taken) for taken in (one, two)]
    redis_ms = statistics.median(t["cpu_ms"]["redis"] for t in one)

    def row(name: str, cells: list[object]) -> str:
        return f"| {name} | " + " | ".join(f"{c:,}" if isinstance(c, int | float) else str(c) for c in cells) + " |"

    lines = [
        "<!-- Made by tests/benchmarks/capacity.py: run `make bench-capacity`. -->",
        "",
        "# 10,000 frames a second, on paper",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Every server ran on the same machine.",
        "",
        "## What a frame costs",
        "",
        "From the frame on Kafka to its result and all views, with a model that takes no time; milliseconds of CPU, medians. One "
        f"worker came to {rates[0]:.0f} frames a second, two that shared the two cores with everything else to {rates[1]:.0f}.",
        "",
        "| hop | one worker | two workers |",
        "|---|---|---|",
    ]
    for name, words in (("workers", "worker, all processors"), ("kafka", "broker"), ("redis", "Redis"), ("s3", "S3")):
        cells = [round(statistics.median(t["cpu_ms"][name] for t in taken), 2) for taken in (one, two)]
        lines.append(row(words, [f"{cell} ms" for cell in cells]))
    lines += [
        row("gateway, frames of 20 kB in segments", [f"{found['door']['gateway_cpu_ms']} ms", ""]),
        row(f"detection on one {models['gpu']}, ONNX, batches of {models['batch']}", [f"{models['detection_ms']} ms", ""]),
        "",
        f"A frame leaves {sum(chain['log_bytes'].values()):,} bytes on the log: "
        + ", ".join(f"`{topic}` {size:,}" for topic, size in chain["log_bytes"].items())
        + ".",
        "",
        "## What rates take",
        "",
        f"Nothing is busier than {BUSY:.0%} on average. A worker is one process and at most one core of Python.",
        "",
        '<img src="capacity.svg" width="720" alt="Cores that each hop takes, against frames a second.">',
        "",
        "| frames a second | " + " | ".join(f"{rate:,}" for rate in RATES) + " |",
        "|---|" + "---|" * len(RATES),
        row("workers (processes, a core each)", [n["workers"] for n in needed]),
        row("partitions of each chain topic", [n["partitions"] for n in needed]),
        row("gateways (processes, a core each)", [n["gateways"] for n in needed]),
        row("PUTs of segments a second", [n["puts_s"] for n in needed]),
        row("brokers' cores, without replication", [n["broker_cores"] for n in needed]),
        row(f"written to the log, {REPLICATION} replicas", [f"{n['log_mb_s']:,} MB/s" for n in needed]),
        row("Redis cores (one instance uses one)", [n["redis_cores"] for n in needed]),
        row("S3 cores", [n["s3_cores"] for n in needed]),
        *(
            row(f"S3 writes, and as much read, at {size // 1000} kB a frame", [f"{n['blob_mb_s'][i]:,} MB/s" for n in needed])
            for i, size in enumerate(FRAME_BYTES)
        ),
        row("cards, for detection alone", [n["cards"] for n in needed]),
        "",
        "## What breaks first",
        "",
        f"- **Redis.** One instance uses one core, and {BUSY:.0%} of that are {BUSY * 1000 / redis_ms:,.0f} frames a second. The "
        "states of a partition share a hash tag, so a cluster can hold them; it was never run on one.",
        "- **The bytes of frames.** At 200 kB a frame the blob store takes 2 GB/s and gives as much: two links of 25 Gbit/s are "
        "full before much else is. A worker fetches a frame once for all its processors; where assess and infer are on two "
        "machines it is fetched twice.",
        "- **Partitions.** A partition of a topic is read by one worker, so there must be as many as workers. They are chosen "
        "before the first frame: a worker refuses to start on another number.",
        "- **Consumer groups.** Each worker is in ten; with hundreds of workers a rebalance takes long, and everything of a "
        "group stands still meanwhile.",
        "",
        "## How sure this is",
        "",
        "- Costs for a frame: as sure as the spread of the rounds in `capacity.json`, on a machine where all programs share two "
        "cores and their caches. Kafka and S3 are cheaper for a frame when batches grow, and they were small here.",
        "- From a hundred frames a second to ten thousand is a factor of a hundred, and nothing here was run beyond the first. "
        "That a worker's cost does not grow with their number was seen for one and two.",
        "- Network, replication and disks of several machines are not in it. The cards' figure is one model's time without "
        "transfers, DALI, reading and classification: take it as a lower bound.",
    ]
    return "\n".join(lines) + "\n"


def plot(found: Json) -> str:
    """Cores against frames a second, as SVG."""
    names = (("workers", "workers"), ("broker_cores", "brokers"), ("s3_cores", "S3"), ("redis_cores", "Redis"))
    points = (0, 2500, 5000, 7500, 10_000)
    lines = [
        Line(name=words, points=[(rate, needs(found, rate)[name] if rate else 0) for rate in points], color=color)
        for (name, words), color in zip(names, COLORS, strict=False)
    ]
    return chart(lines, x_name="frames a second", y_name="cores")


if __name__ == "__main__":
    main()
