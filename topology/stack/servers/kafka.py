"""Kafka: one node that is broker and KRaft controller, on loopback, with nothing created by accident.

Formats its folder on the first start. Topics are made by `streams` from the catalogue: `auto.create.topics.enable` is
off. Ready when the broker lists itself.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

from topology.stack.layout import Layout
from topology.stack.programs import Probe, Program

PORTS = {"kafka": 19092, "kafka.controller": 19093}
# Any 16 bytes do; one constant, since a stack is one node that never joins another.
CLUSTER_ID = "aGluZHNpZ2h0LWxvY2FsMA"


def program(layout: Layout, ports: Mapping[str, int], *, jars: Path, java: str) -> Program:
    """Write server.properties and say how to run it.

    Args:
        jars: Folder that holds Kafka's jars and their dependencies.
        java: Path of the java command, 17 or newer.
    """
    conf, folder = layout.conf("kafka"), layout.data("kafka")
    conf.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings_file = conf / "server.properties"
    settings_file.write_text("".join(f"{key}={value}\n" for key, value in properties(ports, folder).items()))
    log_settings = Path(__file__).with_name("log4j2.xml")
    run = [java, "-Xmx512m", "-XX:-UsePerfData", f"-Djava.io.tmpdir={conf}", f"-Dlog4j2.configurationFile={log_settings}"]
    run += ["-cp", f"{jars}/*"]
    configure = [*run, "kafka.tools.StorageTool", "format", "--config", str(settings_file), "--cluster-id", CLUSTER_ID]
    serve = [*run, "kafka.Kafka", str(settings_file)]
    # meta.properties is the last file that formatting writes.
    script = f"test -f {shlex.quote(f'{folder}/meta.properties')} || {shlex.join(configure)} || exit 1; exec {shlex.join(serve)}"
    return Program(
        name="kafka",
        argv=("/bin/sh", "-c", script),
        ports=dict(ports),
        probe=Probe(target="topology.stack.probes:kafka_lists_itself", arguments={"host": "127.0.0.1", "port": ports["kafka"]}),
        ready_timeout_s=90,
        stop_grace_s=20,
    )


def properties(ports: Mapping[str, int], folder: Path) -> dict[str, object]:
    """The broker's settings; docker-compose.yml has the same ones where they decide behaviour."""
    broker, controller = ports["kafka"], ports["kafka.controller"]
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # The default of 128 MB is a quarter of this heap.
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
    }
