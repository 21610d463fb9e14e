"""How far consumer groups have committed, asked without joining them. `topology.caught_up` compares it with the views."""

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import LogUnavailableError
from streams.names import Namespace

_TIMEOUT_S = 10.0


class KafkaGroups:
    """The groups of one namespace. Calls block.

    Args:
        bootstrap_servers: host:port, comma separated.
        client: further librdkafka settings, such as security.
    """

    def __init__(
        self, bootstrap_servers: str, namespace: Namespace = Namespace(), client: Mapping[str, str] | None = None
    ) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, **(client or {})})
        self._namespace = namespace

    def committed(self, processor: str) -> Mapping[tuple[str, int], int]:
        """The next offset that a processor's group would begin at, by topic and partition; none where it never committed.

        Raises:
            LogUnavailableError: the broker does not answer.
        """
        group = self._namespace.group(processor)
        try:
            asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=_TIMEOUT_S)
            found = asked[group].result().topic_partitions
        except KafkaException as error:
            raise LogUnavailableError(
                f"commits of {group}: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
            ) from error
        return {(self._namespace.catalogue_name(at.topic), at.partition): at.offset for at in found if at.offset >= 0}
