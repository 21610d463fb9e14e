"""A whole Hindsight under chaos: on one stack's servers, workers, a gateway and edge clients, all supervised as the product is.

Owns the processes of one namespace and what is asked of them: pause the load, have they come to rest, what were the edges
told, what does the log say, what do the views show. Every process is a program of the stack's supervisor, which starts again
what dies; closing the world takes them out of the stack and leaves the servers. `faults.py` acts on it, `run.py` drives it.
"""

import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from redis.exceptions import RedisError

from processors.views.alarms import KIND as ALARM
from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS, COMMANDS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.errors import HindsightError
from schemas.events import AlertRaised
from schemas.types import FrameId
from streams.events import events_of
from streams.names import Namespace
from tests.chaos.edge import PAUSED, SPOOL, Told, read_journal
from tests.chaos.verdict import Logged, Shown
from tests.e2e.deployment import CHECKOUT, PARTITIONS, Deployment, devices_on_every_partition, until
from topology.stack import plan
from topology.stack.local import LocalStack
from topology.stack.ports import FREE_RANGE, choose
from topology.stack.processes import is_alive
from topology.stack.programs import Program
from topology.stack.servers import ours

_CHAIN = (("assess", FRAMES), ("infer", ASSESSMENTS), ("derive", INFERENCES), ("release", COMMANDS))
_AWAY = (HindsightError, RedisError, OSError)
PLAIN = ("-m", "topology.cli")


