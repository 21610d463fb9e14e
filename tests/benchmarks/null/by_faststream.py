"""The job as one writes it with FastStream, at least once: batches, so many calls at once, acknowledged after the handler.

python by_faststream.py TOLD GROUP
"""

import asyncio
import time
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from faststream.confluent.annotations import KafkaMessage
from job import _PARAMETERS, CALLS, GROUP, HEADERS, TOLD, decoded, encoded, fetched, text
from tritonclient.grpc.aio import InferenceServerClient

broker = KafkaBroker(TOLD["kafka"], acks="all", enable_idempotence=True, linger_ms=2)
app = FastStream(broker)
calls = asyncio.Semaphore(CALLS)
triton: list[Any] = []


async def work(value: bytes, message: Any) -> None:
    async with calls:
        event, began_ns = decoded(value), time.time_ns()
        image = await asyncio.to_thread(fetched, event["frame"])
        inputs = [text("IMAGE", image), text("PARAMETERS", _PARAMETERS)]
        answer = await triton[0].infer(TOLD["release"], inputs, model_version="1")
    read = [bytes(answer.as_numpy(name).reshape(-1)[0]) for name in ("RESULT", "REPORT")]
    place = (message.topic(), message.partition(), message.offset())
    key, out = encoded(event, read[0], read[1], place, began_ns)
    await broker.publish(out, TOLD["to"], key=key, partition=message.partition(), headers=HEADERS)


@broker.subscriber(
    TOLD["from"], group_id=GROUP, auto_offset_reset="earliest", batch=True, max_records=64, ack_policy=AckPolicy.NACK_ON_ERROR
)
async def handle(values: list[bytes], message: KafkaMessage) -> None:
    if not triton:
        triton.append(InferenceServerClient(TOLD["triton"]))
    await asyncio.gather(*(work(v, m) for v, m in zip(values, message.raw_message, strict=True)))


asyncio.run(app.run())
