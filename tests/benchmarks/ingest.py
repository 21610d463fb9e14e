"""How many frames a second does the gateway bring to safety, beside a loop by hand? In turns, on real Kafka and S3.

    python -m tests.benchmarks.ingest       writes docs/reference/ingest-speed.{json,md,svg}

A frame counts once blob store and broker hold it. 64 devices push to the real gateway as fast as it answers; the loop by hand
(`ingesting/by_hand.py`) PUTs with the same client from as many threads, and produces. Devices, gateway and servers share
the machine's cores, so the gateway's own CPU for a frame is measured, too. At last the broker is stopped (SIGSTOP) while
all devices push: the gateway's memory must stay under a bound and stop growing, and all that was sent must be acknowledged
once the broker is back.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import ingest_page
from tests.benchmarks.hops.made import PARTITIONS, settings_of
from tests.benchmarks.replay_speed import CHECKOUT, _machine, _stack, say
from tests.e2e.deployment import until
from topology import wiring
from topology.settings import Settings
from topology.stack import processes
from topology.stack.local import LocalStack
from topology.stack.ports import FREE_RANGE, choose

Json = dict[str, Any]
WAYS: dict[str, dict[str, str]] = {"gateway": {}, "gateway, segments": {"HINDSIGHT_BLOBS__PACK_UP_TO_BYTES": "262144"}}
DEVICES, IN_FLIGHT, WARM_S = 64, 64, 2.0
STOPPED_SIZE, STOPPED_IN_FLIGHT = 200_000, 1_000
# From idle, by the gateway's limits: the byte budget, and for each stream as much as its longest message.
GROWTH_MOST_MIB = 256 + DEVICES * 16
STILL_GROWS_MIB = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="2000,20000,200000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stopped", type=float, default=30.0, help="seconds without a broker")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hindsight-bench-") as home, _stack(Path(home)) as stack:
        found: Json = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "devices": DEVICES}
        found["sizes"] = [_measured(Path(home), int(s), asked.rounds, asked.seconds) for s in asked.sizes.split(",")]
        found["stopped"] = _without_broker(Path(home), stack, asked.stopped)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "ingest-speed.json").write_text(json.dumps(found, indent=2) + "\n")
    (asked.out / "ingest-speed.md").write_text(ingest_page.page(found))
    (asked.out / "ingest-speed.svg").write_text(ingest_page.plot(found))
    say("verdict:", found["stopped"]["verdict"])
    sys.exit(0 if found["stopped"]["verdict"] == "bounded" else 1)


# --- speed


def _measured(home: Path, size: int, rounds: int, seconds: float) -> Json:
    runs: dict[str, list[Json]] = {name: [] for name in ("by hand", *WAYS)}
    for _ in range(rounds):
        runs["by hand"].append(_by_hand(home, f"h{size}", size, seconds))
        for number, (name, environment) in enumerate(WAYS.items()):
            runs[name].append(_by_gateway(home, f"g{number}x{size}", size, seconds, environment))
        for name, found in runs.items():
            say(size, name, json.dumps(found[-1]))
    return {"size_bytes": size, "runs": runs}


def _by_hand(home: Path, namespace: str, size: int, seconds: float) -> Json:
    settings = settings_of(home, namespace)
    wiring.prepare(settings)
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.ingesting.by_hand",
        str(home),
        namespace,
        str(size),
        str(seconds),
        str(WARM_S),
    ]
    out = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=300).stdout
    one = json.loads(out.strip().splitlines()[-1])
    return _rates(size, one["frames"], one["wall_s"], one["cpu_s"])


def _by_gateway(home: Path, namespace: str, size: int, seconds: float, environment: dict[str, str]) -> Json:
    settings = settings_of(home, namespace)
    wiring.prepare(settings)
    stored = _objects(settings)
    with _gateway(home, namespace, environment) as gateway, _devices(gateway.address, size, IN_FLIGHT) as devices:
        time.sleep(WARM_S)
        cpu, began, before = gateway.cpu_s(), time.monotonic(), devices.counts()
        time.sleep(seconds)
        after, took, used = devices.counts(), time.monotonic() - began, gateway.cpu_s() - cpu
        devices.end()
        frames = after["acknowledged"] - before["acknowledged"]
    # By what lies in the bucket: no two frames are equal, and nothing was stored twice.
    puts = (_objects(settings) - stored) / devices.last["acknowledged"]
    return _rates(size, frames, took, used) | {"puts_per_frame": round(puts, 4)}


def _rates(size: int, frames: int, wall_s: float, cpu_s: float) -> Json:
    return {
        "frames_per_s": round(frames / wall_s, 1),
        "mb_per_s": round(frames * size / wall_s / 1e6, 2),
        "cpu_us_per_frame": round(cpu_s / max(frames, 1) * 1e6),
    }


def _objects(settings: Settings) -> int:
    return sum(1 for _ in wiring.blobs_bucket(settings).list(""))


# --- memory


def _without_broker(home: Path, stack: LocalStack, seconds: float) -> Json:
    settings = settings_of(home, "stopped")
    wiring.prepare(settings)
    broker = stack.program_state("kafka").process
    assert broker is not None, "the broker runs"
    with ExitStack() as running:
        gateway = running.enter_context(_gateway(home, "stopped", {}))
        idle_mib = gateway.memory_mib()
        devices = running.enter_context(_devices(gateway.address, STOPPED_SIZE, STOPPED_IN_FLIGHT))
        time.sleep(WARM_S)
        began, samples = time.monotonic(), [[0.0, gateway.memory_mib()]]
        stopped = processes.session_members(broker.pid)
        processes.send(stopped, signal.SIGSTOP)
        try:
            while time.monotonic() - began < seconds:
                time.sleep(0.5)
                samples.append([round(time.monotonic() - began, 1), gateway.memory_mib()])
            held = devices.counts()
        finally:
            processes.send(stopped, signal.SIGCONT)
        devices.end()
    growth = max(mib for _, mib in samples) - idle_mib
    half = [mib for at, mib in samples if at >= seconds / 2]
    found: Json = {
        "size_bytes": STOPPED_SIZE,
        "seconds": seconds,
        "idle_mib": idle_mib,
        "memory_mib": samples,
        "growth_mib": round(growth, 1),
        "growth_second_half_mib": round(max(half) - half[0], 1),
        "bound_mib": GROWTH_MOST_MIB,
        "unanswered_when_back": held["sent"] - held["acknowledged"],
        "sent": devices.last["sent"],
        "acknowledged": devices.last["acknowledged"],
    }
    is_bounded = growth <= GROWTH_MOST_MIB and found["growth_second_half_mib"] <= STILL_GROWS_MIB
    is_whole = found["sent"] == found["acknowledged"]
    found["verdict"] = "bounded" if is_bounded and is_whole else "not bounded" if is_whole else "frames were lost"
    say(json.dumps({k: v for k, v in found.items() if k != "memory_mib"}))
    return found


# --- processes


@dataclass(frozen=True, slots=True)
class _Gateway:
    process: "subprocess.Popen[bytes]"
    address: str

    def cpu_s(self) -> float:
        """User and system time of the process, all its threads."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


