"""Frames of a producer that chooses partitions by another hash than ours: nothing is lost, doubled or hidden."""

import asyncio
import zlib

from confluent_kafka import Message, Producer

from processors.lookback.at import device_at
from schemas import ids
from schemas.catalogue import FRAMES
from schemas.codec import encode
from schemas.events import FrameCaptured
from schemas.plain import to_plain
from streams.http_gateway.lookups import Lookups
from streams.idempotency import RedisSubmissions
from streams.partitioning import partition_of
from streams.publishing import frame_ref
from streams.records import system_clock
from tests.e2e.deployment import PARTITIONS, Deployment, troubles
from topology import wiring

FRAMES_EACH = 3


def devices_elsewhere() -> tuple[str, ...]:
    """One device for each partition of librdkafka's own choice, which is another one than ours."""
    chosen: dict[int, str] = {}
    for name in (f"yard-{n}" for n in range(1000)):
        theirs = zlib.crc32(name.encode()) % PARTITIONS
        if theirs != partition_of(name.encode(), PARTITIONS):
            chosen.setdefault(theirs, name)
    return tuple(chosen[p] for p in range(PARTITIONS))


def publish_plainly(deployment: Deployment, devices: tuple[str, ...]) -> dict[str, set[int]]:
    """As anybody would with confluent_kafka: blob, event, default settings, no headers; gives each device's partitions."""
    blobs, delivered = wiring.blob_store(deployment.settings), dict[str, set[int]]()

    def note(error: object, message: Message) -> None:
        key, partition = message.key(), message.partition()
        assert (error, type(key), type(partition)) == (None, bytes, int)
        delivered.setdefault(key.decode(), set()).add(partition)  # type: ignore[union-attr, arg-type]  # both are asserted

    producer = Producer({"bootstrap.servers": wiring.bootstrap_servers(deployment.settings)})
    for _ in range(FRAMES_EACH):
        for device in devices:
            frame = deployment.next_frame(device)
            ref = frame_ref(frame, blobs.put(frame.image, frame.media_type))
            event = FrameCaptured(
                event_id=ids.captured_id(ref.frame_id), frame=ref, received_at_us=system_clock(), channel="plain"
            )
            value = encode(event, deployment.schemas)
            producer.produce(deployment.namespace.topic(FRAMES), key=device.encode(), value=value, on_delivery=note)
            deployment.frames.append(ref.frame_id)
    assert producer.flush(30) == 0
    return delivered


async def looked_up(deployment: Deployment, device: str) -> tuple[object, object]:
    """The device as `GET /devices/{id}` finds it."""
    redis = wiring.redis_client(deployment.settings)
    views, submissions = wiring.view_store(deployment.settings, redis), RedisSubmissions(redis, deployment.namespace)
    try:
        return await Lookups(views=views, submissions=submissions, partitions=PARTITIONS, deadline_s=10).device(device)
    finally:
        await redis.aclose()


def test_frames_that_lie_by_another_hash_are_counted_once_and_found(running: Deployment) -> None:
    """Devices whose frames lie in another partition than their key's: one result a frame, and every way of asking shows it."""
    devices = devices_elsewhere()
    lay = publish_plainly(running, devices)
    assert lay == {device: {partition} for partition, device in enumerate(devices)}
    running.drain(within_s=120)
    assert troubles(running) == []
    frames, results = running.states("device_frames"), running.states("device_results")
    for device in devices:
        assert frames[device]["accepted_count"] == FRAMES_EACH
        assert sum(results[device]["outcome_counts"].values()) == FRAMES_EACH
        known = device_at(
            running.log, running.schemas, device_id=device, pipeline="gate_reader", at_us=system_clock(), around_s=600
        )
        assert (to_plain(known.frames), to_plain(known.results)) == (frames[device], results[device])
        assert asyncio.run(looked_up(running, device)) == (frames[device], results[device])
        seen = {(e.type, e.partition) for e in known.around if e.topic == FRAMES}
        assert seen == {("FrameCaptured", p) for p in lay[device]}
