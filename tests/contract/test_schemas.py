"""The registry and the topics as they really are: registered, held to FULL_TRANSITIVE, and made as catalogued."""

import json
import struct
import time
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from schemas import avro_files
from schemas.catalogue import DEAD_LETTERS, FRAMES, TOPIC_OF, TOPICS, subject
from schemas.codec import FixedSchemas, Schemas, decode, encode
from schemas.errors import ConfigurationError, ConsistencyError, DecodeError, RegistryUnavailableError
from schemas.events import FrameCaptured
from streams.names import Namespace
from streams.registry import RegistrySchemas
from streams.topics import Topics
from tests.given import captured


@pytest.fixture(params=["fixed", "registry"])
def schemas(request: pytest.FixtureRequest) -> Schemas:
    if request.param == "fixed":
        return FixedSchemas()
    return RegistrySchemas(request.getfixturevalue("stack").endpoints.registry_url, request.getfixturevalue("namespace"))


def test_ids_and_schemas_belong_together(schemas: Schemas) -> None:
    """Each event has an id, the same one every time, and the id gives a schema that reads what the event wrote."""
    ids = {event: schemas.id_of(event) for event in TOPIC_OF}
    assert len(set(ids.values())) == len(ids)
    assert ids == {event: schemas.id_of(event) for event in TOPIC_OF}
    assert decode(encode(captured(1), schemas), FRAMES, schemas) == captured(1)


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**32 - 1])
def test_an_unknown_id_is_a_decode_error(schemas: Schemas, number: int) -> None:
    """However large it is: the record goes to the dead letters, and nobody waits for the registry."""
    with pytest.raises(DecodeError, match=str(number)):
        decode(b"\x00" + struct.pack(">I", number) + b"x", FRAMES, schemas)


def test_all_events_are_registered_under_full_transitive(stack: Any, namespace: Namespace) -> None:
    """Registering is done for every event, twice is once, and each subject keeps the promise."""
    url = stack.endpoints.registry_url
    RegistrySchemas(url, namespace).register_all()
    RegistrySchemas(url, namespace).register_all()
    client = SchemaRegistryClient({"url": url})
    for event in TOPIC_OF:
        name = subject(event, prefix=f"{namespace.prefix}.")
        assert len(client.get_versions(name)) == len(avro_files.versions(event.__name__))
        assert client.get_compatibility(name) == "FULL_TRANSITIVE"
    held = RegistrySchemas(url, namespace).registered_versions(FrameCaptured)
    ours = [json.loads(avro_files.schema_text("FrameCaptured", number)) for number in avro_files.versions("FrameCaptured")]
    assert [json.loads(text) for text in held.values()] == ours
    assert RegistrySchemas(url, Namespace("nobody")).registered_versions(FrameCaptured) == {}


def test_an_incompatible_schema_is_refused_with_the_fields_name(stack: Any, namespace: Namespace) -> None:
    """The registry holds something that ours is not compatible with: starting is refused, and the field is named."""
    url = stack.endpoints.registry_url
    name = subject(FrameCaptured, prefix=f"{namespace.prefix}.")
    other = json.loads(avro_files.latest("FrameCaptured"))
    other["fields"].append({"name": "shutter_speed", "type": "long", "doc": "No default."})
    client = SchemaRegistryClient({"url": url})
    client.register_schema(name, Schema(json.dumps(other), "AVRO"))
    client.set_compatibility(subject_name=name, level="FULL_TRANSITIVE")
    with pytest.raises(ConfigurationError, match="shutter_speed") as raised:
        RegistrySchemas(url, namespace).register_all()
    assert raised.value.do


def test_a_registry_that_is_away_is_named_as_that() -> None:
    """Asking and registering end in RegistryUnavailableError with what to do."""
    away = RegistrySchemas("http://127.0.0.1:9")
    for call in (
        lambda: away.schema_of(1),
        lambda: away.id_of(FrameCaptured),
        away.register_all,
        lambda: away.registered_versions(FrameCaptured),
    ):
        with pytest.raises(RegistryUnavailableError) as raised:
            call()
        assert raised.value.do


def test_topics_are_made_as_catalogued(stack: Any, namespace: Namespace) -> None:
    """All of them, once, with nothing to report afterwards; the first report says that all are missing."""
    topics = Topics(stack.endpoints.kafka_bootstrap, namespace, chain_partitions=3)
    assert {d.topic for d in topics.differences()} == {namespace.topic(name) for name in TOPICS}
    assert topics.create() == tuple(sorted(namespace.topic(name) for name in TOPICS))
    assert topics.create() == ()
    assert topics.differences() == ()


def test_differences_are_told_one_by_one(stack: Any, namespace: Namespace) -> None:
    """A changed retention, another kind of timestamp and another number of partitions each stand with both values."""
    kafka = stack.endpoints.kafka_bootstrap
    admin = AdminClient({"bootstrap.servers": kafka})
    frames = namespace.topic(FRAMES)
    for future in admin.create_topics([NewTopic(frames, num_partitions=2, replication_factor=1)]).values():
        future.result(10)
    topics = Topics(kafka, namespace, chain_partitions=3)
    topics.create()
    resource = ConfigResource(ResourceType.TOPIC, namespace.topic(DEAD_LETTERS))
    resource.add_incremental_config(ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    found = _differences(topics, until=(namespace.topic(DEAD_LETTERS), "retention.ms"))
    assert found[frames, "partitions"] == ("3", "2")
    assert found[frames, "message.timestamp.type"] == ("LogAppendTime", "CreateTime")
    assert found[namespace.topic(DEAD_LETTERS), "retention.ms"] == (str(TOPICS[DEAD_LETTERS].retention_ms), "1000")
    with pytest.raises(ConsistencyError, match=frames):
        topics.ensure()


def _differences(topics: Topics, *, until: tuple[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """What differs, asked again until the broker has heard of the last change that was made by hand."""
    deadline = time.monotonic() + 20
    found: dict[tuple[str, str], tuple[str, str]] = {}
    while until not in found and time.monotonic() < deadline:
        found = {(d.topic, d.what): (d.wanted, d.found) for d in topics.differences()}
    return found
