"""The job as a loop by hand on confluent-kafka: so many calls at once, records in order, offsets after the last acknowledgement.

python by_hand.py TOLD GROUP
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Producer
from job import CALLS, GROUP, HEADERS, TOLD, answered

consumer = Consumer(
    {"bootstrap.servers": TOLD["kafka"], "group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
)
producer = Producer({"bootstrap.servers": TOLD["kafka"], "enable.idempotence": True, "acks": "all", "linger.ms": 2})
consumer.subscribe([TOLD["from"]])


def work(message: Any) -> tuple[bytes, bytes, int]:
    key, value = answered(message.value(), message.topic(), message.partition(), message.offset())
    return key, value, message.partition()


def held(error: Any, _: Any) -> None:
    assert error is None, error


with ThreadPoolExecutor(CALLS) as threads:
    while True:
        messages: Any = consumer.consume(64, timeout=0.1)
        for key, value, partition in threads.map(work, messages):
            producer.produce(TOLD["to"], value, key, partition, on_delivery=held, headers=HEADERS)
        if messages:
            producer.flush()
            consumer.commit(asynchronous=False)
