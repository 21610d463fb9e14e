"""`hindsight topics` and `hindsight schemas check`: what they print, and how they end."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from typer.testing import CliRunner

from schemas import avro_files, compatibility
from schemas.catalogue import FRAMES, TOPIC_OF, TOPICS, subject
from schemas.events import FrameCaptured
from streams.names import Namespace
from streams.topics import Topics
from topology.cli import build_app


def hindsight(stack: Any, namespace: Namespace, *arguments: str) -> tuple[int, Any]:
    """The command in a process of its own against the test's servers: exit code and its JSON."""
    environment = {
        **os.environ,
        "HINDSIGHT_NAMESPACE": namespace.prefix,
        "HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS": stack.endpoints.kafka_bootstrap,
        "HINDSIGHT_REGISTRY__URL": stack.endpoints.registry_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "topology.cli", *arguments, "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_topics_ends_with_1_until_the_broker_is_as_catalogued(stack: Any, namespace: Namespace) -> None:
    """All missing: every one is told, exit code 1. All made: nothing to tell, exit code 0."""
    code, told = hindsight(stack, namespace, "topics")
    assert code == 1
    assert {d["topic"] for d in told["differences"]} == {namespace.topic(name) for name in TOPICS}
    Topics(stack.endpoints.kafka_bootstrap, namespace).ensure()
    code, told = hindsight(stack, namespace, "topics")
    assert (code, told["differences"]) == (0, [])
    assert told["topics"][namespace.topic(FRAMES)]["message.timestamp.type"] == "LogAppendTime"


def test_schemas_check_against_a_registry_names_the_field(stack: Any, namespace: Namespace) -> None:
    """A registry that holds something incompatible: exit code 1, with the version and the field."""
    code, told = hindsight(stack, namespace, "schemas", "check", "--registry")
    assert (code, told["incompatible"], told["events"]) == (0, [], len(TOPIC_OF))
    other = json.loads(avro_files.latest("FrameCaptured"))
    other["fields"].append({"name": "shutter_speed", "type": "long", "doc": "No default."})
    client = SchemaRegistryClient({"url": stack.endpoints.registry_url})
    client.register_schema(subject(FrameCaptured, prefix=f"{namespace.prefix}."), Schema(json.dumps(other), "AVRO"))
    code, told = hindsight(stack, namespace, "schemas", "check", "--registry")
    assert code == 1
    assert {(i["reader"], i["path"]) for i in told["incompatible"]} == {("registry v1", "FrameCaptured.shutter_speed")}


def test_schemas_check_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline it says that all is well; with a planted version it names event, field and reason, and ends with 1."""
    well = CliRunner().invoke(build_app(), ["schemas", "check"])
    assert (well.exit_code, well.output.split()[-2:]) == (0, ["every", "other"])
    bad = json.loads(avro_files.latest("FrameCaptured"))
    bad["fields"][-1]["type"] = "long"
    ours = compatibility.versions_in_package
    planted = {"FrameCaptured": {"v3": json.dumps(bad)}}
    monkeypatch.setattr(compatibility, "versions_in_package", lambda event: ours(event) | planted.get(event, {}))
    told = CliRunner().invoke(build_app(), ["schemas", "check"])
    assert told.exit_code == 1
    assert "v3 cannot read v1: FrameCaptured.channel: was written as string, and is read as long" in told.output
