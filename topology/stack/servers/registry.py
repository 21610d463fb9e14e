"""The Schema Registry: Apicurio, through its interface for Confluent clients, kept in a file database.

Ready when that interface lists its subjects. Kept across restarts under data/registry.
"""

from collections.abc import Mapping
from pathlib import Path

from topology.stack.layout import Layout
from topology.stack.programs import Probe, Program

PORTS = {"registry": 18081}
CONFLUENT_PATH = "/apis/ccompat/v7"


def url(ports: Mapping[str, int]) -> str:
    """The base address for Confluent clients."""
    return f"http://127.0.0.1:{ports['registry']}{CONFLUENT_PATH}"


def program(layout: Layout, ports: Mapping[str, int], *, jar: Path, java: str) -> Program:
    """Say how to run the registry from its runner jar."""
    folder, conf = layout.data("registry"), layout.conf("registry")
    folder.mkdir(parents=True, exist_ok=True)
    conf.mkdir(parents=True, exist_ok=True)
    argv = (java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", f"-Djava.io.tmpdir={conf}")
    return Program(
        name="registry",
        argv=(*argv, "-jar", str(jar)),
        environment={
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(ports["registry"]),
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{folder}/registry",
        },
        ports=dict(ports),
        probe=Probe(target="topology.stack.probes:registry_lists_subjects", arguments={"url": url(ports)}),
        ready_timeout_s=90,
    )
