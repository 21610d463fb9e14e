"""Writing recorded records back onto a broker at their own offsets, with their own append times.

A topic that is imported to is set to `CreateTime`, so the broker keeps the times that it is given, and to keep everything.
Kafka gives offsets in order, so what lies before and between the records is filled with empty ones; what was filled before the
first record is deleted again. So a position that an event names (its source) leads where it led.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.catalogue import TOPICS
from schemas.errors import ConsistencyError, ContractError, LogUnavailableError
from streams.kafka_client import LOGGER
from streams.names import Namespace
from streams.records import BESIDE_VALUE_BYTES, LEFT_OUT, LONGEST_RECORD_BYTES, Record

_TIMEOUT_S = 15.0
_FLUSH_S = 300.0
_POLLED_EACH = 500
_DO = "check that Kafka runs: `hindsight status`"
_CONFIG = {"message.timestamp.type": "CreateTime", "retention.ms": "-1", "cleanup.policy": "delete"}


class KafkaImport:
    """Fills the empty topics of one namespace, one partition after the other.

    Args:
        bootstrap_servers: host:port, comma separated.
        replication: Copies of each partition of topics that are made.
        client: further librdkafka settings, such as security.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        namespace: Namespace = Namespace(),
        *,
        replication: int = 1,
        client: Mapping[str, str] | None = None,
    ) -> None:
        config: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "logger": LOGGER, **(client or {})}
        self._admin = AdminClient(config)
        self._namespace = namespace
        self._replication = replication
        self._producer = Producer(
            {
                **config,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "message.max.bytes": LONGEST_RECORD_BYTES + BESIDE_VALUE_BYTES,
                "message.timeout.ms": 0,
                "compression.type": "lz4",
                "linger.ms": 20,
                "allow.auto.create.topics": False,
                "error_cb": self._note,
            }
        )
        self._wrong = ""
        self._queued = self._arrived = 0

    def readers(self) -> tuple[str, ...]:
        """Groups of this namespace that somebody reads with right now: a worker would take the imported records for new ones.

        Raises:
            LogUnavailableError: the broker does not answer.
        """
        try:
            found = self._admin.list_consumer_groups(request_timeout=_TIMEOUT_S).result()
        except KafkaException as error:
            raise _unavailable("asking for groups", error) from error
        own = self._namespace.group("")
        busy = {ConsumerGroupState.STABLE, ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING}
        return tuple(sorted(g.group_id for g in found.valid if g.group_id.startswith(own) and g.state in busy))

    def prepare(self, partitions: Mapping[str, int]) -> None:
        """Make the topics, or take those that are there when they hold nothing.

        Args:
            partitions: How many each topic of the catalogue has.
        Raises:
            ContractError: a topic holds, or held, records, or has another number of partitions.
            LogUnavailableError: the broker does not answer or refuses.
        """
        try:
            there = self._admin.list_topics(timeout=_TIMEOUT_S).topics
            names = {self._namespace.topic(topic): count for topic, count in partitions.items()}
            for name, count in names.items():
                if name in there and len(there[name].partitions) != count:
                    raise ContractError(
                        f"{name} has {len(there[name].partitions)} partitions, and the bundle's has {count}",
                        do="import into a namespace of its own: HINDSIGHT_NAMESPACE=incident-1",
                    )
                if name in there:
                    self._hold_empty(name, count)
            self._make({name: count for name, count in names.items() if name not in there})
            self._alter([name for name in names if name in there])
        except KafkaException as error:
            raise _unavailable("preparing topics", error) from error

    def write(self, topic: str, partition: int, records: Iterator[tuple[int, int, Record | None]]) -> int:
        """Write one partition from its first offset on; gives how many records were filled in.

        Args:
            records: Offset, append time in ms and record, ascending; None where only the place is known.
        Raises:
            ConsistencyError: somebody else writes there too.
            LogUnavailableError: the broker refuses.
        """
        name, next_offset, filled = self._namespace.topic(topic), 0, 0
        self._queued = self._arrived = 0
        for offset, at_ms, record in records:
            for _ in range(next_offset, offset + (record is None)):
                self._produce(name, partition, at_ms, None)
                filled += 1
            if record is not None:
                self._produce(name, partition, at_ms, record)
            next_offset = offset + 1
        self._flush(name)
        return filled

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete what was filled in before an offset.

        Raises:
            LogUnavailableError: the broker does not answer or refuses.
        """
        at = TopicPartition(self._namespace.topic(topic), partition, before)
        try:
            for future in self._admin.delete_records([at], request_timeout=_TIMEOUT_S).values():
                future.result()
        except KafkaException as error:
            raise _unavailable(f"deleting before {before} of {at.topic}", error) from error

    def _produce(self, name: str, partition: int, at_ms: int, record: Record | None) -> None:
        what: dict[str, Any] = {"headers": [(LEFT_OUT, b"1")]}
        if record is not None:
            what = {"key": record.key, "value": record.value, "headers": list(record.headers)}
        while True:
            try:
                self._producer.produce(name, partition=partition, timestamp=max(0, at_ms), on_delivery=self._delivered, **what)
                break
            except BufferError:
                self._producer.poll(0.05)
                self._hold()
            except KafkaException as error:
                raise _unavailable(f"writing to {name}", error) from error
        self._queued += 1
        if self._queued % _POLLED_EACH == 0:
            self._producer.poll(0)
            self._hold()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        """Answers come in the order of the records, which lie from offset 0 on; one that does not is not alone there."""
        place = f"{message.topic()}/{message.partition()}"
        if not self._wrong and error is not None:
            self._wrong = f"writing to {place}: {error}"
        elif not self._wrong and message.offset() != self._arrived:
            self._wrong = f"{place}/{self._arrived} came to lie at {message.offset()}: somebody else writes there too"
        self._arrived += 1

    def _flush(self, name: str) -> None:
        left = self._producer.flush(_FLUSH_S)
        self._hold()
        if left:
            raise LogUnavailableError(
                f"{left} records for {name} did not get through", do="check that Kafka runs: `hindsight status`"
            )

    def _hold(self) -> None:
        if self._wrong:
            raise ConsistencyError(self._wrong, do="stop what writes there, and import into a namespace of its own")

    def _note(self, error: KafkaError) -> None:
        if error.fatal() and not self._wrong:
            self._wrong = str(error)

    def _hold_empty(self, name: str, count: int) -> None:
        asked = self._admin.list_offsets({TopicPartition(name, p): OffsetSpec.latest() for p in range(count)})  # type: ignore[no-untyped-call]  # as it comes
        for at, future in asked.items():
            if end := future.result().offset:
                raise ContractError(
                    f"{name} {at.partition} is not empty: its next offset is {end}",
                    do="import into a namespace of its own: HINDSIGHT_NAMESPACE=incident-1",
                )

    def _make(self, names: Mapping[str, int]) -> None:
        longest = {self._namespace.topic(t.name): t.longest_bytes + BESIDE_VALUE_BYTES for t in TOPICS.values()}
        new = [
            NewTopic(
                name,
                num_partitions=count,
                replication_factor=self._replication,
                config={**_CONFIG, "max.message.bytes": str(longest[name])},
            )
            for name, count in names.items()
        ]
        for future in self._admin.create_topics(new, request_timeout=_TIMEOUT_S).values() if new else ():
            future.result()

    def _alter(self, names: list[str]) -> None:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(what, wanted, incremental_operation=AlterConfigOpType.SET) for what, wanted in _CONFIG.items()
                ],
            )
            for name in names
        ]
        for future in self._admin.incremental_alter_configs(resources).values() if resources else ():
            future.result()


def _unavailable(doing: str, error: KafkaException) -> LogUnavailableError:
    return LogUnavailableError(f"{doing}: {error.args[0]}", do=_DO)
