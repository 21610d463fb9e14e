"""The view hop as one would write it with Quix Streams: the same records, the same fold, its own state store and changelog.

    python view_quix.py BOOTSTRAP TOPIC GROUP SCHEMAS RECORDS GUARANTEE

Runs in an environment of its own (`rivals.txt`), so nothing of ours is imported. SCHEMAS is a file with the Avro schemas by id.
"""

import io
import json
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fastavro
from quixstreams import Application, State

BOOTSTRAP, TOPIC, GROUP, SCHEMAS, RECORDS, GUARANTEE = sys.argv[1:7]
SCHEMA_BY_ID = {int(k): fastavro.parse_schema(v) for k, v in json.loads(Path(SCHEMAS).read_text()).items()}
began: list[float] = []
count = 0


def decode(value: bytes) -> dict[str, Any]:
    schema_id = struct.unpack_from(">I", value, 1)[0]
    schema = SCHEMA_BY_ID[schema_id]
    return {"name": schema["name"].rpartition(".")[2], **fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)}


def fold(event: dict[str, Any], state: State) -> None:
    global count
    if not began:
        began.extend((time.monotonic(), time.process_time()))
    device = state.get("device") or {"accepted": 0, "rejected": 0, "repeated": 0, "missing": 0}
    if event["name"] == "FrameAccepted":
        device |= {
            "device_id": event["frame"]["device_id"],
            "last_frame": event["frame"],
            "last_width_px": event["width_px"],
            "last_height_px": event["height_px"],
            "last_measures": event["measures"],
            "last_warnings": event["warnings"],
            "accepted": device["accepted"] + 1,
            "missing": device["missing"] + event["missing_before"],
        }
    elif "repeated" in event["reasons"]:
        device |= {"device_id": event["frame"]["device_id"], "repeated": device["repeated"] + 1}
    else:
        device |= {
            "device_id": event["frame"]["device_id"],
            "last_rejected": event["frame"],
            "last_rejected_reasons": event["reasons"],
            "rejected": device["rejected"] + 1,
        }
    state.set("device", device)
    count += 1


with tempfile.TemporaryDirectory() as folder:
    app = Application(
        broker_address=BOOTSTRAP,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        processing_guarantee=GUARANTEE,
        state_dir=folder,
        loglevel="WARNING",
    )
    topic = app.topic(TOPIC, value_deserializer="bytes", key_deserializer="bytes")
    app.dataframe(topic).apply(decode).update(fold, stateful=True)
    app.run(count=int(RECORDS), timeout=60)
    print(
        json.dumps({"events": count, "wall_s": time.monotonic() - began[0], "cpu_s": time.process_time() - began[1]}), flush=True
    )
