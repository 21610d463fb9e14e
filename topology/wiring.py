"""The composition root: settings in, clients and processors out. The only place that builds clients."""

import fnmatch
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from redis.asyncio import Redis

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.release.follower import ReleaseFollower
from processors.release.step import ReleaseStep
from processors.rules.contract import load as load_rules
from processors.step import Ports
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.types import FrameRef
from streams.blobs import S3BlobStore
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.names import Namespace
from streams.ports import Inference
from streams.publishing import FramePublisher
from streams.records import system_clock
from streams.redis_views import RedisViewStore
from streams.registry import RegistrySchemas
from streams.topics import Topics
from topology.agents import FaustLimits, Group
from topology.settings import Settings

PROCESSORS = ("assess", "infer", "derive", "release", "views")

_BLOB_THREADS = 16


def namespace(settings: Settings) -> Namespace:
    return Namespace(settings.namespace)


def bootstrap_servers(settings: Settings) -> str:
    return ",".join(settings.kafka.bootstrap_servers)


def event_log(settings: Settings) -> KafkaEventLog:
    return KafkaEventLog(bootstrap_servers(settings), namespace(settings))


def appender(settings: Settings) -> KafkaAppender:
    return KafkaAppender(bootstrap_servers(settings), namespace(settings))


def schemas(settings: Settings) -> RegistrySchemas:
    return RegistrySchemas(settings.registry.url, namespace(settings))


def topics(settings: Settings) -> Topics:
    return Topics(
        bootstrap_servers(settings),
        namespace(settings),
        chain_partitions=settings.kafka.partitions,
        replication=settings.kafka.replication,
    )


def blob_store(settings: Settings) -> S3BlobStore:
    return S3BlobStore(
        settings.s3.endpoint,
        access_key=settings.s3.access_key,
        secret_key=settings.s3.secret_key.get_secret_value(),
        bucket=namespace(settings).bucket(settings.blobs.bucket),
        secure=settings.s3.secure,
    )


def redis_client(settings: Settings) -> Redis:
    """A client for one event loop; give it back with `aclose`."""
    password = settings.redis.password.get_secret_value()
    return Redis.from_url(settings.redis.url, password=password or None, socket_timeout=settings.redis.timeout_s)


def view_store(settings: Settings, redis: Redis) -> RedisViewStore:
    return RedisViewStore(redis, namespace(settings))


def prepare(settings: Settings) -> None:
    """Topics, schemas and bucket as they must be before anything runs; safe to do at once from several places.

    Raises:
        ConsistencyError: a topic has another number of partitions than the settings say.
        ConfigurationError: the registry holds schemas that ours are not compatible with.
        TransientError: a server does not answer.
    """
    topics(settings).ensure()
    schemas(settings).register_all()
    blob_store(settings).make_bucket()


def publisher(settings: Settings, *, to: KafkaAppender, channel: str) -> FramePublisher:
    return FramePublisher(
        appender=to,
        blobs=blob_store(settings),
        schemas=schemas(settings),
        clock=system_clock,
        channel=channel,
        threads=ThreadPoolExecutor(_BLOB_THREADS, thread_name_prefix="blobs"),
    )


def knows_device(settings: Settings) -> Callable[[str], bool]:
    """Whether a device may send frames."""
    return lambda device_id: any(fnmatch.fnmatchcase(device_id, pattern) for pattern in settings.devices.known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """What the processors of one worker run on."""

    log: KafkaEventLog
    appender: KafkaAppender
    schemas: RegistrySchemas
    blobs: S3BlobStore
    redis: Redis
    views: RedisViewStore

    def ports(self) -> Ports[object]:
        return Ports(log=self.log, appender=self.appender, views=self.views, schemas=self.schemas, clock=system_clock)

    async def close(self) -> None:
        self.appender.close()
        self.log.close()
        await self.redis.aclose()


def clients(settings: Settings) -> Clients:
    """Call it inside the event loop that will use them."""
    redis = redis_client(settings)
    return Clients(
        log=event_log(settings),
        appender=appender(settings),
        schemas=schemas(settings),
        blobs=blob_store(settings),
        redis=redis,
        views=view_store(settings, redis),
    )


def groups(
    settings: Settings, names: tuple[str, ...], using: Clients, *, follower: ReleaseFollower | None, inference: Inference | None
) -> tuple[Group, ...]:
    """The named processors, ready to be bound."""
    return tuple(_group(settings, name, using, follower, inference) for name in names)


def _group(settings: Settings, name: str, using: Clients, follower: ReleaseFollower | None, inference: Inference | None) -> Group:
    worker = settings.worker
    window, batch = worker.window_per_partition, worker.batch_records
    match name:
        case "assess":
            step = AssessStep(
                using.blobs,
                limits=Limits(),
                max_bytes=settings.gateway.max_message_bytes,
                max_pixels=settings.http.max_pixels,
            )
            return Group(name=name, steps=(step,), window=window, batch=batch)
        case "infer":
            assert follower is not None, "infer is never built without a follower"
            assert inference is not None, "infer is never built without a client"
            return Group(name=name, steps=(_infer(settings, using, follower, inference),), window=window, batch=batch)
        case "derive":
            return Group(name=name, steps=(DeriveStep(load_rules(settings.pipeline.rules)),), window=batch, batch=batch)
        case "release":
            return Group(name=name, steps=(ReleaseStep(),), window=batch, batch=batch)
        case "views":
            return Group(name=name, steps=tuple(ViewStep(view) for view in VIEWS.values()), window=batch, batch=batch)
        case _:
            raise AssertionError(f"{name} is checked against PROCESSORS before")


def _infer(settings: Settings, using: Clients, follower: ReleaseFollower, inference: Inference) -> InferStep:
    return InferStep(
        pipeline=settings.pipeline.name,
        route=router(follower),
        inference=inference,
        blobs=using.blobs,
        clock=system_clock,
        retries=Retries(
            attempts_max=settings.worker.attempts,
            backoff_first_s=settings.worker.retry_first_s,
            backoff_most_s=settings.worker.retry_longest_s,
        ),
        concurrency=settings.worker.concurrent_calls,
    )


def router(follower: ReleaseFollower) -> Callable[[FrameRef], Route]:
    """The release in force for a frame, as far as the follower has read."""

    def route(frame: FrameRef) -> Route:
        state, offset = follower.current()
        return Route(release=state.in_force, parameters=state.thresholds(), releases_offset=offset)

    return route


def faust_limits(settings: Settings) -> FaustLimits:
    kafka = settings.kafka
    return FaustLimits(
        session_timeout_s=kafka.session_timeout_s,
        heartbeat_s=kafka.heartbeat_interval_s,
        request_timeout_s=kafka.request_timeout_s,
    )
