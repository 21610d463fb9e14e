"""The `Appender` on Kafka: idempotent, ordered, and without gaps.

A record is retried for as long as the process lives. Giving one up while later ones go through would leave a gap,
and a reader that drops repeats by comparing positions would take its late arrival for a repeat: a lost frame. So
the only way to lose the tail of what was queued is to die, and then nothing of it was acknowledged. When the broker
refuses a record for good, none queued behind it goes through either, and the appender takes no more.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Event, Thread

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.errors import ConsistencyError, ContractError, HindsightError, LogUnavailableError
from streams.kafka_client import LOGGER
from streams.names import Namespace
from streams.records import BESIDE_VALUE_BYTES, LONGEST_RECORD_BYTES, Outgoing, Position, hold_size

_FULL_RETRY_S = 0.01
_BEHIND_A_REFUSED = {KafkaError._GAPLESS_GUARANTEE, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._FATAL}
_BY_KEY = -1  # librdkafka's word for "the partitioner chooses"


class KafkaAppender:
    """Writes to the topics of one namespace; close it to flush. `append` and `enqueue` belong to one event loop.

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
        linger_ms: float = 0.5,
        client: Mapping[str, str] | None = None,
    ) -> None:
        self._namespace = namespace
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "logger": LOGGER,
                "acks": "all",
                "message.max.bytes": LONGEST_RECORD_BYTES + BESIDE_VALUE_BYTES,
                "message.timeout.ms": 0,
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "partitioner": "murmur2_random",
                "allow.auto.create.topics": False,
                "error_cb": self._note,
                **(client or {}),
            }
        )
        self._broken = False
        self._in_line = asyncio.Lock()
        self._stopping = Event()
        self._polling = Thread(target=self._poll, name="kafka-appender", daemon=True)
        self._polling.start()

    async def append(self, outgoing: Outgoing) -> Position:
        return await asyncio.wrap_future(await self.enqueue(outgoing))

    async def enqueue(self, outgoing: Outgoing) -> "Future[Position]":
        """Queue a record, waiting only while the local queue is full; the future completes when the broker holds it.

        Raises:
            ContractError: the record is too long for its topic.
            ConsistencyError: an earlier record was refused for good; only a new appender writes on.
        """
        hold_size(outgoing)
        async with self._in_line:  # whoever waits for room keeps its place
            while (future := self._enqueue(outgoing)) is None:  # noqa: ASYNC110  # librdkafka tells nobody when there is room
                await asyncio.sleep(_FULL_RETRY_S)
        return future

    def try_enqueue(self, outgoing: Outgoing) -> "Future[Position] | None":
        """Queue a record at once; None when the local queue is full, or others wait for room in it."""
        hold_size(outgoing)
        return None if self._in_line.locked() else self._enqueue(outgoing)

    def _enqueue(self, outgoing: Outgoing) -> "Future[Position] | None":
        future: Future[Position] = Future()
        # A record that is queued cannot be taken back, so neither can its future.
        future.set_running_or_notify_cancel()
        try:
            self._producer.produce(
                self._namespace.topic(outgoing.topic),
                partition=_BY_KEY if outgoing.partition is None else outgoing.partition,
                key=outgoing.key,
                value=outgoing.value,
                headers=list(outgoing.headers),
                on_delivery=lambda error, message: self._delivered(future, outgoing.topic, error, message),
            )
        except BufferError:
            return None
        except KafkaException as error:
            raise _refused(error.args[0], outgoing.topic) from error
        return future

    def close(self, timeout_s: float = 10.0) -> int:
        """Flush what is queued; gives the number of records that did not get through in time."""
        left = self._producer.flush(timeout_s)
        self._stopping.set()
        self._polling.join()
        return int(left)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(0.1)
            except KafkaException as error:  # a fatal one comes by both ways
                self._note(error.args[0])
            if self._broken:
                self._producer.purge()  # what waits behind a refused record fails now, and not never

    def _note(self, error: KafkaError) -> None:
        """Anything but a fatal error is librdkafka's to mend; without this it would raise out of the polling."""
        self._broken = self._broken or error.fatal()

    def _delivered(self, future: "Future[Position]", topic: str, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            future.set_exception(_refused(error, topic))
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None, "a delivered message has a place"
        assert offset is not None, "a delivered message has a place"
        future.set_result(Position(topic=topic, partition=partition, offset=offset))


def _refused(error: KafkaError, topic: str) -> HindsightError:
    """Why a record was not taken, by what is to be done about it."""
    if error.fatal() or error.code() in _BEHIND_A_REFUSED:
        return ConsistencyError(f"writing to {topic}: {error}", do="start this process again; what it was given comes again")
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return ContractError(f"writing to {topic}: {error}")
    return LogUnavailableError(f"writing to {topic}: {error}", do="check that Kafka runs: `hindsight status`")