@contextmanager
def _gateway(home: Path, namespace: str, environment: dict[str, str]) -> Iterator[_Gateway]:
    """`hindsight gateway`, as anybody starts it."""
    ports = choose(["gateway", "metrics"], fixed={}, preferred={}, among=FREE_RANGE)
    ours = {
        "HINDSIGHT_HOME": str(home),
        "HINDSIGHT_NAMESPACE": namespace,
        "HINDSIGHT_KAFKA__PARTITIONS": str(PARTITIONS),
        "HINDSIGHT_GATEWAY__PORT": str(ports["gateway"]),
        "HINDSIGHT_GATEWAY__METRICS_PORT": str(ports["metrics"]),
        "HINDSIGHT_GATEWAY__MAX_STREAMS": str(DEVICES * 2),
    }
    with (home / f"gateway-{namespace}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "topology.cli", "gateway"],
            cwd=CHECKOUT,
            env={**os.environ, **ours, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "is up" in Path(log.name).read_text(errors="replace"), within_s=60, what=f"gateway up, see {log.name}")
        yield _Gateway(process, f"127.0.0.1:{ports['gateway']}")
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


class _Devices:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.last: Json = {}

    def counts(self) -> Json:
        """Frames sent and acknowledged so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Send no more, and wait for all answers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.last = self._answer()
        self.process.wait(timeout=30)

    def _answer(self) -> Json:
        assert self.process.stdout is not None
        found: Json = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def _devices(address: str, size: int, in_flight: int) -> Iterator[_Devices]:
    command = [sys.executable, "-m", "tests.benchmarks.ingesting.devices", address, str(size), str(DEVICES), str(in_flight)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "pushing\n", "the devices started"
        yield _Devices(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


if __name__ == "__main__":
    main()
