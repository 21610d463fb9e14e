"""Runs steps as Faust apps, one app and one consumer group a step, all in this process' event loop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import faust

from processors.agent import bind
from processors.faust_batches import use_batches
from processors.step import Ports, Step
from streams.kafka_groups import KafkaGroups
from streams.names import Namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class FaustLimits:
    """How Faust talks to the broker. Times in seconds.

    A partition of a worker that was killed is stuck until `session_timeout_s` is over.
    """

    session_timeout_s: float = 6.0
    heartbeat_s: float = 1.5
    request_timeout_s: float = 12.0
    commit_interval_s: float = 0.5
    buffer_records: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Steps that share a consumer group, and so a Faust app.

    Args:
        window: Most records in a step's window for a partition.
        batch: Most records in one commit.
    """

    name: str
    steps: tuple[Step[Any], ...]
    window: int
    batch: int


def faust_app(group: str, *, bootstrap_servers: str, namespace: Namespace, limits: FaustLimits, folder: str) -> faust.App:
    """An app that owns no topics of its own: what exists is the catalogue's, and nothing is created on the side.

    Args:
        folder: Where Faust makes the folders for tables that no app of ours has.
    """
    app = faust.App(
        namespace.group(group),
        broker=[f"kafka://{server}" for server in bootstrap_servers.split(",")],
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=limits.buffer_records,
        broker_max_poll_records=limits.buffer_records,
        broker_commit_interval=limits.commit_interval_s,
        broker_session_timeout=limits.session_timeout_s,
        broker_heartbeat_interval=limits.heartbeat_s,
        broker_request_timeout=limits.request_timeout_s,
        consumer_max_fetch_size=1 << 20,
        store="memory://",
        datadir=folder,
    )
    use_batches(app)
    return app


class Agents:
    """Groups of steps at work.

    Args:
        kafka: Asked what a group has acknowledged.
        failed: Told when one cannot go on.
    """

    def __init__(
        self,
        groups: tuple[Group, ...],
        ports: Ports[Any],
        *,
        bootstrap_servers: str,
        namespace: Namespace,
        limits: FaustLimits,
        kafka: KafkaGroups,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._apps = []
        self._by_group: dict[str, faust.App] = {}
        self._namespace = namespace
        self._folder = TemporaryDirectory(prefix="hindsight-faust-")
        for group in groups:
            app = faust_app(
                group.name, bootstrap_servers=bootstrap_servers, namespace=namespace, limits=limits, folder=self._folder.name
            )
            committed = partial(_committed, kafka, group.name)
            for step in group.steps:
                bind(
                    app,
                    step,
                    ports,
                    namespace=namespace,
                    window=group.window,
                    batch=group.batch,
                    failed=failed,
                    committed=committed,
                )
            self._apps.append(app)
            self._by_group[group.name] = app

    async def start(self) -> None:
        """Join the groups; returns when every app runs."""
        for app in self._apps:
            app.loop = asyncio.get_running_loop()
            app.finalize()
        await asyncio.gather(*(app.start() for app in self._apps))

    def assigned(self, topic: str, group: str) -> frozenset[int]:
        """Partitions of a topic that a group of this process owns now; none while they are given out anew."""
        app = self._by_group.get(group)
        if app is None or app.rebalancing:
            return frozenset()
        name = self._namespace.topic(topic)
        return frozenset(at.partition for at in app.consumer.assignment() if at.topic == name)

    async def stop(self) -> None:
        """Leave the groups; what was in flight was not acknowledged and comes again."""
        await asyncio.gather(*(app.stop() for app in self._apps))
        self._folder.cleanup()


def _committed(kafka: KafkaGroups, group: str, topic: str, partition: int) -> int:
    """The next offset that a group would begin at; 0 when it never acknowledged anything."""
    return kafka.committed(group, topic, (partition,)).get(partition, 0)
