"""The `EventLog` on Kafka: reading by position and by time. Each read has a consumer of its own; none joins a group.

Making a consumer takes longer than reading a few records, and a look back makes a dozen short reads: so one that a read is
done with serves the next one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import LogUnavailableError
from streams.kafka_client import LOGGER
from streams.names import Namespace
from streams.records import Bounds, Record

_BATCH_RECORDS = 500
_IDLE_MOST = 4
_METADATA_S = 10.0
_NO_LEADER = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_NO_LEADER_RETRY_S = 0.05

# One that read to the log's end asks for more until it is told otherwise, and serves nobody before the broker has answered.
_HURRIED = {"fetch.wait.max.ms": 5}

T = TypeVar("T")
_Idle = tuple[Consumer, set[str]]  # with the topics whose leaders it knows


class KafkaEventLog:
    """Reads the topics of one namespace.

    Args:
        bootstrap_servers: host:port, comma separated.
        client: further librdkafka settings, such as security.
    """

    def __init__(
        self, bootstrap_servers: str, namespace: Namespace = Namespace(), client: Mapping[str, str] | None = None
    ) -> None:
        self._config = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "hindsight-unjoined",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": 50,
            "logger": LOGGER,
            **(client or {}),
        }
        self._namespace = namespace
        self._asking = Consumer(self._config)
        self._idle: list[_Idle] = []
        self._partitions: dict[str, tuple[int, ...]] = {}
        self._closed = False
        self._lock = Lock()

    def partitions(self, topic: str) -> tuple[int, ...]:
        if topic in self._partitions:  # another number of them is a migration, and another log
            return self._partitions[topic]
        name = self._namespace.topic(topic)
        with self._lock, _Translated(f"partitions of {name}"):
            metadata = self._asking.list_topics(name, timeout=_METADATA_S).topics[name]
        if metadata.error is not None:
            raise LogUnavailableError(f"topic {name}: {metadata.error}", do="run `hindsight topics` to see what is missing")
        found = self._partitions[topic] = tuple(sorted(metadata.partitions))
        return found

    def bounds(self, topic: str, partition: int) -> Bounds:
        at = TopicPartition(self._namespace.topic(topic), partition)
        with self._lock, _Translated(f"bounds of {at.topic} {partition}"):
            earliest, end = _once_led(lambda: self._asking.get_watermark_offsets(at, timeout=_METADATA_S))
        return Bounds(earliest=earliest, end=end)

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        # Asked first: a record that comes between the two questions is found by the second, and lies at this end or beyond.
        end = self.bounds(topic, partition).end
        at = TopicPartition(self._namespace.topic(topic), partition, max(at_ms, 0))
        with self._lock, _Translated(f"offset by time in {at.topic} {partition}"):
            (found,) = _once_led(lambda: self._asking.offsets_for_times([at], timeout=_METADATA_S))
        if found.error is not None:
            raise LogUnavailableError(f"offset by time in {at.topic} {partition}: {found.error}")
        return end if found.offset in (OFFSET_END, -1) else int(found.offset)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        if start >= stop:
            return
        with self._consumer(topic) as consumer:
            consumer.assign([TopicPartition(self._namespace.topic(topic), partition, start)])
            at = start
            while True:
                # Asking for more than there are would wait out the timeout.
                for message in consumer.consume(min(_BATCH_RECORDS, stop - at), timeout=0.2):
                    record = self._record(message)
                    if record is None or record.offset >= stop:
                        return
                    yield record
                    at = record.offset + 1
                    if at == stop:
                        return

    @contextmanager
    def _consumer(self, topic: str) -> Iterator[Consumer]:
        """A consumer with nothing assigned and nothing left over; one that something went wrong with serves nobody else."""
        with self._lock:
            consumer, topics = self._idle.pop() if self._idle else (Consumer({**self._config, **_HURRIED}), {topic})
        try:
            while consumer.consume(_BATCH_RECORDS, timeout=0):
                pass  # what was told while nobody asked, such as a broker that went away and came back
            if topic not in topics:
                # It would hear of the topic's leader within a second, and hears now when it asks.
                with _Translated(f"reading {topic}"):
                    consumer.list_topics(self._namespace.topic(topic), timeout=_METADATA_S)
            yield consumer
            consumer.unassign()
        except GeneratorExit:
            consumer.unassign()  # whoever read has seen enough
        except BaseException:
            consumer.close()
            raise
        with self._lock:
            if len(self._idle) < _IDLE_MOST and not self._closed:
                self._idle.append((consumer, topics | {topic}))
                return
        consumer.close()

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        consumer = Consumer(self._config)
        try:
            name = self._namespace.topic(topic)
            consumer.assign([TopicPartition(name, p, offset) for p, offset in starts.items()])
            while not stopped():
                first = consumer.poll(0.1)
                messages = [] if first is None else [first, *consumer.consume(_BATCH_RECORDS, timeout=0)]
                records = [r for r in map(self._record, messages) if r is not None]
                yield from records or (None,)
        finally:
            consumer.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for consumer in (self._asking, *(idle for idle, _ in self._idle)):
                consumer.close()
            self._idle.clear()

    def _record(self, message: Message) -> Record | None:
        """The record, or None at the end of a partition."""
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise LogUnavailableError(f"reading {message.topic()} {message.partition()}: {error}")
        return to_record(message, self._namespace)


def to_record(message: Message, namespace: Namespace) -> Record:
    """A delivered message as a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None, "a delivered message has a place"
    assert partition is not None, "a delivered message has a place"
    assert offset is not None, "a delivered message has a place"
    return Record(
        topic=namespace.catalogue_name(topic),
        partition=partition,
        offset=offset,
        appended_at_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),  # type: ignore[arg-type]  # the client says more than it gives here
    )


def _once_led(ask: Callable[[], T]) -> T:
    """The answer, once the partition has a leader: one that was just made, or moved, has none for a moment."""
    deadline = time.monotonic() + _METADATA_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER or time.monotonic() > deadline:
                raise
            time.sleep(_NO_LEADER_RETRY_S)


class _Translated:
    """Kafka's errors as ours, with what was being done."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KafkaException):
            raise LogUnavailableError(
                f"{self._doing}: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
            ) from error
