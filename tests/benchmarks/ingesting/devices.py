"""Many devices that push to one gateway as fast as it answers: one stream, one channel and one session each.

    python -m tests.benchmarks.ingesting.devices ADDRESS SIZE DEVICES IN_FLIGHT

Says "pushing", and pushes until its standard input is closed; then waits for the answers that are missing. For each line
on its standard input it prints how many frames were sent and acknowledged so far, as JSON.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import Callable

import grpc

from streams.grpc_gateway.generated.frames_pb2 import Frame, FrameAck
from streams.grpc_gateway.generated.frames_pb2_grpc import FrameServiceStub
from streams.records import system_clock
from tests.benchmarks.ingesting.made import images

_LAST_WAIT_S = 120.0
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


class Device:
    """One stream: a writer with so many frames unanswered at most, and a reader."""

    def __init__(self, address: str, name: str, image: Callable[[int], bytes], in_flight: int) -> None:
        self._address = address
        self._name = name
        self._image = image
        self._room = asyncio.Semaphore(in_flight)
        self.sent = self.acknowledged = 0

    async def push(self, stopping: asyncio.Event) -> None:
        """Push until told to stop, and come back when all is answered."""
        async with grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            stub = FrameServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            call = stub.StreamFramesAcked()
            reading = asyncio.create_task(self._read(call))
            session = uuid.uuid4().hex
            while not stopping.is_set():
                await self._room.acquire()
                frame = Frame(
                    device_id=self._name,
                    session_id=session,
                    sequence=self.sent,
                    captured_at_us=system_clock(),
                    image=self._image(self.sent),
                )
                self.sent += 1
                await call.write(frame)
            await call.done_writing()
            await reading

    async def _read(self, call: "grpc.aio.StreamStreamCall[Frame, FrameAck]") -> None:
        while (ack := await call.read()) is not grpc.aio.EOF:
            assert ack.status == FrameAck.ACCEPTED, ack
            self.acknowledged += 1
            self._room.release()


async def main() -> None:
    address, size, count, in_flight = sys.argv[1:]
    stopping, lines = asyncio.Event(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    # Device, then number: no two devices send the same bytes.
    devices = [Device(address, f"gate-{n}", _of(images(int(size)), n), int(in_flight)) for n in range(int(count))]
    pushing = [asyncio.create_task(device.push(stopping)) for device in devices]
    print("pushing", flush=True)
    while await lines.readline():
        _say(devices)
    stopping.set()
    await asyncio.wait_for(asyncio.gather(*pushing), _LAST_WAIT_S)
    _say(devices)


def _of(image: Callable[[int], bytes], device: int) -> Callable[[int], bytes]:
    return lambda number: image(device * 10**8 + number)


def _say(devices: list[Device]) -> None:
    print(json.dumps({"sent": sum(d.sent for d in devices), "acknowledged": sum(d.acknowledged for d in devices)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
