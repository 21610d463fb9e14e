"""Making the catalogue's topics on a broker, and holding the broker against the catalogue."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]  # re-exported without saying so

from schemas.catalogue import TOPICS, Topic
from schemas.errors import ConsistencyError, LogUnavailableError
from streams.kafka_client import LOGGER
from streams.names import Namespace
from streams.records import BESIDE_VALUE_BYTES

_TIMEOUT_S = 15.0
_KNOWN_RETRY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDifference:
    """One way in which the broker's topic is not the catalogue's; `topic` is the name on the broker."""

    topic: str
    what: str
    wanted: str
    found: str


class Topics:
    """The catalogue's topics of one namespace on one broker.

    Args:
        chain_partitions: Partitions of the topics along which frames travel; the same for all of them.
        replication: Copies of each partition.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        namespace: Namespace = Namespace(),
        *,
        chain_partitions: int = 4,
        replication: int = 1,
        client: Mapping[str, str] | None = None,
    ) -> None:
        config: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "logger": LOGGER, **(client or {})}
        self._admin = AdminClient(config)
        self._namespace = namespace
        self._chain_partitions = chain_partitions
        self._replication = replication

    def wanted(self, topic: Topic) -> dict[str, str]:
        """What the broker should say of a topic."""
        return {
            "partitions": str(self._chain_partitions if topic.chained else 1),
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(topic.retention_ms),
            "compression.type": "producer",
            "cleanup.policy": "delete",
            "max.message.bytes": str(topic.longest_bytes + BESIDE_VALUE_BYTES),
        }

    def create(self) -> tuple[str, ...]:
        """Make the topics that are missing, and wait until the broker knows them; gives their names on the broker.

        Raises:
            LogUnavailableError: the broker does not answer or refuses.
        """
        new = []
        for topic in TOPICS.values():
            config = self.wanted(topic)
            partitions = int(config.pop("partitions"))
            name = self._namespace.topic(topic.name)
            new.append(NewTopic(name, num_partitions=partitions, replication_factor=self._replication, config=config))
        made = []
        for name, future in self._admin.create_topics(new, request_timeout=_TIMEOUT_S).items():
            try:
                future.result()
                made.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise LogUnavailableError(
                        f"making topic {name}: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
                    ) from error
        self._wait_until_known({self._namespace.topic(name) for name in TOPICS})
        return tuple(sorted(made))

    def _wait_until_known(self, waiting: set[str]) -> None:
        """The controller makes a topic, and a moment later the brokers hear of it."""
        deadline = time.monotonic() + _TIMEOUT_S
        while waiting:
            there = self._admin.list_topics(timeout=_TIMEOUT_S).topics
            led = {n for n in waiting if n in there and there[n].partitions}
            waiting -= {n for n in led if all(p.leader >= 0 for p in there[n].partitions.values())}
            if waiting and time.monotonic() > deadline:
                raise LogUnavailableError(f"made topics {', '.join(sorted(waiting))}, and no broker leads them yet")
            if waiting:
                time.sleep(_KNOWN_RETRY_S)

    def differences(self) -> tuple[TopicDifference, ...]:
        """Where the broker is not what the catalogue says; empty when all is well."""
        try:
            there = self._admin.list_topics(timeout=_TIMEOUT_S).topics
            names = {self._namespace.topic(t.name): t for t in TOPICS.values()}
            present = [n for n in names if n in there]
            resources = [ConfigResource(ResourceType.TOPIC, n) for n in present]
            configs = {r.name: f.result() for r, f in self._admin.describe_configs(resources).items()} if present else {}
        except KafkaException as error:
            raise LogUnavailableError(
                f"asking for topics: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
            ) from error
        out = []
        for name, topic in names.items():
            if name not in there:
                out.append(TopicDifference(topic=name, what="topic", wanted="there", found="missing"))
                continue
            found = {key: entry.value for key, entry in configs[name].items()}
            found["partitions"] = str(len(there[name].partitions))
            out += [
                TopicDifference(topic=name, what=what, wanted=value, found=str(found.get(what)))
                for what, value in self.wanted(topic).items()
                if str(found.get(what)) != value
            ]
        return tuple(out)

    def alter(self) -> tuple[TopicDifference, ...]:
        """Set the broker's topics to what the catalogue says, all but their numbers of partitions; gives what was set.

        Only on a person's word: a shorter retention deletes records.

        Raises:
            LogUnavailableError: the broker does not answer or refuses.
        """
        altered = tuple(d for d in self.differences() if d.what not in ("topic", "partitions"))
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(d.what, d.wanted, incremental_operation=AlterConfigOpType.SET) for d in altered if d.topic == name
                ],
            )
            for name in sorted({d.topic for d in altered})
        ]
        try:
            for future in self._admin.incremental_alter_configs(resources).values() if resources else ():
                future.result()
        except KafkaException as error:
            raise LogUnavailableError(
                f"altering topics: {error.args[0]}", do="check that Kafka runs: `hindsight status`"
            ) from error
        return altered

    def ensure(self) -> None:
        """Make what is missing and refuse to go on where the number of partitions is another one.

        Raises:
            ConsistencyError: a topic has another number of partitions, so keys would not lie where they are looked for.
        """
        self.create()
        for difference in self.differences():
            if difference.what == "partitions":
                raise ConsistencyError(
                    f"{difference.topic} has {difference.found} partitions, and the settings say {difference.wanted}",
                    do=f"set kafka.partitions to {difference.found}; for another number begin another namespace "
                    "(docs/how-to/operate-workers.md)",
                )
