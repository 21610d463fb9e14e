"""An edge device as a process of its own: numbered frames through a spool to the gateway, for as long as it is let live.

    python -m tests.chaos.edge '{"device_id": ..., "address": ..., "folder": ..., "every_s": ..., "number": ...}'

Started again on its folder it goes on with its spool. What it was told goes to a journal beside the spool, one line for each
event, written at once: `o` offered, `a` acknowledged (after the spool forgot it), `r` refused, `f` the disk would not take it;
then the sequence and the moment. While the file `paused` lies in the folder, nothing new is offered and the spool is emptied.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from schemas import ids
from schemas.types import FrameId
from streams.edge import Capture, EdgeClient, Pace, Spool
from streams.edge.entries import Entry
from streams.grpc_gateway.generated.frames_pb2 import FrameAck
from streams.records import system_clock
from tests.e2e.pictures import picture

JOURNAL, SPOOL, PAUSED = "journal", "spool", "paused"
_LIMIT_BYTES = 100_000_000
_POLL_S = 0.05
# Each device shows other pictures.
_APART = 100_000


class TellingEdge(EdgeClient):
    """The client, which writes down each answer."""

    journal: int

    async def _noted(self, entry: Entry | None, ack: FrameAck | None) -> None:
        await super()._noted(entry, ack)
        if ack is not None:
            _write(self.journal, "r" if ack.status == FrameAck.REJECTED else "a", ack.sequence)


def _write(journal: int, what: str, sequence: int) -> None:
    # One write of a line to a file opened for appending is there whole when the process is killed after it.
    os.write(journal, f"{what} {sequence} {system_clock()}\n".encode())


async def main(device_id: str, address: str, folder: str, every_s: float, number: int) -> None:
    home = Path(folder)
    journal = os.open(home / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Spool(home / SPOOL, device_id=device_id, limit_bytes=_LIMIT_BYTES, drop="block", session_id="chaos") as spool:
        client = TellingEdge(address, spool, pace=Pace(backoff_max_s=2.0, ack_s=20.0))
        client.journal = journal
        sending = asyncio.create_task(_send(client))
        due_s = asyncio.get_running_loop().time()
        while not sending.done():
            await asyncio.sleep(max(_POLL_S, due_s - asyncio.get_running_loop().time()))
            if (home / PAUSED).exists():
                continue
            due_s = max(due_s + every_s, asyncio.get_running_loop().time())
            await _offer(client, spool, number)
        sending.result()


async def _offer(client: TellingEdge, spool: Spool, number: int) -> None:
    sequence = spool.next_sequence
    # Not the cached one: this process shows each picture once.
    image = picture.__wrapped__(_APART * number + sequence)
    try:
        spooled = await client.offer(Capture(image=image, captured_at_us=system_clock()))
    except OSError:
        _write(client.journal, "f", sequence)
    else:
        _write(client.journal, "o", spooled.sequence)


async def _send(client: TellingEdge) -> None:
    """Send for ever; a disk that is full ends the client, and whoever runs it starts it again."""
    while True:
        try:
            await client.run(asyncio.Event())
        except OSError:
            await asyncio.sleep(0.5)


@dataclass(slots=True, kw_only=True)
class Told:
    """What a device's journal says. Moments in microseconds, by sequence; the last one counts where a line was written twice."""

    device_id: str
    offered: dict[int, int] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    not_taken: int = 0

    def frame_id(self, sequence: int) -> FrameId:
        return ids.frame_id(self.device_id, "chaos", sequence)


def read_journal(folder: Path, device_id: str) -> Told:
    """What was told so far."""
    told = Told(device_id=device_id)
    for what, sequence, at_us in _lines(folder / JOURNAL):
        match what:
            case "o":
                told.offered[sequence] = at_us
            case "a":
                told.acknowledged.setdefault(sequence, at_us)
            case "r":
                told.refused[sequence] = at_us
            case _:
                told.not_taken += 1
    return told


def _lines(path: Path) -> Iterator[tuple[str, int, int]]:
    if path.exists():
        for line in path.read_text().splitlines():
            what, sequence, at_us = line.split()
            yield what, int(sequence), int(at_us)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(**json.loads(sys.argv[1])))
