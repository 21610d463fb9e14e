"""A whole Hindsight of one namespace on the session's real servers: workers as processes, frames in, views out.

Workers are started as anybody starts them (`hindsight worker`), and end with the test session whatever becomes of it.
Every wait is a poll with a deadline. The tests kill what is here, and then hold it to the promises of the design.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from processors.views.catalogue import VIEWS
from processors.views.upkeep import Checked, check
from schemas.catalogue import ASSESSMENTS, COMMANDS, FRAMES, INFERENCES
from schemas.events import PromoteRelease, RegisterRelease, ReleasePromoted, ReleaseRegistered
from schemas.types import FrameId, ReleaseStep
from streams.kafka_appender import KafkaAppender
from streams.names import Namespace
from streams.partitioning import partition_of
from streams.publishing import IncomingFrame
from streams.records import system_clock
from tests.e2e.pictures import picture
from topology import commands, model_store, models, wiring
from topology.configuration import stack_layer
from topology.settings import Settings
from topology.stack import launch
from topology.stack.local import LocalStack
from topology.stack.ports import FREE_RANGE, choose

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
R1, R2 = "gate_reader_r1", "gate_reader_r2"
ALL = "all"
_POLL_S = 0.05
# The steps that a frame passes, in order, with what each reads; then the views.
_CHAIN = (("assess", FRAMES), ("infer", ASSESSMENTS), ("derive", INFERENCES))
T = TypeVar("T")


def until(found: Callable[[], T], *, within_s: float, what: str) -> T:
    """The first true answer; asked again and again until the deadline, and once more after it."""
    deadline = time.monotonic() + within_s
    while True:
        is_last = time.monotonic() > deadline
        if answer := found():
            return answer
        if is_last:
            raise AssertionError(f"not within {within_s:g} s: {what}; last answer: {answer!r}")
        time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True, eq=False)
class Worker:
    """One worker process."""

    process: "subprocess.Popen[bytes]"
    metrics_port: int
    log: Path

    def is_ready(self) -> bool:
        """Whether it works; fails the test when it ended instead."""
        return self.says_ready() == "ready"

    def says_ready(self) -> str:
        """What it answers to whoever asks whether it is ready; nothing while it does not answer."""
        code = self.process.poll()
        assert code is None, f"the worker ended with {code}:\n{self.last_lines()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/health/ready", timeout=2) as answer:
                return str(answer.read().decode().strip())
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """kill -9; returns when it is dead."""
        self.process.kill()
        self.process.wait()

    def terminate(self, *, within_s: float) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within_s)

    def counted(self, metric: str, **labels: str) -> float:
        """The sum of one metric over all its labels that match."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == metric and all(w in line for w in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def last_lines(self, count: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class Deployment:
    """One namespace. Close it to end its workers.

    Args:
        folder: Where the workers' logs go.
        launcher: What runs a worker; another one is how a bug is planted.
    """

    def __init__(
        self, stack: LocalStack, namespace: Namespace, folder: Path, launcher: Sequence[str] = ("-m", "topology.cli")
    ) -> None:
        self.stack = stack
        self.folder = folder
        self.namespace = namespace
        self._launcher = tuple(launcher)
        self.settings = settings_of(stack, namespace)
        self.log = wiring.event_log(self.settings)
        self.schemas = wiring.schemas(self.settings)
        self.workers: list[Worker] = []
        self.endpoints = self.settings.triton.endpoints
        self.frames: list[FrameId] = []
        wiring.prepare(self.settings)
        self._sent: dict[str, int] = {}

    def close(self) -> None:
        for worker in self.living():
            worker.kill()
        self.log.close()

    def living(self) -> list[Worker]:
        """Workers that run, the oldest first."""
        return [worker for worker in self.workers if worker.process.poll() is None]

    # Workers

    def last_lines(self) -> str:
        """What every worker said last, for whoever reads a failure."""
        return "\n".join(f"--- {w.log.name} ({w.process.poll()})\n{w.last_lines()}" for w in self.workers)

    def start_worker(self, processors: str = ALL, *, launcher: Sequence[str] = ()) -> Worker:
        """Start a worker, without waiting until it is ready.

        Args:
            launcher: What runs this one worker, in place of the deployment's.
        """
        number = len(self.workers)
        (port,) = choose(["worker"], fixed={}, preferred={}, among=FREE_RANGE).values()
        log = self.folder / f"worker-{number}.log"
        argv = [sys.executable, *(launcher or self._launcher), "worker", "--processors", processors, "--metrics-port", str(port)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
            )
        worker = Worker(process=process, metrics_port=port, log=log)
        self.workers.append(worker)
        return worker

    def start_workers(self, *processors: str, within_s: float = 60.0) -> tuple[Worker, ...]:
        """Start workers side by side and wait until all are ready."""
        started = tuple(self.start_worker(names) for names in processors)
        until(lambda: all(w.is_ready() for w in started), within_s=within_s, what="workers ready")
        return started

    def environment(self) -> dict[str, str]:
        """What a process needs to find this deployment: the stack's home and the namespace."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith("HINDSIGHT_")}
        return {
            **ours,
            "HINDSIGHT_HOME": str(self.stack.layout.home),
            "HINDSIGHT_NAMESPACE": self.namespace.prefix,
            "HINDSIGHT_KAFKA__PARTITIONS": str(PARTITIONS),
            "HINDSIGHT_TRITON__ENDPOINTS": ",".join(self.endpoints),
            "OMP_NUM_THREADS": "1",
            "OPENCV_FOR_THREADS_NUM": "1",
            "PYTHONPATH": str(CHECKOUT),
        }

    def hindsight(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line on this deployment."""
        return subprocess.run(
            [sys.executable, "-m", "topology.cli", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    # Releases

    def register(self, release: str, *, digests: Mapping[str, str] = MappingProxyType({})) -> None:
        """Register a release of the model repository; one that is registered already stays as it is.

        Args:
            digests: What to pin for some steps, by their names, in place of what is on disk.
        """
        if not digests and release in commands.releases_now(self.settings).releases:
            return
        versions = models.release_versions(self.stack.layout.home, release)
        model_store.register(self.settings, versions, reason="", say=print, timeout_s=60)
        steps = models.release_steps(self.stack.layout.home, release)
        command = RegisterRelease(
            command_id=commands.new_command_id(),
            pipeline=self.settings.pipeline.name,
            release=release,
            steps=tuple(ReleaseStep(step=s, model=m, version=v, digest=digests.get(s, d)) for s, m, v, d in steps),
            parameters=models.release_parameters(),
            issued_by="test",
            reason="",
            issued_at_us=system_clock(),
        )
        commands.send(self.settings, command, until=lambda e: isinstance(e, ReleaseRegistered), timeout_s=60)

    def promote(self, release: str) -> None:
        command = PromoteRelease(
            command_id=commands.new_command_id(),
            pipeline=self.settings.pipeline.name,
            release=release,
            issued_by="test",
            reason="",
            issued_at_us=system_clock(),
        )
        commands.send(
            self.settings, command, until=lambda e: isinstance(e, ReleasePromoted) and e.release == release, timeout_s=120
        )

    def put_in_force(self, release: str = R1) -> None:
        self.register(release)
        self.promote(release)

    # Frames

    def publish(self, devices: Iterable[str], frames_each: int, *, passage: int = 0) -> tuple[FrameId, ...]:
        """Publish the next frames of each device, in turn; returns when the broker holds them all.

        Args:
            passage: Frames of one passage; 0 for frames that stand alone.
        """
        sent = asyncio.run(self._publish(tuple(devices), frames_each, passage))
        self.frames += sent
        return sent

    async def _publish(self, devices: tuple[str, ...], frames_each: int, passage: int) -> tuple[FrameId, ...]:
        appender = wiring.appender(self.settings)
        publisher = wiring.publisher(self.settings, to=appender, channel="sdk")
        incoming = [self.next_frame(device, passage) for _ in range(frames_each) for device in devices]
        try:
            stored = await asyncio.gather(*(publisher.store(frame) for frame in incoming))
            await asyncio.gather(*(publisher.append(frame) for frame in stored))
        finally:
            await asyncio.to_thread(appender.close)
        return tuple(frame.frame_id for frame in stored)

    def next_frame(self, device: str, passage: int = 0) -> IncomingFrame:
        """The next frame of a device's session, not published yet."""
        sequence = self._sent.get(device, 0)
        self._sent[device] = sequence + 1
        return IncomingFrame(
            device_id=device,
            session_id="run-1",
            sequence=sequence,
            captured_at_us=system_clock(),
            image=picture(sequence),
            passage_id=f"{device}-{sequence // passage}" if passage else None,
        )

    def appender(self) -> KafkaAppender:
        return wiring.appender(self.settings)

    # What came of it

    def ends(self, topic: str) -> dict[int, int]:
        """End of each partition of a topic."""
        return {p: self.log.bounds(topic, p).end for p in self.log.partitions(topic)}

    def appended(self, topic: str) -> int:
        return sum(self.ends(topic).values())

    def positions(self, view: str, topic: str) -> dict[int, int]:
        """What the view store says each partition's state reflects."""

        async def ask() -> dict[int, int]:
            redis = wiring.redis_client(self.settings)
            store = wiring.view_store(self.settings, redis)
            try:
                return {p: (await store.load(view, p, ())).position for p in self.log.partitions(topic)}
            finally:
                await redis.aclose()

        return asyncio.run(ask())

    def states(self, view: str) -> dict[str, Any]:
        """Every key of a view with its state, plain, as the view store holds them."""

        async def ask() -> dict[str, Any]:
            redis = wiring.redis_client(self.settings)
            store = wiring.view_store(self.settings, redis)
            try:
                found = [await store.load_all(view, p) for p in self.log.partitions(VIEWS[view].topic)]
            finally:
                await redis.aclose()
            return {k: json.loads(v) for stored in found for k, v in stored.states.items() if not k.startswith("@")}

        return asyncio.run(ask())

    def is_drained(self) -> bool:
        """Whether every step has counted all that it reads; true answers stay true while nothing is published."""
        assert self.living(), "no worker is left"
        steps = (*_CHAIN, *((view.name, view.topic) for view in VIEWS.values()), ("release", COMMANDS))
        return all(self.positions(name, topic) == self.ends(topic) for name, topic in steps)

    def drain(self, *, within_s: float = 90.0) -> None:
        """Wait until all that was published has gone all the way."""
        try:
            until(self.is_drained, within_s=within_s, what="everything counted")
        except AssertionError as error:
            steps = (*_CHAIN, *((view.name, view.topic) for view in VIEWS.values()))
            behind = {n: (self.positions(n, t), self.ends(t)) for n, t in steps if self.positions(n, t) != self.ends(t)}
            raise AssertionError(f"{error}\npositions and ends: {behind}") from None

    def checked(self) -> list[Checked]:
        """Every view's every partition held against its log."""

        async def ask() -> list[Checked]:
            using = wiring.clients(self.settings)
            try:
                return [
                    await check(view, using.log, using.views, using.schemas, partition)
                    for view in VIEWS.values()
                    for partition in using.log.partitions(view.topic)
                ]
            finally:
                await using.close()

        return asyncio.run(ask())


def settings_of(stack: LocalStack, namespace: Namespace) -> Settings:
    """The settings that a process of the deployment has."""
    layer: dict[str, Any] = stack_layer(stack.layout.home)
    kafka = {**layer.pop("kafka"), "partitions": PARTITIONS}
    return Settings(**{**layer, "kafka": kafka, "namespace": namespace.prefix})


def devices_on_every_partition(each: int = 1) -> tuple[str, ...]:
    """Device names of which `each` lie on every partition."""
    chosen: dict[int, list[str]] = {p: [] for p in range(PARTITIONS)}
    number = 0
    while any(len(names) < each for names in chosen.values()):
        name = f"gate-{number}"
        here = chosen[partition_of(name.encode(), PARTITIONS)]
        if len(here) < each:
            here.append(name)
        number += 1
    return tuple(name for names in zip(*chosen.values(), strict=True) for name in names)


def troubles(deployment: Deployment) -> list[str]:
    """Every way in which what was counted is not each published frame once; empty when all is well.

    Holds for frames that can all be accepted.
    """
    wanted = set(deployment.frames)
    results, outcomes = deployment.states("results_by_frame"), deployment.states("frame_outcomes")
    found = [f"frame {f} has no result" for f in sorted(wanted - results.keys())]
    found += [f"result of {f}, which was not sent" for f in sorted(results.keys() - wanted)]
    found += [f"frame {f} was counted {r['counted']} times" for f, r in sorted(results.items()) if r["counted"] != 1]
    found += [f"frame {f} was not assessed" for f in sorted(wanted - outcomes.keys())]
    found += [f"frame {f} is {o['status']}" for f, o in sorted(outcomes.items()) if o["status"] != "accepted"]
    found += _sums(deployment, len(wanted))
    different = [c for c in deployment.checked() if not c.equal]
    return found + [f"view {c.view} {c.partition} differs from its log in {c.different_keys[:5]}" for c in different]


def _sums(deployment: Deployment, frames_count: int) -> list[str]:
    """What the devices' own counts say, against the number of frames."""
    seen = deployment.states("device_frames").values()
    counts = {
        "outcomes": sum(n for d in deployment.states("device_results").values() for n in d["outcome_counts"].values()),
        "accepted": sum(d["accepted_count"] for d in seen),
    }
    found = [f"devices count {count} {name} of {frames_count} frames" for name, count in counts.items() if count != frames_count]
    odd = {d["device_id"]: (d["missing_count"], d["repeated_count"]) for d in seen if d["missing_count"] or d["repeated_count"]}
    return found + [f"missing and repeated frames: {odd}"] if odd else found


def outcomes_of(deployment: Deployment) -> dict[str, int]:
    """How many results have each outcome."""
    counts: dict[str, int] = {}
    for state in deployment.states("results_by_frame").values():
        outcome = state["result"]["outcome"]
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts
