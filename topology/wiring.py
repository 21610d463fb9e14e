"""The composition root, clients: settings in, clients out. The only place that builds them.

Imports stand inside the functions: a command that asks the log should not wait for the libraries of Redis and S3.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams.names import Namespace
from streams.records import system_clock
from topology.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from processors.step import Ports
    from streams.kafka_appender import KafkaAppender
    from streams.kafka_log import KafkaEventLog
    from streams.objects import S3Objects
    from streams.ports import Stored
    from streams.publishing import FramePublisher
    from streams.redis_views import RedisViewStore
    from streams.registry import RegistrySchemas
    from streams.sealed_blobs import SealedBlobs
    from streams.topics import Topics

_BLOB_THREADS = 16
# Once so much waits, the client fetches no more for the backoff's length: 1 s when nobody says otherwise.
_FEW_AHEAD = {"queued.max.messages.kbytes": "4096", "fetch.queue.backoff.ms": "20"}


def namespace(settings: Settings) -> Namespace:
    return Namespace(settings.namespace)


def bootstrap_servers(settings: Settings) -> str:
    return ",".join(settings.kafka.bootstrap_servers)


def event_log(settings: Settings, *, side_by_side: bool = False) -> "KafkaEventLog":
    """Reading the log.

    Args:
        side_by_side: Whether many partitions are read at once: each reader then fetches a few MiB ahead, not 64.
    """
    from streams.kafka_log import KafkaEventLog

    return KafkaEventLog(bootstrap_servers(settings), namespace(settings), _FEW_AHEAD if side_by_side else None)


def appender(settings: Settings) -> "KafkaAppender":
    from streams.kafka_appender import KafkaAppender

    return KafkaAppender(bootstrap_servers(settings), namespace(settings))


def schemas(settings: Settings) -> "RegistrySchemas":
    from streams.registry import RegistrySchemas

    return RegistrySchemas(settings.registry.url, namespace(settings), timeout_s=settings.registry.timeout_s)


def topics(settings: Settings) -> "Topics":
    from streams.topics import Topics

    return Topics(
        bootstrap_servers(settings),
        namespace(settings),
        chain_partitions=settings.kafka.partitions,
        replication=settings.kafka.replication,
    )


def blob_store(settings: Settings) -> "SealedBlobs":
    """Blobs, plain and encrypted."""
    from streams.blobs import S3BlobStore
    from streams.keyring import KeyRing
    from streams.sealed_blobs import SealedBlobs

    # Its client warns of every try. Whoever asked hears of the last one, and says so once.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    plain = S3BlobStore(settings.s3.endpoint, bucket=namespace(settings).bucket(settings.blobs.bucket), **_s3(settings))
    keys = KeyRing(keys_bucket(settings), settings.blobs.master_key_bytes())
    return SealedBlobs(plain, plain, keys, seals=settings.blobs.encrypt != "off")


def keys_bucket(settings: Settings) -> "S3Objects":
    """Where the keys of encrypted blobs lie."""
    from streams.objects import S3Objects

    return S3Objects(settings.s3.endpoint, bucket=namespace(settings).bucket(settings.blobs.keys_bucket), **_s3(settings))


def blobs_bucket(settings: Settings) -> "S3Objects":
    """The bucket of blobs, as objects."""
    from streams.objects import S3Objects

    return S3Objects(settings.s3.endpoint, bucket=namespace(settings).bucket(settings.blobs.bucket), **_s3(settings))


def _s3(settings: Settings) -> dict[str, Any]:
    return {
        "access_key": settings.s3.access_key,
        "secret_key": settings.s3.secret_key.get_secret_value(),
        "secure": settings.s3.secure,
        "region": settings.s3.region,
        "timeout_s": settings.s3.timeout_s,
    }


def redis_client(settings: Settings) -> "Redis":
    """A client for one event loop; give it back with `aclose`."""
    from redis.asyncio import Redis

    password = settings.redis.password.get_secret_value()
    return Redis.from_url(settings.redis.url, password=password or None, socket_timeout=settings.redis.timeout_s)


def view_store(settings: Settings, redis: "Redis") -> "RedisViewStore":
    from streams.redis_views import RedisViewStore

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
    make_buckets(settings)


def make_buckets(settings: Settings) -> None:
    """The buckets of blobs and of their keys, when they are not there."""
    blobs_bucket(settings).make_bucket()
    keys_bucket(settings).make_bucket()


def publisher(settings: Settings, *, to: "KafkaAppender", channel: str) -> "FramePublisher":
    from concurrent.futures import ThreadPoolExecutor

    from streams.packing import Packer
    from streams.publishing import FramePublisher

    blobs, most = blob_store(settings), settings.blobs.pack_up_to_bytes
    threads = ThreadPoolExecutor(_BLOB_THREADS, thread_name_prefix="blobs")
    return FramePublisher(
        appender=to,
        blobs=blobs,
        schemas=schemas(settings),
        clock=system_clock,
        channel=channel,
        threads=threads,
        packer=Packer(blobs, frame_bytes_max=most, threads=threads) if most else None,
    )


def knows_device(settings: Settings) -> Callable[[str], bool]:
    """Whether a device may send frames."""
    import fnmatch

    return lambda device_id: any(fnmatch.fnmatchcase(device_id, pattern) for pattern in settings.devices.known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """What the processors of one worker run on."""

    log: "KafkaEventLog"
    appender: "KafkaAppender"
    schemas: "RegistrySchemas"
    blobs: "SealedBlobs"
    redis: "Redis"
    views: "RedisViewStore"

    def ports(self) -> "Ports[object]":
        from processors.step import Ports

        return Ports(
            log=self.log,
            appender=self.appender,
            views=self.views,
            schemas=self.schemas,
            clock=system_clock,
            snapshot=self.snapshot,
        )

    def snapshot(self, view: str, partition: int, stop: int) -> "Stored | None":
        """`processors.step.SnapshotAt`."""
        from processors.snapshots.reading import Snapshots
        from processors.views.catalogue import VIEWS

        if view not in VIEWS:
            return None  # the state of a processor, of which nobody takes snapshots
        return Snapshots(self.log, self.schemas, self.blobs).whole(VIEWS[view], partition, stop)

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
