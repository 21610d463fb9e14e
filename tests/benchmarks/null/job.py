"""The job of `infer`, as it is written beside every framework: decode, fetch and verify the picture, call Triton, encode.

Nothing of ours is imported: it runs in the environment of `rivals.txt`. What it leaves out of the real one: retries, releases and
thresholds from the log, pins, traces, dead letters, telling repeats from news.
"""

import hashlib
import io
import json
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from minio import Minio
from tritonclient.grpc import InferenceServerClient, InferInput

TOLD: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
GROUP = sys.argv[2]
CALLS: int = TOLD["calls"]
SCHEMAS = {int(k): fastavro.parse_schema(v) for k, v in TOLD["schemas"].items()}
HEADERS = {"ce_specversion": "1.0", "ce_type": "hindsight.InferenceCompleted", "content-type": "application/avro"}
_PARAMETERS = json.dumps(TOLD["parameters"], sort_keys=True).encode()
_S3 = Minio(TOLD["s3"]["endpoint"], TOLD["s3"]["access_key"], TOLD["s3"]["secret_key"], secure=False, region="us-east-1")
_TRITON = InferenceServerClient(TOLD["triton"])


def decoded(value: bytes) -> dict[str, Any]:
    """The event in a record."""
    schema = SCHEMAS[struct.unpack_from(">I", value, 1)[0]]
    event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
    return dict(event)


def text(name: str, content: bytes) -> InferInput:
    """One text for Triton."""
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([content], dtype=object))
    return tensor


def fetched(frame: dict[str, Any]) -> bytes:
    """The picture, verified."""
    sha256 = frame["blob"]["sha256"]
    response = _S3.get_object(TOLD["s3"]["bucket"], f"{TOLD['s3']['prefix']}{sha256[:2]}/{sha256}")
    try:
        content = bytes(response.read())
    finally:
        response.close()
        response.release_conn()
    assert hashlib.sha256(content).hexdigest() == sha256, sha256
    return content


def answered(value: bytes, topic: str, partition: int, offset: int) -> tuple[bytes, bytes]:
    """Key and value of the record that follows from one: the whole job, in the calling thread."""
    event = decoded(value)
    began_ns = time.time_ns()
    inputs = [text("IMAGE", fetched(event["frame"])), text("PARAMETERS", _PARAMETERS)]
    answer = _TRITON.infer(TOLD["release"], inputs, model_version="1")
    read = {name: bytes(answer.as_numpy(name).reshape(-1)[0]) for name in ("RESULT", "REPORT")}
    return encoded(event, read["RESULT"], read["REPORT"], (topic, partition, offset), began_ns)


def encoded(
    event: dict[str, Any], result: bytes, report: bytes, place: tuple[str, int, int], began_ns: int
) -> tuple[bytes, bytes]:
    """Key and value of what is recorded."""
    read, told = json.loads(result), json.loads(report)
    topic, partition, offset = place
    completed = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{topic}/{partition}/{offset}")),
        "source": {"topic": "vision.assessments", "partition": partition, "offset": offset, "index": 0},
        "frame": event["frame"],
        "pipeline": "stand_in",
        "release": TOLD["release"],
        "releases_offset": 1,
        "endpoint": TOLD["triton"],
        "attempts": 1,
        "started_at_us": began_ns // 1000,
        "duration_us": (time.time_ns() - began_ns) // 1000,
        "width_px": read["image"]["width_px"],
        "height_px": read["image"]["height_px"],
        "parameters": TOLD["parameters"],
        "runtime": told["runtime"],
        "steps": told["steps"],
        "observations": read["observations"],
        "candidates": read["candidates"],
    }
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, TOLD["completed_id"]))
    fastavro.schemaless_writer(out, SCHEMAS[TOLD["completed_id"]], completed)
    return event["frame"]["device_id"].encode(), out.getvalue()
