"""The `Appender` port: in order, without gaps, and known by where it lies."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.catalogue import DEAD_LETTERS, FRAMES, TOPICS
from schemas.errors import ConsistencyError, ContractError, HindsightError
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.memory import MemoryLog
from streams.names import Namespace
from streams.records import HEADERS_ROOM_BYTES, LONGEST_RECORD_BYTES, Outgoing, system_clock
from streams.topics import Topics


def record(value: bytes, *, topic: str = FRAMES, partition: int = 0) -> Outgoing:
    return Outgoing(topic=topic, key=b"k", value=value, headers=(), partition=partition)


@pytest.fixture(params=["memory", "kafka"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A log and the appender that writes to it."""
    if request.param == "memory":
        memory = MemoryLog(system_clock, partitions=4)
        yield memory, memory
        return
    stack, namespace = request.getfixturevalue("stack"), request.getfixturevalue("namespace")
    kafka = stack.endpoints.kafka_bootstrap
    Topics(kafka, namespace).ensure()
    log, appender = KafkaEventLog(kafka, namespace), KafkaAppender(kafka, namespace)
    yield log, appender
    appender.close()
    log.close()


def test_records_lie_in_the_order_of_the_calls(both: tuple[Any, Any]) -> None:
    """A thousand records to two partitions, none awaited before the next: each partition holds its own in order, each once."""
    log, appender = both

    async def write() -> list[Any]:
        calls = [appender.append(record(str(n).encode(), partition=n % 2)) for n in range(1000)]
        return list(await asyncio.gather(*calls))

    positions = asyncio.run(write())
    for partition in (0, 1):
        assert [int(r.value) for r in log.read(FRAMES, partition, 0, 500)] == list(range(partition, 1000, 2))
    assert [(p.topic, p.partition, p.offset) for p in positions[:4]] == [
        (FRAMES, 0, 0),
        (FRAMES, 1, 0),
        (FRAMES, 0, 1),
        (FRAMES, 1, 1),
    ]


def test_when_awaited_the_record_is_there(both: tuple[Any, Any]) -> None:
    """The answer names the offset, and a reader finds the record at it."""
    log, appender = both

    async def write() -> Any:
        return await appender.append(record(b"x", partition=3))

    position = asyncio.run(write())
    assert log.bounds(FRAMES, 3).end == position.offset + 1
    assert [r.value for r in log.read(FRAMES, 3, position.offset, position.offset + 1)] == [b"x"]


def test_a_full_queue_keeps_everybody_in_line(stack: Any, namespace: Namespace) -> None:
    """When the local queue is full the callers wait, and nobody overtakes: a gap would be taken for a repeat."""
    kafka = stack.endpoints.kafka_bootstrap
    Topics(kafka, namespace).ensure()
    appender = KafkaAppender(kafka, namespace, client={"queue.buffering.max.messages": "3"})

    async def write() -> None:
        await asyncio.gather(*(appender.append(record(str(n).encode())) for n in range(200)))

    asyncio.run(write())
    log = KafkaEventLog(kafka, namespace)
    assert [int(r.value or b"") for r in log.read(FRAMES, 0, 0, 200)] == list(range(200))
    appender.close()
    log.close()


def test_a_refused_record_lets_none_behind_it_through(stack: Any, namespace: Namespace) -> None:
    """The broker refuses one record for good: those queued behind it fail too, the log has no gap, and a new appender goes on."""
    kafka = stack.endpoints.kafka_bootstrap
    config = {"max.message.bytes": "1000", "message.timestamp.type": "LogAppendTime"}
    topic = NewTopic(namespace.topic(FRAMES), 1, 1, config=config)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([topic])[topic.topic].result(30)
    appender = KafkaAppender(kafka, namespace, linger_ms=0, client={"compression.type": "none", "batch.num.messages": "1"})

    async def write() -> list[Any]:
        values = [b"0", b"1", b"x" * 5000, b"3", b"4", b"5"]
        calls = [appender.append(record(v)) for v in values]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    answers = asyncio.run(write())
    log = KafkaEventLog(kafka, namespace)
    there = [r.value for r in log.read(FRAMES, 0, 0, 9)]
    assert there == [b"0", b"1"][: len(there)], "no record behind the refused one may lie there"
    assert all(isinstance(a, HindsightError) for a in answers[2:])

    async def once_more() -> None:
        await appender.append(record(b"6"))

    with pytest.raises(ConsistencyError):
        asyncio.run(once_more())
    appender.close()
    log.close()


def test_a_record_as_long_as_may_be_and_its_dead_letter_go_through(stack: Any, namespace: Namespace) -> None:
    """The longest record fits its topic, also uncompressed; kept aside with its error headers, the longest of all fits the
    dead letters; one that is too long is refused before it is sent, and those behind it go through."""
    kafka = stack.endpoints.kafka_bootstrap
    Topics(kafka, namespace).ensure()
    appender = KafkaAppender(kafka, namespace, client={"compression.type": "none"})
    longest, headers = TOPICS[FRAMES].longest_bytes, (("e", b"y" * (HEADERS_ROOM_BYTES - 12)),)

    async def write() -> None:
        await appender.append(record(b"x" * longest))
        value = b"x" * LONGEST_RECORD_BYTES
        await appender.append(Outgoing(topic=DEAD_LETTERS, key=b"k", value=value, headers=headers, partition=0))
        with pytest.raises(ContractError, match="too long"):
            await appender.append(record(b"x" * (longest + 1)))
        await appender.append(record(b"x"))

    asyncio.run(write())
    appender.close()
