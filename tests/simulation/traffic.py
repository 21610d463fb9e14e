"""What comes into the world: frames with holes, repeats and late ones, refused ones, commands, and bytes that are nothing."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from processors.release.loader import command_record
from schemas import ids
from schemas.catalogue import ASSESSMENTS, CANDIDATES, COMMANDS, DEAD_LETTERS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.codec import Schemas
from schemas.events import (
    AbortRollout,
    ChangeThreshold,
    DiscardLetters,
    EraseFrames,
    PromoteRelease,
    RedriveLetters,
    RegisterRelease,
    RollBackRelease,
    StartCanary,
    StartShadow,
)
from schemas.types import FrameId, ReleaseStep
from streams.memory import MemoryBlobStore, MemoryLog
from streams.ports import Appender
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Clock, Outgoing, Position
from tests.simulation.faults import SteppingClock
from tests.simulation.serving import digest_of
from tests.simulation.shape import Shape, dice

CODES = ("MSCU1234566", "CSQU3054383", "TGHU7599330", "MSKU0000001", "")
RELEASES_ON_TRIAL = ("r1", "r2", "r3")
# With two partitions: one device on each, and one whose producer puts it where our hash does not.
_DEVICES = ("gate-1", "gate-3")
_DEVICE_BY_CRC32 = "gate-4"


@cache
def picture(number: int) -> bytes:
    """A small image whose first pixel tells which one it is."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


@cache
def _number_of(image: bytes) -> int:
    """Cameras pad their images; what follows the picture makes each frame's bytes its own."""
    return next(n for n in range(len(CODES)) if image.startswith(picture(n)))


def answer(image: bytes) -> Mapping[str, Any]:
    """What the ensemble says of one of the pictures."""
    code = CODES[_number_of(image)]
    observation = {
        "index": 0,
        "kind": "text",
        "label": code,
        "confidence": 0.9,
        "detection_score": 1,
        "polygon_px": [0, 0, 9, 0, 9, 4, 0, 4],
        "measures": {},
    }
    return {"image": {"width_px": 32, "height_px": 24}, "observations": [observation] if code else [], "candidates": []}


