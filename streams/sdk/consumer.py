"""`ResultConsumer`: results from the log into a Python program, at least once, with repeats dropped.

Guarantees: every event of vision.results from the start on is given, in the order of each partition, until it is
committed; a crash gives again what was not. An event written twice is given once: an event's `source` only grows along
a partition, and the last one seen travels with the commit, so this holds across restarts and rebalances. A record that
cannot be decoded is reported and passed over; it never stops a partition.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import stamina
import structlog
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.catalogue import RESULTS
from schemas.codec import Schemas, decode
from schemas.envelope import header
from schemas.errors import ConfigurationError, ContractError, LogUnavailableError, RegistryUnavailableError
from streams.kafka_client import LOGGER
from streams.kafka_log import KafkaEventLog, to_record
from streams.names import Namespace
from streams.records import Position, Record, ms_from
from streams.registry import RegistrySchemas
from streams.sdk.values import ReceivedResult, microseconds

_WAIT_S = 0.2
_REGISTRY_S = 60.0
# Librdkafka says so and goes on trying by itself.
_AWAY = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_log = structlog.get_logger("hindsight.sdk")

Start = str | datetime | Mapping[int, int]
Seen = dict[str, tuple[int, int]]
OnError = Callable[[Record, ContractError], None]


class ResultConsumer:
    """Iterates over results; use it as a context manager, or `close` it.

    Args:
        group: Consumer group, whose members share the partitions and whose commits are kept. Without one the consumer
            reads every partition, from `start`, and commits nothing.
        start: "earliest", "latest", a time of the broker, or next offsets by partition. A group begins here only where
            it has not committed yet.
        on_error: Called for each record that cannot be decoded; a warning is logged and `skipped_count` grows anyway.
        client: Further librdkafka settings, such as security.

    Example:
        >>> from streams import ResultConsumer
        >>> with ResultConsumer.connect(
        ...     bootstrap_servers=kafka, registry_url=registry, group="billing", start="earliest", namespace=namespace,
        ... ) as results:
        ...     for result in results.until_idle(5.0):
        ...         print(result.device_id, type(result.event).__name__)
        ...         results.commit()
        gate-1 ResultDerived
    """

    def __init__(
        self,
        bootstrap_servers: str,
        schemas: Schemas,
        *,
        group: str | None = None,
        start: Start = "latest",
        namespace: Namespace = Namespace(),
        on_error: OnError | None = None,
        client: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(start, str) and start not in ("earliest", "latest"):
            raise ConfigurationError(f'start is "earliest", "latest", a time or offsets, and not {start!r}', setting="start")
        self._schemas = schemas
        self._group = group
        self._start = start
        self._namespace = namespace
        self._on_error = on_error
        self._log = KafkaEventLog(bootstrap_servers, namespace, client)
        # Next offsets and last sources of what was given out, by partition; a commit writes both.
        self._next: dict[int, int] = {}
        self._seen: dict[int, Seen] = {}
        self.skipped_count = 0
        self.repeats_count = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"{namespace.prefix}.{group}" if group and namespace.prefix else group or "hindsight-unjoined",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 50,
                "logger": LOGGER,
                **(client or {}),
            }
        )
        topic = namespace.topic(RESULTS)
        if group is None:
            found = [TopicPartition(topic, p, self._first(p)) for p in self._log.partitions(RESULTS)]
            self._begin(found)
            self._consumer.assign(found)
        else:
            self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    @classmethod
    def connect(
        cls,
        *,
        bootstrap_servers: str,
        registry_url: str,
        group: str | None = None,
        start: Start = "latest",
        namespace: str = "",
        on_error: OnError | None = None,
    ) -> "ResultConsumer":
        """A consumer on real servers.

        Args:
            bootstrap_servers: Kafka, host:port, comma separated.
            registry_url: Base address of the Confluent-compatible registry.
            namespace: Empty unless several installations share the servers.
        """
        space = Namespace(namespace)
        schemas = RegistrySchemas(registry_url, space)
        return cls(bootstrap_servers, schemas, group=group, start=start, namespace=space, on_error=on_error)

    def receive(self, timeout_s: float) -> ReceivedResult | None:
        """The next result, or None when there is none within `timeout_s`.

        Raises:
            LogUnavailableError: the topic is not there, or the broker refuses. A broker that is away is waited for.
            RegistryUnavailableError: the registry is needed and away for a minute; the record is given again.
        """
        end = time.monotonic() + timeout_s
        while (record := self._record(end - time.monotonic())) is not None:
            if (result := self._received(record)) is not None:
                return result
        return None

    def __iter__(self) -> Iterator[ReceivedResult]:
        """Results for ever."""
        while True:
            if (result := self.receive(_WAIT_S)) is not None:
                yield result

    def until_idle(self, idle_s: float) -> Iterator[ReceivedResult]:
        """Results until no record came for `idle_s` seconds."""
        while (record := self._record(idle_s)) is not None:
            if (result := self._received(record)) is not None:
                yield result

    def commit(self) -> None:
        """Say that everything given out so far is done with: a restart of the group goes on after it.

        Raises:
            ConfigurationError: there is no group to commit for.
            LogUnavailableError: the broker did not take it; what was given out since the last commit comes again.
        """
        if self._group is None:
            raise ConfigurationError("a consumer without a group commits nothing", setting="group", do="name a group")
        done = [self._committed(partition, offset) for partition, offset in sorted(self._next.items())]
        if not done:
            return
        try:
            self._consumer.commit(offsets=done, asynchronous=False)
        except KafkaException as error:
            raise LogUnavailableError(f"committing: {error.args[0]}") from error

    def position(self) -> dict[int, int]:
        """Next offsets by partition, of what was given out: a `start` for another consumer."""
        return dict(self._next)

    def close(self) -> None:
        """Leave the group; nothing is committed by it."""
        self._consumer.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _record(self, timeout_s: float) -> Record | None:
        """The next record of any kind, or None when there is none within `timeout_s`."""
        end = time.monotonic() + timeout_s
        while True:
            message = self._consumer.poll(max(0.0, end - time.monotonic()))
            error = message.error() if message is not None else None
            if message is not None and error is None:
                return to_record(message, self._namespace)
            if error is not None and not error.retriable() and error.code() not in _AWAY:
                raise LogUnavailableError(f"reading {RESULTS}: {error}", do="run `hindsight topics` to see what is missing")
            if time.monotonic() >= end:
                return None

    def _received(self, record: Record) -> ReceivedResult | None:
        try:
            event = self._decoded(record)
        except ContractError as error:
            self.skipped_count += 1
            _log.warning("result skipped", partition=record.partition, offset=record.offset, error=str(error))
            self._next[record.partition] = record.offset + 1
            if self._on_error is not None:
                self._on_error(record, error)
            return None
        seen, source = self._seen.setdefault(record.partition, {}), event.source
        at = (source.offset, source.index)
        self._next[record.partition] = record.offset + 1
        place = f"{source.topic}/{source.partition}"
        if at <= seen.get(place, (-1, -1)):
            self.repeats_count += 1
            return None
        seen[place] = at
        return ReceivedResult(
            event=event,
            position=Position(topic=RESULTS, partition=record.partition, offset=record.offset),
            appended_at_ms=record.appended_at_ms,
            traceparent=header(record.headers, "traceparent"),
        )

    def _decoded(self, record: Record) -> Any:
        try:
            for attempt in stamina.retry_context(on=RegistryUnavailableError, attempts=None, timeout=_REGISTRY_S):
                with attempt:
                    return decode(record.value, RESULTS, self._schemas)
        except RegistryUnavailableError:
            with suppress(KafkaException):
                self._consumer.seek(TopicPartition(self._namespace.topic(RESULTS), record.partition, record.offset))
            raise

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        found = []
        for kept in consumer.committed(partitions, timeout=10.0):
            if kept.offset == OFFSET_INVALID:
                kept = TopicPartition(kept.topic, kept.partition, self._first(kept.partition))
            found.append(kept)
        self._begin(found)
        consumer.assign([TopicPartition(p.topic, p.partition, p.offset) for p in found])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._next.pop(one.partition, None)
            self._seen.pop(one.partition, None)

    def _begin(self, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._next[one.partition] = one.offset
            self._seen[one.partition] = _seen_of(one.metadata)

    def _first(self, partition: int) -> int:
        """Where `start` lies in a partition."""
        match self._start:
            case "earliest":
                return self._log.bounds(RESULTS, partition).earliest
            case "latest":
                return self._log.bounds(RESULTS, partition).end
            case datetime() as at:
                return self._log.offset_at(RESULTS, partition, ms_from(microseconds(at)))
            case offsets:
                assert not isinstance(offsets, str)
                return offsets.get(partition, self._log.bounds(RESULTS, partition).end)

    def _committed(self, partition: int, offset: int) -> TopicPartition:
        seen = json.dumps({place: list(at) for place, at in sorted(self._seen.get(partition, {}).items())})
        return TopicPartition(self._namespace.topic(RESULTS), partition, offset, seen)


def _seen_of(metadata: str | None) -> Seen:
    """What a commit says of the last sources; nothing when somebody else's tool committed."""
    try:
        return {str(place): (int(at[0]), int(at[1])) for place, at in json.loads(metadata or "{}").items()}
    except (ValueError, AttributeError, TypeError, IndexError, KeyError):
        return {}
