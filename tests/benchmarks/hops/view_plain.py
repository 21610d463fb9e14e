"""The view hop as a loop by hand on confluent-kafka and Redis: states and position in one transaction, offsets after it.

    python view_plain.py BOOTSTRAP TOPIC GROUP SCHEMAS RECORDS REDIS_URL

Runs in an environment of its own (`rivals.txt`). It drops no repeats, tells nobody how it does, and ends when anything fails.
"""

import io
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer
from redis import Redis

BOOTSTRAP, TOPIC, GROUP, SCHEMAS, RECORDS, REDIS_URL = sys.argv[1:7]
SCHEMA_BY_ID = {int(k): fastavro.parse_schema(v) for k, v in json.loads(Path(SCHEMAS).read_text()).items()}


def folded(device: dict[str, Any], value: bytes) -> dict[str, Any]:
    schema = SCHEMA_BY_ID[struct.unpack_from(">I", value, 1)[0]]
    event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
    device["device_id"] = event["frame"]["device_id"]
    if schema["name"].endswith("FrameAccepted"):
        for name in ("width_px", "height_px", "measures", "warnings", "frame"):
            device[f"last_{name}"] = event[name]
        device["accepted"] = device.get("accepted", 0) + 1
        device["missing"] = device.get("missing", 0) + event["missing_before"]
    elif "repeated" in event["reasons"]:
        device["repeated"] = device.get("repeated", 0) + 1
    else:
        device |= {"last_rejected": event["frame"], "last_reasons": event["reasons"], "rejected": device.get("rejected", 0) + 1}
    return device


def main() -> None:
    redis, count, began, began_cpu = Redis.from_url(REDIS_URL), 0, 0.0, 0.0
    consumer = Consumer(
        {"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([TOPIC])
    while count < int(RECORDS):
        messages: Any = consumer.consume(512, timeout=0.5)
        if messages and not count:
            began, began_cpu = time.monotonic(), time.process_time()
        keys = sorted({m.key() for m in messages})
        stored = redis.hmget(f"{GROUP}:states", keys) if keys else []
        states = {k: json.loads(v) if v else {} for k, v in zip(keys, stored, strict=True)}
        for message in messages:
            states[message.key()] = folded(states[message.key()], message.value())
        if states:
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(f"{GROUP}:states", mapping={k: json.dumps(v) for k, v in states.items()})
                pipe.hset(f"{GROUP}:positions", mapping={str(m.partition()): m.offset() + 1 for m in messages})
                pipe.execute()
            consumer.commit(asynchronous=True)
        count += len(messages)
    found = {"events": count, "wall_s": time.monotonic() - began, "cpu_s": time.process_time() - began_cpu}
    consumer.close()
    print(json.dumps(found), flush=True)


main()