class ByCrc32:
    """The producer of somebody who left librdkafka's partitioner as it is."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def append(self, outgoing: Outgoing) -> Awaitable[Position]:
        partition = zlib.crc32(outgoing.key) % len(self._log.partitions(outgoing.topic))
        return self._log.append(replace(outgoing, partition=partition))


@dataclass(slots=True)
class Sent:
    """Sends everything that a seed and a shape want, and remembers what must come of it."""

    seed: int
    shape: Shape
    log: MemoryLog
    blobs: MemoryBlobStore
    schemas: Schemas
    clock: Clock
    pipeline: str
    frames: set[FrameId] = field(default_factory=set)
    garbage: list[bytes] = field(default_factory=list)
    _commands: int = 0

    async def everything(self, during_s: float) -> None:
        devices = [self._device(name, during_s, self.log) for name in _DEVICES]
        devices.append(self._device(_DEVICE_BY_CRC32, during_s, ByCrc32(self.log)))
        more = {"garbage": self._garbage, "letters": self._letters, "trials": self._trials, "erasure": self._erasure}
        beside = [send(during_s) for kind, send in more.items() if self.shape.has(kind)]
        await asyncio.gather(*devices, self._first_releases(during_s), *beside)

    async def _device(self, device_id: str, during_s: float, appender: Appender) -> None:
        rng = dice(self.seed, device_id)
        clock = SteppingClock(self.clock, rng, steps=self.shape.has("clocks"))
        publisher = FramePublisher(appender=appender, blobs=self.blobs, schemas=self.schemas, clock=self.clock, channel="sdk")
        numbers = [n for n in range(self.shape.frames) if rng.random() < 0.9]
        numbers += rng.sample(numbers, min(2, len(numbers)))
        if rng.random() < 0.5:
            rng.shuffle(numbers)
        for number in numbers:
            await asyncio.sleep(rng.random() * 2 * during_s / len(numbers))
            image = picture(ids_hash(device_id, number) % len(CODES)) + f"{device_id} {number}".encode()
            frame = IncomingFrame(
                device_id=device_id,
                session_id="s",
                sequence=number,
                captured_at_us=clock(),
                image=image if number != 7 else b"not an image",
                passage_id=f"p{number // 5}" if number % 5 and number != 7 else None,
            )
            if number == 3:
                await publisher.refuse(frame, reason="too_large", detail="at the door")
            ref = await publisher.store(frame)
            if number == 11 and rng.random() < 0.3:
                self.blobs.contents.pop(ref.blob.sha256, None)
            await publisher.append(ref)
            self.frames.add(ref.frame_id)

    async def _first_releases(self, during_s: float) -> None:
        """Some are registered, and one is promoted: it waits until a server has it."""
        rng = dice(self.seed, "releases")
        for at, release in enumerate(RELEASES_ON_TRIAL):
            step = ReleaseStep(step="recognizer", model="recognizer", version=at + 1, digest=digest_of(release))
            self._told(RegisterRelease, steps=(step,), parameters={"text_confidence": 0.5}, release=release)
            await asyncio.sleep(rng.random() * during_s / 10)
            if at == 0:
                self._told(PromoteRelease, release=release)

    async def _trials(self, during_s: float) -> None:
        """What an operator may ask of releases, at any moment and in any order; much of it is refused."""
        rng = dice(self.seed, "trials")
        for _ in range(14):
            await asyncio.sleep(rng.random() * 2 * during_s / 14)
            release = rng.choice(RELEASES_ON_TRIAL)
            match rng.choice(["canary", "canary", "shadow", "promote", "promote", "back", "abort", "threshold"]):
                case "canary":
                    steps = rng.choice([(50.0,), (10.0, 60.0), (99.0,)])
                    self._told(StartCanary, release=release, steps_percent=steps, unit=rng.choice(["device", "passage"]))
                case "shadow":
                    self._told(StartShadow, release=release)
                case "promote":
                    self._told(PromoteRelease, release=release, despite_verdict=rng.random() < 0.5)
                case "back":
                    self._told(RollBackRelease, release=rng.choice([None, release]))
                case "abort":
                    self._told(AbortRollout)
                case "threshold":
                    self._told(ChangeThreshold, name="text_confidence", value=rng.choice([0.4, 0.95]))

    async def _garbage(self, during_s: float) -> None:
        rng = dice(self.seed, "garbage")
        for topic in (FRAMES, ASSESSMENTS, INFERENCES, RESULTS, CANDIDATES, MONITORING, COMMANDS):
            await asyncio.sleep(rng.random() * during_s / 4)
            partition = rng.choice(self.log.partitions(topic))
            value = b"\x00\x00\x00\x00\x01" + rng.randbytes(rng.randrange(40))
            self.log.append_now(Outgoing(topic=topic, key=b"?", value=value, headers=(), partition=partition))
            self.garbage.append(value)

    async def _letters(self, during_s: float) -> None:
        """Redrives all that was kept aside by then, or discards some of it, now and then; much of it is refused."""
        rng = dice(self.seed, "letters")
        for _ in range(4):
            await asyncio.sleep(rng.random() * during_s)
            letters = range(self.log.bounds(DEAD_LETTERS, 0).end)
            if letters and rng.random() < 0.7:
                self._told(RedriveLetters, letter_offsets=tuple(letters), beyond_limit=False)
            elif letters:
                some = tuple(sorted(rng.sample(letters, min(2, len(letters)))))
                self._told(DiscardLetters, letter_offsets=some)

    async def _erasure(self, during_s: float) -> None:
        """One order for a part of a device's time, and sometimes the same one again."""
        rng = dice(self.seed, "erasure")
        await asyncio.sleep(rng.random() * 1.5 * during_s)
        now_us, device = self.clock(), rng.choice((*_DEVICES, _DEVICE_BY_CRC32))
        span = {"captured_from_us": now_us - rng.randrange(1, 8) * 1_000_000, "captured_to_us": now_us}
        for _ in range(rng.choice([1, 1, 2])):
            self._told(EraseFrames, device_id=device, order_id="order-1", **span)
            await asyncio.sleep(rng.random() * 3)

    def _told(self, kind: Callable[..., Any], **what: Any) -> None:
        """A command of an operator, onto the log."""
        self._commands += 1
        if hasattr(kind, "__dataclass_fields__") and "pipeline" in kind.__dataclass_fields__:
            what["pipeline"] = self.pipeline
        command = kind(
            command_id=ids.named_id("simulated", str(self._commands)),
            issued_by="seed",
            reason="simulation",
            issued_at_us=self.clock(),
            **what,
        )
        self.log.append_now(command_record(command, self.schemas, self.clock()))


def ids_hash(device_id: str, number: int) -> int:
    return sum(device_id.encode()) + number * 7
