"""A gate in memory, driven by the real steps in the real shell: what looking back is tested on.

The models are the one thing that is scripted: each picture says what can be read in it and how surely, and the thresholds
of the release decide what is an observation and what a candidate, as the ensemble does it.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import cv2
import numpy as np

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.partition import PartitionRunner
from processors.release.core import INITIAL
from processors.release.loader import command_record
from processors.release.step import ReleaseStep
from processors.rules import container_codes
from processors.step import Ports, Step
from processors.views.catalogue import VIEWS
from processors.views.replay import fold_log
from schemas import ids, types
from schemas.catalogue import ASSESSMENTS, COMMANDS, FRAMES, INFERENCES, RELEASES
from schemas.codec import FixedSchemas
from schemas.errors import StepFailedError
from schemas.events import ChangeThreshold, PromoteRelease, RegisterRelease, ReportReleaseLoaded, ReportReleaseLoadFailed
from schemas.types import FrameRef
from streams.memory import MemoryBlobStore, MemoryLog, MemoryViewStore
from streams.past import Past
from streams.ports import Answer
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Outgoing, Position

PIPELINE = "gate"
START_US = 1_790_000_000_000_000
SECOND = 1_000_000
_CHAIN = (("assess", FRAMES), ("infer", ASSESSMENTS), ("derive", INFERENCES))

Seen = Sequence[tuple[str, float]]


def picture(number: int) -> bytes:
    """A small image of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 255, (48, 160, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@dataclass(slots=True)
class ScriptedReader:
    """An ensemble that knows what every picture shows: texts with confidences; a picture in `broken` fails its step."""

    shows: dict[bytes, Seen] = field(default_factory=dict)
    broken: set[bytes] = field(default_factory=set)
    runtime: dict[str, str] = field(default_factory=lambda: {"onnxruntime": "1.20.1", "threads": "1"})
    faint_box: float | None = None

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        if image in self.broken:
            raise StepFailedError("out of memory", step="recognizer", endpoint="one:8001")
        least = parameters.get("text_confidence", 0.5)
        found = [_seen(index, text, sure) for index, (text, sure) in enumerate(self.shows.get(image, ()))]
        below = [
            {**f, "stage": "recognizer", "reason": f"text_confidence below {least:g}"} for f in found if f["confidence"] < least
        ]
        if self.faint_box is not None:
            box = {**_seen(9, "", 0.0), "detection_score": self.faint_box}
            below.append({**box, "stage": "detection", "reason": "detection_score below box_threshold 0.6"})
        result = {
            "image": {"width_px": 160, "height_px": 48},
            "observations": [f for f in found if f["confidence"] >= least],
            "candidates": below,
        }
        steps = [
            {"step": "recognizer", "model": "recognizer", "version": int(release[-1]), "variant": "scripted"}
            | {"digest": release * 4, "duration_us": 900, "output_sha256": "cd" * 32}
        ]
        report = {"steps": steps, "runtime": self.runtime}
        return Answer(result_json=json.dumps(result).encode(), report_json=json.dumps(report).encode(), endpoint="one:8001")


def _seen(index: int, text: str, sure: float) -> dict[str, Any]:
    y, right = 2 + 10 * index, 4 + 9 * max(len(text), 1)
    return {
        "index": index,
        "kind": "text",
        "label": text,
        "confidence": sure,
        "detection_score": 0.9,
        "polygon_px": [4, y, right, y, right, y + 8, 4, y + 8],
        "measures": {},
    }


class Gate:
    """One deployment in memory. Time stands still until `pass_time`; nothing is processed until `process`.

    `displaced` is the partition that a sender of another hash puts frames on.
    """

    def __init__(self, *, partitions: int = 2) -> None:
        self.now_us = START_US
        self.log = MemoryLog(lambda: self.now_us, partitions=partitions)
        self.blobs = MemoryBlobStore()
        self.schemas = FixedSchemas()
        self.reader = ScriptedReader()
        self._views = MemoryViewStore()
        self._done: dict[tuple[str, int], int] = {}
        self._sequences: dict[tuple[str, str], int] = {}
        self._commands = 0
        self._under_way: asyncio.Future[None]
        self.displaced: int | None = None

    @property
    def past(self) -> Past:
        return Past(log=self.log, schemas=self.schemas, blobs=self.blobs, source="the live log")

    def pass_time(self, seconds: float = 1.0) -> int:
        self.now_us += round(seconds * SECOND)
        return self.now_us

    # What comes in

    def capture(
        self,
        *texts: tuple[str, float],
        device: str = "gate-1",
        session: str = "s1",
        passage: str | None = None,
        sequence: int | None = None,
        image: bytes | None = None,
        labels: Mapping[str, str] | None = None,
        captured_at_us: int | None = None,
    ) -> FrameRef:
        """A frame in which these texts can be read, on the log; one second passes first."""
        self.pass_time()
        frame = self.incoming(device, session, passage, sequence, image, labels, captured_at_us)
        if image is None:
            self.reader.shows[frame.image] = texts
        return self._run(self._store(frame))

    def incoming(
        self,
        device: str = "gate-1",
        session: str = "s1",
        passage: str | None = None,
        sequence: int | None = None,
        image: bytes | None = None,
        labels: Mapping[str, str] | None = None,
        captured_at_us: int | None = None,
    ) -> IncomingFrame:
        number = self._sequences.get((device, session), 0) if sequence is None else sequence
        self._sequences[device, session] = max(self._sequences.get((device, session), 0), number + 1)
        return IncomingFrame(
            device_id=device,
            session_id=session,
            sequence=number,
            captured_at_us=self.now_us if captured_at_us is None else captured_at_us,
            image=picture(crc32(f"{device} {session} {number}".encode())) if image is None else image,
            passage_id=passage,
            labels=labels or {},
        )

    def publisher(self) -> FramePublisher:
        return FramePublisher(appender=self, blobs=self.blobs, schemas=self.schemas, clock=lambda: self.now_us, channel="sdk")

    async def append(self, outgoing: Outgoing) -> Position:
        """What frames are sent through."""
        return self.log.append_now(replace(outgoing, partition=self.displaced) if self.displaced is not None else outgoing)

    def drop(self, first: int, last: int, *, device: str = "gate-1", session: str = "s1") -> None:
        """The device's spool gives up some numbers."""
        self._sequences[device, session] = last + 1
        told = {"device_id": device, "session_id": session, "first_sequence": first, "last_sequence": last}
        self._run(self.publisher().publish_dropped(**told, frames_count=last - first + 1, reason="spool_full_oldest_first"))  # type: ignore[arg-type]  # two kinds of values

    def refuse(self, reason: str, *, device: str = "gate-1") -> IncomingFrame:
        """The door does not let a frame in."""
        self.pass_time()
        frame = self.incoming(device, image=b"no image")
        self._run(self.publisher().refuse(frame, reason=reason, detail="at the door"))
        return frame

    # Releases

    def register(self, release: str = "r1", *, by: str = "ana", **parameters: float) -> None:
        pins = (types.ReleaseStep(step="recognizer", model="recognizer", version=int(release[-1]), digest=release * 4),)
        self._command(
            RegisterRelease,
            release=release,
            steps=pins,
            parameters=parameters or {"text_confidence": 0.5},
            issued_by=by,
            reason="new",
        )

    def loaded(self, release: str = "r1") -> None:
        self._command(ReportReleaseLoaded, release=release, endpoint="one:8001", duration_us=5)

    def load_failed(self, release: str, message: str) -> None:
        self._command(ReportReleaseLoadFailed, release=release, endpoint="one:8001", error_message=message)

    def promote(self, release: str = "r1", *, by: str = "ben", reason: str = "opening") -> None:
        self._command(PromoteRelease, release=release, issued_by=by, reason=reason)

    def put_in_force(self, release: str = "r1", **parameters: float) -> None:
        self.register(release, **parameters)
        self.promote(release)
        self.loaded(release)

    def threshold(self, value: float, *, name: str = "text_confidence", by: str = "mr", reason: str = "tuning") -> None:
        self._command(ChangeThreshold, name=name, value=value, issued_by=by, reason=reason)

    def _command(self, kind: type, **fields: Any) -> None:
        self.pass_time()
        self._commands += 1
        made = kind(command_id=ids.named_id("gate", str(self._commands)), pipeline=PIPELINE, issued_at_us=self.now_us, **fields)
        self.log.append_now(command_record(made, self.schemas, self.now_us))
        self._run(self._pass(ReleaseStep(), COMMANDS))

    # Processing

    def process(self, *steps: str) -> None:
        """Run the named steps, or all of them, over all that there is."""
        self._run(self._chain(steps or tuple(name for name, _ in _CHAIN)))

    def again(self, name: str, *, back: int) -> None:
        """A step dies after appending and before storing its state, and does its last records again."""
        topic = dict(_CHAIN)[name]
        for partition in self.log.partitions(topic):
            stop = self._done.get((name, partition), 0)
            self._run(self._repeat(name, partition, max(0, stop - back)))

    async def _repeat(self, name: str, partition: int, start: int) -> None:
        """The same records through a runner whose states are of before."""
        topic = dict(_CHAIN)[name]
        views = MemoryViewStore()
        kept, self.log = self.log, MemoryLog(lambda: self.now_us, partitions=len(self.log.partitions(FRAMES)))
        try:
            quiet = Ports(log=kept, appender=self.log, views=views, schemas=self.schemas, clock=lambda: self.now_us)
            await self._submitted(self._runner(self._step(name), quiet, partition), kept, topic, partition, 0, start)
        finally:
            self.log = kept
        runner = self._runner(self._step(name), self._ports(views), partition)
        await self._submitted(runner, kept, topic, partition, start, self._done.get((name, partition), 0))

    async def _store(self, frame: IncomingFrame) -> FrameRef:
        ref = await self.publisher().store(frame)
        await self.publisher().append(ref)
        return ref

    async def _chain(self, steps: Sequence[str]) -> None:
        for name, topic in _CHAIN:
            if name in steps:
                await self._pass(self._step(name), topic)

    async def _pass(self, step: Step[Any], topic: str) -> None:
        for partition in self.log.partitions(topic):
            runner = self._runner(step, self._ports(self._views), partition)
            start, end = self._done.get((step.name, partition), 0), self.log.bounds(topic, partition).end
            await self._submitted(runner, self.log, topic, partition, start, end)
            self._done[step.name, partition] = end

    async def _submitted(self, runner: Any, log: MemoryLog, topic: str, partition: int, start: int, end: int) -> None:
        self._under_way = done = asyncio.get_running_loop().create_future()
        await runner.submit(
            list(log.read(topic, partition, start, end)), lambda r: done.set_result(None) if r.offset == end - 1 else None
        )
        if start < end:
            await done
        await runner.stop()

    def _runner(self, step: Step[Any], ports: Ports[Any], partition: int) -> PartitionRunner[Any]:
        return PartitionRunner(step, ports, partition, window=50, batch=20, failed=lambda e: self._under_way.set_exception(e))

    def _ports(self, views: MemoryViewStore) -> Ports[Any]:
        return Ports(log=self.log, appender=self.log, views=views, schemas=self.schemas, clock=lambda: self.now_us)

    def _step(self, name: str) -> Step[Any]:
        match name:
            case "assess":
                return AssessStep(self.blobs, limits=Limits(), max_bytes=1 << 24, max_pixels=1 << 24)
            case "infer":
                return InferStep(
                    pipeline=PIPELINE,
                    route=self._route,
                    inference=self.reader,
                    blobs=self.blobs,
                    clock=lambda: self.now_us,
                    retries=Retries(attempts_max=2, backoff_first_s=0.001),
                    concurrency=4,
                )
            case _:
                return DeriveStep(container_codes)

    def _route(self, frame: FrameRef) -> Route:
        end = self.log.bounds(RELEASES, 0).end
        state = fold_log(VIEWS["releases"], self.log, self.schemas, 0, end).states.get(PIPELINE, INITIAL)
        pins = {s.step: s.digest for s in state.releases[state.in_force].steps} if state.in_force is not None else {}
        return Route(release=state.in_force, parameters=state.thresholds(), pins=pins, releases_offset=end)

    @staticmethod
    def _run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)
