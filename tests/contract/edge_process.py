"""An edge device as a process of its own, for tests that kill it: offers frames until `count` were offered, then drains.

It prints the number of acknowledged frames whenever that changes. Started again on the same spool, it goes on with the
number after the last that the spool took.
"""

import asyncio
import json
import sys
from pathlib import Path

import structlog

from streams.edge import Capture, EdgeClient, Pace, Spool
from streams.records import system_clock


async def main(folder: str, address: str, device_id: str, count: int, picture: bytes) -> None:
    with Spool(Path(folder), device_id=device_id, limit_bytes=50_000_000) as spool:
        client = EdgeClient(
            address, spool, pace=Pace(backoff_max_s=0.5), progressed=lambda progress: print(progress.acknowledged, flush=True)
        )
        stop = asyncio.Event()
        sending = asyncio.create_task(client.run(stop))
        while spool.next_sequence < count:
            # Bytes after the end of a JPEG make each frame its own blob.
            image = picture + spool.next_sequence.to_bytes(4, "big")
            await client.offer(Capture(image=image, captured_at_us=system_clock()))
        await client.drained()
        stop.set()
        await sending


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = json.loads(sys.argv[1])
    asyncio.run(main(**{**told, "picture": Path(told["picture"]).read_bytes()}))
