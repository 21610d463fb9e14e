"""The `Appender` on Kafka: idempotent, ordered, and without gaps.

A record is retried for as long as the process lives. Giving one up while later ones go through would leave a gap,
and a reader that drops repeats by comparing positions would take its late arrival for a repeat: a lost frame. So
the only way to lose the tail of what was queued is to die, and then nothing of it was acknowledged.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Event, Thread

from confluent_kafka import KafkaError, Message, Producer

from schemas.errors import LogUnavailableError
from streams.names import Namespace
from streams.records import Outgoing, Position

_FULL_RETRY_S = 0.01


class KafkaAppender:
    """Writes to the topics of one namespace; close it to flush.

    Args:
        bootstrap_servers: host:port, comma separated.
        linger_ms: How long a record may wait for company; more gives larger batches.
        client: further librdkafka settings, such as security.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        namespace: Namespace = Namespace(),
        *,
        linger_ms: float = 2,
        client: Mapping[str, str] | None = None,
    ) -> None:
        self._namespace = namespace
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "partitioner": "murmur2_random",
                "allow.auto.create.topics": False,
                **(client or {}),
            }
        )
        self._stopping = Event()
        self._polling = Thread(target=self._poll, name="kafka-appender", daemon=True)
        self._polling.start()

    async def append(self, outgoing: Outgoing) -> Position:
        return await asyncio.wrap_future(await self.enqueue(outgoing))

    async def enqueue(self, outgoing: Outgoing) -> "Future[Position]":
        """Queue a record, waiting only while the local queue is full; the future completes when the broker holds it."""
        while (future := self.try_enqueue(outgoing)) is None:
            await asyncio.sleep(_FULL_RETRY_S)
        return future

    def try_enqueue(self, outgoing: Outgoing) -> "Future[Position] | None":
        """Queue a record at once; None when the local queue is full."""
        future: Future[Position] = Future()
        where = {} if outgoing.partition is None else {"partition": outgoing.partition}
        try:
            self._producer.produce(
                self._namespace.topic(outgoing.topic),
                key=outgoing.key,
                value=outgoing.value,
                headers=list(outgoing.headers),
                on_delivery=lambda error, message: self._delivered(future, error, message),
                **where,
            )
        except BufferError:
            return None
        return future

    def close(self, timeout_s: float = 10.0) -> int:
        """Flush what is queued; gives the number of records that did not get through in time."""
        left = self._producer.flush(timeout_s)
        self._stopping.set()
        self._polling.join()
        return int(left)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)

    def _delivered(self, future: "Future[Position]", error: KafkaError | None, message: Message) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(LogUnavailableError(f"writing to {message.topic()}: {error}"))
            return
        topic = self._namespace.catalogue_name(message.topic())
        future.set_result(Position(topic=topic, partition=message.partition(), offset=message.offset()))
