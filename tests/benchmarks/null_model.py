"""One processor and a model that does nothing: what a frame costs in `infer`, beside the same job on other frameworks.

    python -m tests.benchmarks.null_model --rivals PYTHON      writes docs/reference/null-model.{json,md,svg}

Frames that were accepted lie on Kafka. Each program is one process (ours also two and four) that reads them, fetches and verifies
the picture, calls an identity model on Triton by gRPC, writes the Avro event that follows and commits its offsets when the broker
has acknowledged it. In turns. What is measured is measured from outside: events on the target topic, CPU of the process.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from schemas import avro_files
from schemas.catalogue import ASSESSMENTS, INFERENCES, TOPICS
from schemas.events import InferenceCompleted
from streams.blob_names import PLAIN
from tests.benchmarks.chart import COLORS, Line, chart
from tests.benchmarks.replay_speed import CHECKOUT, _machine, say
from tests.benchmarks.stand_in import PIPELINE, StandIn, stand_in
from tests.e2e.deployment import PARTITIONS, devices_on_every_partition, until
from topology import wiring

Json = dict[str, Any]
RIVALS = {"by hand": "by_hand.py", "FastStream": "by_faststream.py", "Quix Streams": "by_quix.py"}
OURS = {1: "Hindsight", 2: "Hindsight, two workers", 4: "Hindsight, four workers"}
_CALLS = 8
_WARM = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", required=True, help="Python of the environment that rivals.txt describes")
    parser.add_argument("--sizes", default="400,800,1600")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    with stand_in("null", HINDSIGHT_WORKER__CONCURRENT_CALLS=str(_CALLS), HINDSIGHT_CHECKS__ON="false") as deployment:
        deployment.start_workers("assess,release,infer")
        deployment.release(0)
        found: Json = {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "calls": _CALLS,
            "sizes": [],
        }
        bench = Bench(deployment, asked.rivals)
        for size in sizes:
            bench.fill(size)
            programs = [*RIVALS, *(OURS.values() if size == sizes[-1] else [OURS[1]])]
            taken: Json = {name: [] for name in programs}
            for _ in range(asked.rounds):
                for name in programs:
                    taken[name].append(bench.take(name))
                    say(size, name, taken[name][-1])
            found["sizes"].append({"frames": size, "taken": taken})
    (asked.out / "null-model.json").write_text(json.dumps(found, indent=1) + "\n")
    (asked.out / "null-model.md").write_text(page(found))
    (asked.out / "null-model.svg").write_text(plot(found))


class Bench:
    """Accepted frames on Kafka, and programs that read them from the start, one after another."""

    def __init__(self, deployment: StandIn, rivals: str) -> None:
        self._deployment = deployment
        self._rivals = rivals
        self._told = deployment.folder / "told.json"
        self._told.write_text(json.dumps(_told(deployment)))
        self._admin = AdminClient({"bootstrap.servers": wiring.bootstrap_servers(deployment.settings)})
        self._groups = 0

    def fill(self, frames: int) -> None:
        """As many accepted frames as that, in all; then nobody works."""
        if not self._deployment.living():
            self._deployment.start_workers("assess,release")
        devices = devices_on_every_partition()
        self._deployment.publish(devices, (frames - self._deployment.appended(ASSESSMENTS)) // len(devices))
        until(lambda: self._deployment.appended(ASSESSMENTS) >= frames, within_s=120, what="all accepted")
        for worker in self._deployment.living():
            worker.terminate(within_s=30)

    def take(self, name: str) -> Json:
        """Frames a second of the clock, and milliseconds of CPU for a frame, of all processes together."""
        frames, before = self._deployment.appended(ASSESSMENTS), self._deployment.appended(INFERENCES)
        processes = (
            self._ours(next(n for n, words in OURS.items() if words == name)) if name in OURS.values() else self._other(name)
        )
        try:
            begun = until(lambda: self._past(before + _WARM * frames), within_s=120, what=f"{name} at work")
            began, began_cpu = time.monotonic(), sum(_cpu_s(p.pid) for p in processes)
            done = until(lambda: self._past(before + frames), within_s=300, what=f"{name} done")
            took, cpu_s = time.monotonic() - began, sum(_cpu_s(p.pid) for p in processes) - began_cpu
        finally:
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait()
        count = done - begun
        return {"rate": round(count / took, 1), "cpu_ms": round(1000 * cpu_s / count, 2)}

    def _past(self, wanted: float) -> int:
        found = self._deployment.appended(INFERENCES)
        return found if found >= wanted else 0

    def _other(self, name: str) -> "Sequence[subprocess.Popen[bytes]]":
        self._groups += 1
        program = Path(__file__).parent / "null" / RIVALS[name]
        with (self._deployment.folder / f"{program.stem}.log").open("ab") as out:
            command = [self._rivals, str(program), str(self._told), f"rival-{self._groups}"]
            return [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_calm())]

    def _ours(self, count: int) -> "Sequence[subprocess.Popen[bytes]]":
        """Workers with this one processor, which begin anew: nothing is committed, and nothing stored."""
        asyncio.run(self._forget())
        return [self._deployment.start_worker("infer").process for _ in range(count)]

    async def _forget(self) -> None:
        settings = self._deployment.settings
        group = wiring.namespace(settings).group("infer")
        _patiently(lambda: next(iter(self._admin.delete_consumer_groups([group]).values())).result())
        redis = wiring.redis_client(settings)
        for partition in range(PARTITIONS):
            for what in ("states", "position", "digest"):
                await redis.delete(wiring.namespace(settings).redis_key(f"{{infer.{partition}}}", what))
        await redis.aclose()


def _patiently(work: Callable[[], Any]) -> None:
    """A group whose members died is not empty until their sessions are over."""

    def done() -> bool:
        try:
            work()
        except Exception as error:
            return "NOT_FOUND" in str(error).upper().replace(" ", "_") or "GROUP_ID_NOT_FOUND" in str(error)
        return True

    until(done, within_s=60, what="the group is gone")


def _told(deployment: StandIn) -> Json:
    settings, registry = deployment.settings, deployment.schemas
    events = (*TOPICS[ASSESSMENTS].events, InferenceCompleted)
    ids = {event: registry.id_of(event) for event in events}
    space = wiring.namespace(settings)
    return {
        "kafka": wiring.bootstrap_servers(settings),
        "from": space.topic(ASSESSMENTS),
        "to": space.topic(INFERENCES),
        "schemas": {i: avro_files.without_logical_types(json.loads(registry.schema_of(i))) for i in ids.values()},
        "completed_id": ids[InferenceCompleted],
        "s3": {
            "endpoint": settings.s3.endpoint,
            "access_key": settings.s3.access_key,
            "secret_key": settings.s3.secret_key.get_secret_value(),
            "bucket": space.bucket(settings.blobs.bucket),
            "prefix": PLAIN,
        },
        "triton": deployment.endpoints[0],
        "release": "after_0_ms",
        "parameters": {"delay_ms": 0.0},
        "pipeline": PIPELINE,
        "calls": _CALLS,
    }


def _calm() -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"}


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(_cpu_s(int(child)) for child in children)


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine = found["machine"]
    lines = [
        "<!-- Made by tests/benchmarks/null_model.py: run `make bench-null`. -->",
        "",
        "# One processor and a model that does nothing",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka, registry, S3 and Triton on the same machine.",
        "",
        "Accepted frames on Kafka in, an identity model on Triton by gRPC, the event that follows on Kafka out, offsets "
        "committed after the broker's acknowledgement: at least once for all. At most "
        f"{found['calls']} calls in flight; Quix Streams calls a function for one record after another. The others leave out "
        "what a processor does beside: the release in force from the log, pins, retries, traces, repeats told from news, dead "
        "letters. In turns; medians, least and most.",
        "",
        '<img src="null-model.svg" width="720" alt="Milliseconds of CPU for a frame against the number of frames.">',
        "",
        "| frames | program | CPU for a frame | ours to theirs | frames a second of the clock |",
        "|---|---|---|---|---|",
    ]
    for one in found["sizes"]:
        for name, taken in one["taken"].items():
            cpu, rate = ([t[what] for t in taken] for what in ("cpu_ms", "rate"))
            ratio = "" if name in OURS.values() else f"{_ratio(one['taken'], name):.2f}"
            lines.append(
                f"| {one['frames']:,} | {name} | {statistics.median(cpu):.2f} ms ({min(cpu):.2f} to {max(cpu):.2f}) | {ratio} "
                f"| {statistics.median(rate):.0f} ({min(rate):.0f} to {max(rate):.0f}) |"
            )
    lines += [
        "",
        "*Ours to theirs* is how many frames a core does here for each one that it does there: the median of the rounds' own "
        "ratios. With two cores for everything, more workers than one show what a frame costs when they share, and no more.",
    ]
    return "\n".join(lines) + "\n"


def _ratio(taken: Json, name: str) -> float:
    return statistics.median(b["cpu_ms"] / a["cpu_ms"] for a, b in zip(taken[OURS[1]], taken[name], strict=True))


def plot(found: Json) -> str:
    """CPU for a frame against the number of frames, as SVG."""
    names = (OURS[1], *RIVALS)
    lines = [
        Line(
            name=name,
            points=[(o["frames"], statistics.median(t["cpu_ms"] for t in o["taken"][name])) for o in found["sizes"]],
            color=color,
        )
        for name, color in zip(names, COLORS, strict=False)
    ]
    return chart(lines, x_name="frames", y_name="milliseconds of CPU for a frame")


if __name__ == "__main__":
    main()
