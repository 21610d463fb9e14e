"""What comes into the world: frames with holes, repeats and late ones, refused ones, commands, and bytes that are nothing."""

import asyncio
import random
import zlib
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from processors.release.loader import command_record
from schemas import ids
from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.codec import Schemas
from schemas.events import PromoteRelease, RedriveLetters, RegisterRelease, ReportReleaseLoaded
from schemas.types import EventId, FrameId, ReleaseStep
from streams.memory import MemoryBlobStore, MemoryLog
from streams.ports import Appender
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Clock, Outgoing, Position

CODES = ("MSCU1234566", "CSQU3054383", "TGHU7599330", "MSKU0000001", "")
DIGEST = "ab" * 32
_FRAMES_EACH = 12
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
    return next(n for n in range(len(CODES)) if picture(n) == image)


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
    """Sends everything that a seed wants, and remembers what must come of it."""

    rng: random.Random
    log: MemoryLog
    blobs: MemoryBlobStore
    schemas: Schemas
    clock: Clock
    pipeline: str
    frames: set[FrameId] = field(default_factory=set)
    garbage: list[bytes] = field(default_factory=list)

    async def everything(self, during_s: float) -> None:
        devices = [self._device(name, during_s, self.log) for name in _DEVICES]
        devices.append(self._device(_DEVICE_BY_CRC32, during_s, ByCrc32(self.log)))
        await asyncio.gather(*devices, self._commands(during_s), self._garbage(during_s), self._operator(during_s))

    async def _device(self, device_id: str, during_s: float, appender: Appender) -> None:
        publisher = FramePublisher(appender=appender, blobs=self.blobs, schemas=self.schemas, clock=self.clock, channel="sdk")
        numbers = [n for n in range(_FRAMES_EACH) if self.rng.random() < 0.9]
        numbers += self.rng.sample(numbers, 2)
        if self.rng.random() < 0.5:
            self.rng.shuffle(numbers)
        for number in numbers:
            await asyncio.sleep(self.rng.random() * 2 * during_s / len(numbers))
            frame = IncomingFrame(
                device_id=device_id,
                session_id="s",
                sequence=number,
                captured_at_us=self.clock(),
                image=picture(ids_hash(device_id, number) % len(CODES)),
                passage_id=f"p{number // 5}" if number % 5 else None,
            )
            if number == 7:
                frame = IncomingFrame(
                    device_id=device_id, session_id="s", sequence=number, captured_at_us=self.clock(), image=b"not an image"
                )
            if number == 3:
                await publisher.refuse(frame, reason="too_large", detail="at the door")
            ref = await publisher.store(frame)
            if number == 11:
                self.blobs.contents.pop(ref.blob.sha256 if self.rng.random() < 0.3 else "", None)
            await publisher.append(ref)
            self.frames.add(ref.frame_id)

    async def _commands(self, during_s: float) -> None:
        for at, release in enumerate(("r1", "r2")):
            step = ReleaseStep(step="recognizer", model="recognizer", version=at + 1, digest=DIGEST)
            told = {"pipeline": self.pipeline, "release": release, "issued_at_us": self.clock()}
            asked = {**told, "issued_by": "seed", "reason": "simulation"}
            for command in (
                RegisterRelease(command_id=_command(release, 0), steps=(step,), parameters={"text_confidence": 0.5}, **asked),
                PromoteRelease(command_id=_command(release, 1), **asked),
                ReportReleaseLoaded(command_id=_command(release, 2), endpoint="one:8001", duration_us=1, **told),
                PromoteRelease(command_id=_command(release, 3), **asked),
            ):
                await asyncio.sleep(self.rng.random() * during_s / 6)
                self.log.append_now(command_record(command, self.schemas, self.clock()))

    async def _garbage(self, during_s: float) -> None:
        for topic in (FRAMES, ASSESSMENTS, INFERENCES, RESULTS, MONITORING, COMMANDS):
            await asyncio.sleep(self.rng.random() * during_s / 4)
            partition = self.rng.choice(self.log.partitions(topic))
            value = b"\x00\x00\x00\x00\x01" + self.rng.randbytes(self.rng.randrange(40))
            self.log.append_now(Outgoing(topic=topic, key=b"?", value=value, headers=(), partition=partition))
            self.garbage.append(value)

    async def _operator(self, during_s: float) -> None:
        """Redrives all that was kept aside by then, now and then; much of it is refused."""
        for number in range(3):
            await asyncio.sleep(self.rng.random() * during_s)
            letters = self.log.bounds(DEAD_LETTERS, 0).end
            if letters:
                command = RedriveLetters(
                    command_id=_command("letters", number),
                    letter_offsets=tuple(range(letters)),
                    beyond_limit=False,
                    issued_by="seed",
                    reason="simulation",
                    issued_at_us=self.clock(),
                )
                self.log.append_now(command_record(command, self.schemas, self.clock()))


def ids_hash(device_id: str, number: int) -> int:
    return sum(device_id.encode()) + number * 7


def _command(release: str, number: int) -> EventId:
    return ids.named_id("simulated", release, str(number))
