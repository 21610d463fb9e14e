"""The loop by hand: PUT with the same client from as many threads as a gateway has, then produce with acks=all.

    python -m tests.benchmarks.ingesting.by_hand HOME NAMESPACE SIZE SECONDS WARM_S

It checks nothing, keeps no order and knows no repeats. Prints how many frames were stored and acknowledged by the broker
between the end of the warm-up and the end, and the CPU that this process took for them.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import Producer

from schemas.catalogue import FRAMES
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Outgoing, system_clock
from tests.benchmarks.hops.made import settings_of
from tests.benchmarks.ingesting.made import images
from topology import wiring

THREADS = 16
_DEVICES = 64


class _Record:
    """An `Appender` that keeps what it is given: a record as the gateway would send it."""

    def __init__(self) -> None:
        self.outgoing: list[Outgoing] = []

    async def append(self, outgoing: Outgoing) -> None:
        self.outgoing.append(outgoing)


def main() -> None:
    home, namespace, size, seconds, warm = sys.argv[1:]
    settings = settings_of(Path(home), namespace)
    blobs, image = wiring.blob_store(settings), images(int(size))
    record = _record(settings, image(0))
    producer = Producer(
        {"bootstrap.servers": wiring.bootstrap_servers(settings), "acks": "all", "enable.idempotence": True, "linger.ms": 2}
    )
    topic = wiring.namespace(settings).topic(FRAMES)
    counting, stopping = threading.Event(), threading.Event()
    acknowledged = [0]

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        acknowledged[0] += counting.is_set()

    def work(thread: int) -> None:
        number = thread
        while not stopping.is_set():
            blobs.put(image(number), "image/jpeg")
            producer.produce(topic, key=b"gate-%d" % (number % _DEVICES), value=record, on_delivery=delivered)
            number += THREADS

    def poll() -> None:
        while not stopping.is_set():
            producer.poll(0.05)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)] + [threading.Thread(target=poll)]
    for thread in threads:
        thread.start()
    time.sleep(float(warm))
    cpu, began = time.process_time(), time.monotonic()
    counting.set()
    time.sleep(float(seconds))
    counting.clear()
    took, used = time.monotonic() - began, time.process_time() - cpu
    stopping.set()
    for thread in threads:
        thread.join()
    producer.flush(30)
    print(json.dumps({"frames": acknowledged[0], "wall_s": took, "cpu_s": used}))


def _record(settings: wiring.Settings, image: bytes) -> bytes:
    kept = _Record()
    publisher = FramePublisher(
        appender=kept,  # type: ignore[arg-type]  # gives no position, which nobody asks for here
        blobs=wiring.blob_store(settings),
        schemas=wiring.schemas(settings),
        clock=system_clock,
        channel="grpc",
    )
    frame = IncomingFrame(device_id="gate-1", session_id="s", sequence=1, captured_at_us=system_clock(), image=image)
    asyncio.run(publisher.publish(frame))
    assert kept.outgoing[0].value is not None
    return kept.outgoing[0].value


if __name__ == "__main__":
    main()