class World:
    """One deployment with its load. Close it to end its processes.

    Args:
        folder: Where spools and journals lie.
        devices: How many edge clients, each a device of its own.
        every_s: How often each captures a frame.
        worker: What runs a worker; another one is how a bug is planted. So is `gateway`.
        settings: Further settings of workers and gateway, as variables.
    """

    def __init__(
        self,
        stack: LocalStack,
        namespace: Namespace,
        folder: Path,
        *,
        devices: int,
        every_s: float,
        workers: int,
        worker: Sequence[str] = PLAIN,
        gateway: Sequence[str] = PLAIN,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.stack = stack
        self.folder = folder
        self.devices = devices_on_every_partition(each=-(-devices // PARTITIONS))[:devices]
        self.deployment = Deployment(stack, namespace, folder)
        self._settings = dict(settings or {})
        self._worker = tuple(worker)
        self._metrics: dict[str, int] = {}
        (port, metrics) = choose(["gateway", "metrics"], fixed={}, preferred={}, among=FREE_RANGE).values()
        doors = ours.program("gateway", stack.layout, {"gateway": port, "gateway.metrics": metrics}, among=plan.SERVERS)
        variables = {"HINDSIGHT_GATEWAY__PORT": str(port), "HINDSIGHT_GATEWAY__METRICS_PORT": str(metrics)}
        self.gateway = self._own(replace(doors, name="gateway-0", argv=(sys.executable, *gateway, "gateway")), variables)
        self.workers = tuple(self.worker_program(f"worker-{n}") for n in range(workers))
        self.edges = tuple(self._edge(n, f"127.0.0.1:{port}", every_s) for n in range(devices))

    @property
    def programs(self) -> tuple[Program, ...]:
        """What belongs to this world, added workers aside."""
        return (self.gateway, *self.workers, *self.edges)

    def start(self) -> None:
        """Start all but the load, put a release in force, and begin the load paused."""
        self.pause()
        self.stack.start([self.gateway, *self.workers])
        until(self.is_ready, within_s=90, what="workers ready")
        self.deployment.put_in_force()
        self.stack.start(self.edges)
        until(
            lambda: all((self.spool_of(d) / SPOOL / "frames.sqlite").exists() for d in self.devices), within_s=60, what="spools"
        )

    def close(self) -> None:
        names = {program.name for program in self.programs} | {name for name in self._metrics if name.startswith("extra-")}
        state = self.stack.state()
        if state is not None:
            self.stack.stop(sorted(name for name in names if state.of(name) is not None))
        self.deployment.close()

    def worker_program(self, name: str) -> Program:
        """A worker with a port of its own."""
        (port,) = choose(["worker"], fixed={}, preferred={}, among=FREE_RANGE).values()
        made = ours.program("worker", self.stack.layout, {"worker.metrics": port}, among=plan.SERVERS)
        self._metrics[name] = port
        argv = (sys.executable, *self._worker, "worker", "--metrics-port", str(port))
        return self._own(replace(made, name=name, argv=argv), {})

    def _own(self, program: Program, variables: Mapping[str, str]) -> Program:
        ours_too = {
            "HINDSIGHT_NAMESPACE": self.deployment.namespace.prefix,
            "HINDSIGHT_KAFKA__PARTITIONS": str(PARTITIONS),
            "PYTHONPATH": str(CHECKOUT),
        }
        environment = {**program.environment, **ours_too, **variables, **self._settings}
        return replace(program, environment=environment, working_folder=str(self.folder))

    def _edge(self, number: int, address: str, every_s: float) -> Program:
        device = self.devices[number]
        home = self.spool_of(device)
        home.mkdir(parents=True)
        told = {"device_id": device, "address": address, "folder": str(home), "every_s": every_s, "number": number}
        return Program(
            name=f"edge-{number}",
            argv=(sys.executable, "-m", "tests.chaos.edge", json.dumps(told)),
            environment={"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
            working_folder=str(self.folder),
            stop_grace_s=1,
        )

    # The load

    def spool_of(self, device: str) -> Path:
        """The folder of a device: its spool, its journal."""
        return self.folder / device

    def pause(self) -> None:
        for device in self.devices:
            (self.spool_of(device) / PAUSED).touch()

    def resume(self) -> None:
        for device in self.devices:
            (self.spool_of(device) / PAUSED).unlink(missing_ok=True)

    def told(self) -> dict[str, Told]:
        """What each device was told so far."""
        return {device: read_journal(self.spool_of(device), device) for device in self.devices}

    def promised(self, told: Mapping[str, Told]) -> set[FrameId]:
        """Frames that were acknowledged: those that a journal names, and, as nothing is ever dropped, all that an edge
        offered and that its spool no longer holds."""
        named = {one.frame_id(s) for one in told.values() for s in one.acknowledged}
        return named | {
            told[device].frame_id(s) for device in self.devices for s in set(range(self._next(device))) - self._waiting(device)
        }

    def _next(self, device: str) -> int:
        found = self._asked(device, "SELECT value FROM about WHERE name = 'next_sequence'")
        return int(found[0]) if found else 0

    def _waiting(self, device: str) -> set[int]:
        return {int(sequence) for sequence in self._asked(device, "SELECT sequence FROM frames")}

    def _asked(self, device: str, question: str) -> list[str | int]:
        path = self.spool_of(device) / SPOOL / "frames.sqlite"
        if not path.exists():
            return []
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return [row[0] for row in db.execute(question)]
        finally:
            db.close()

    # Rest

    def is_ready(self) -> bool:
        """Whether every program of this world and every server runs and says that it is ready."""
        state = self.stack.state()
        names = {*(program.name for program in self.programs[: 1 + len(self.workers)]), *self.stack.servers}
        if state is None or any(
            (one := state.of(n)) is None or one.condition != "ready" or not is_alive(one.process) for n in names
        ):
            return False
        return all(self._says_ready(worker.name) for worker in self.workers)

    def unrest(self) -> str:
        """What has not come to rest yet, while nothing new is offered; empty when all has."""
        if held := {device: len(waiting) for device in self.devices if (waiting := self._waiting(device))}:
            return f"spools hold {held}"
        if not self.is_ready():
            state = self.stack.state()
            late = {one.name: f"{one.condition} {one.detail}" for one in (state.programs if state else ())}
            return f"not all is ready: { {name: words for name, words in late.items() if words.strip() != 'ready'} }"
        try:
            behind = sorted(self._behind())
        except _AWAY as error:
            return f"cannot ask: {error}"
        return f"behind: {', '.join(behind)}" if behind else ""

    def _behind(self) -> Iterator[str]:
        steps = (*_CHAIN, *((view.name, view.topic) for view in VIEWS.values()))
        ends = {topic: self.deployment.ends(topic) for topic in {topic for _, topic in steps}}
        for name, topic in steps:
            if (at := self.deployment.positions(name, topic)) != ends[topic]:
                yield f"{name} {at} of {ends[topic]}"

    def _says_ready(self, name: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics[name]}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    # What came of it

    def logged(self) -> Logged:
        """The whole log, counted by ids."""
        counted = Logged()
        for topic in (FRAMES, ASSESSMENTS, RESULTS):
            for partition in self.deployment.log.partitions(topic):
                for record, event in events_of(self.deployment.log, self.deployment.schemas, topic, partition):
                    counted.note(event, record.appended_at_ms)
        return counted

    def shown(self) -> Shown:
        """What the views show, and each view held against its log."""
        of_devices = self.deployment.states("device_results")
        different = [c for c in self.deployment.checked() if not c.equal]
        return Shown(
            results={FrameId(f): int(s["counted"]) for f, s in self.deployment.states("results_by_frame").items()},
            outcomes_of_device={device: sum(s["outcome_counts"].values()) for device, s in of_devices.items()},
            different=tuple(f"{c.view} {c.partition} in {', '.join(c.different_keys[:5]) or 'its digest'}" for c in different),
            alarms=tuple(sorted(f"{a.kind} of {a.subject}" for a in self._alarms())),
        )

    def _alarms(self) -> Iterator[AlertRaised]:
        """Alerts that a worker raised about a view: it would have mended it, and that would hide that it was wrong."""
        for partition in self.deployment.log.partitions(MONITORING):
            for _, event in events_of(self.deployment.log, self.deployment.schemas, MONITORING, partition):
                if isinstance(event, AlertRaised) and event.kind == ALARM:
                    yield event

    def last_lines(self, count: int = 15) -> str:
        """What our own processes said last, for whoever reads a failure."""
        logs = [self.stack.layout.log(program.name) for program in (self.gateway, *self.workers)]
        tails = [
            subprocess.run(["tail", "-n", str(count), log], capture_output=True, text=True).stdout for log in logs if log.exists()
        ]
        return "\n".join(f"--- {log.name}\n{text}" for log, text in zip(logs, tails, strict=False))
