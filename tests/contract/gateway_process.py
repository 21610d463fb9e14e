"""A gateway as a process of its own, for tests that stop it: prints its port, then drains on SIGTERM."""

import asyncio
import json
import signal
import sys
from typing import Any

import structlog

from streams.blobs import S3BlobStore
from streams.grpc_gateway import FrameGateway, GatewayLimits, serve
from streams.kafka_appender import KafkaAppender
from streams.keyring import KeyRing
from streams.names import Namespace
from streams.packing import Packer
from streams.publishing import FramePublisher
from streams.records import system_clock
from streams.registry import RegistrySchemas
from streams.sealed_blobs import SealedBlobs


async def main(where: dict[str, Any]) -> None:
    namespace = Namespace(where["namespace"])
    schemas = RegistrySchemas(where["registry"], namespace)
    schemas.register_all()
    blobs = S3BlobStore(where["s3"], access_key=where["access"], secret_key=where["secret"], bucket=namespace.bucket("blobs"))
    appender = KafkaAppender(where["kafka"], namespace)
    store = SealedBlobs(blobs, blobs, KeyRing(blobs, b""), seals=False)
    packer = Packer(store, frame_bytes_max=100_000) if where["packs"] else None
    publisher = FramePublisher(appender=appender, blobs=store, schemas=schemas, clock=system_clock, channel="grpc", packer=packer)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # A test that is killed closes the pipe, and leaves no gateway behind.
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    gateway = FrameGateway(publisher, GatewayLimits())
    await serve(
        gateway, address=f"127.0.0.1:{where['port']}", stop=stop, drain_s=10, started=lambda port: print(port, flush=True)
    )
    appender.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(json.loads(sys.argv[1])))
