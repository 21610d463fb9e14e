"""What our transport promises of Faust's consumer, on a real broker."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.names import Namespace
from topology.rewinding import rewind
from topology.stack.local import LocalStack


async def values(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    """The next records of the consumer, `count` of them."""
    found: list[bytes] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
    return found


def test_a_partition_without_a_commit_goes_back_to_its_beginning(stack: LocalStack, namespace: Namespace) -> None:
    """Records read and thrown away are read again after a rewind, from the commit where there is one, else from the start."""
    bootstrap, topic = stack.endpoints.kafka_bootstrap, namespace.topic("rewinding")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition in (0, 1):
        for number in range(3):
            producer.produce(topic, f"{partition}-{number}".encode(), partition=partition)
    producer.flush(30)

    async def read_twice() -> list[bytes]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=namespace.group("rewinding"),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            assert len(await values(consumer, 6)) == 6
            await consumer.commit({TopicPartition(topic, 1): 2})
            await rewind(consumer)
            return await values(consumer, 4)
        finally:
            await consumer.stop()

    assert sorted(asyncio.run(read_twice())) == [b"0-0", b"0-1", b"0-2", b"1-2"]
