"""How far consumer groups have committed, asked without joining them. `topology.caught_up` compares it with the views."""

from collections.abc import Mapping
from threading import Lock

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.errors import LogUnavailableError
from streams.kafka_client import LOGGER
from streams.names import Namespace

_TIMEOUT_S = 10.0


class KafkaGroups:
    """The groups of one namespace. Calls block, and may be made from several threads.

    Each group is asked through a consumer of its own: librdkafka's admin call for the same thing ends the process when
    the broker goes away under it (an assertion in rdkafka_queue.h, librdkafka 2.16.0).

    Args:
        bootstrap_servers: host:port, comma separated.
        client: further librdkafka settings, such as security.
    """

    def __init__(
        self, bootstrap_servers: str, namespace: Namespace = Namespace(), client: Mapping[str, str] | None = None
    ) -> None:
        self._config = {"bootstrap.servers": bootstrap_servers, "enable.auto.commit": False, "logger": LOGGER, **(client or {})}
        self._namespace = namespace
        self._asking: dict[str, Consumer] = {}
        self._lock = Lock()

    def committed(self, processor: str, topic: str, partitions: tuple[int, ...]) -> Mapping[int, int]:
        """The next offset that a processor's group would begin at, by partition; none where it never committed.

        Raises:
            LogUnavailableError: the broker does not answer.
        """
        group = self._namespace.group(processor)
        wanted = [TopicPartition(self._namespace.topic(topic), p) for p in partitions]
        try:
            with self._lock:
                asking = self._asking.get(group)
                if asking is None:
                    asking = self._asking[group] = Consumer({**self._config, "group.id": group})
                found = asking.committed(wanted, timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise LogUnavailableError(
                f"commits of {group}: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
            ) from error
        return {at.partition: at.offset for at in found if at.error is None and at.offset >= 0}

    def close(self) -> None:
        for asking in self._asking.values():
            asking.close()
