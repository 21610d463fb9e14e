"""What the hops are measured on: made events on a real broker, and what a process without our code needs to read them."""

import json
from pathlib import Path
from typing import Any

from schemas import avro_files
from schemas.catalogue import ASSESSMENTS, TOPICS
from schemas.events import FrameAccepted, FrameRejected
from tests.benchmarks import made_log
from topology import wiring
from topology.configuration import stack_layer
from topology.settings import Settings

PARTITIONS = 4


def settings_of(home: Path, namespace: str) -> Settings:
    """Settings for a namespace on the stack in `home`."""
    layer: dict[str, Any] = stack_layer(home)
    kafka = {**layer.pop("kafka"), "partitions": PARTITIONS}
    return Settings(**{**layer, "kafka": kafka, "namespace": namespace})


def write_assessments(settings: Settings, frames: int) -> int:
    """So many frames as assessed, of 50 devices; gives how many events they are."""
    wiring.prepare(settings)
    site = made_log.Site(frames=frames, partitions=PARTITIONS)
    written = (one for one in made_log.chain(site) if isinstance(one.event, FrameAccepted | FrameRejected))
    return made_log.write(wiring.bootstrap_servers(settings), wiring.namespace(settings), wiring.schemas(settings), written)


def write_schemas(settings: Settings, to: Path) -> None:
    """The Avro schemas of vision.assessments by their id in the registry, as JSON."""
    registry = wiring.schemas(settings)
    ids = {event: registry.id_of(event) for event in TOPICS[ASSESSMENTS].events}
    texts = {i: avro_files.without_logical_types(json.loads(registry.schema_of(i))) for i in ids.values()}
    to.write_text(json.dumps(texts))
