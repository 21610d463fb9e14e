"""S3: SeaweedFS (master, volume server, filer and gateway in one process), all of its listeners on loopback.

It opens its ports before writes work, so ready means that a real object was written and read. Access keys are made at
the first `up` and kept, since the objects are kept.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from topology.stack.layout import Layout
from topology.stack.programs import Probe, Program
from topology.stack.state import write_json

PORTS = {
    "s3": 18333,
    "s3.grpc": 18334,
    "s3.master": 18335,
    "s3.master.grpc": 18336,
    "s3.volume": 18337,
    "s3.volume.grpc": 18338,
    "s3.filer": 18339,
    "s3.filer.grpc": 18340,
}


def endpoint(ports: Mapping[str, int]) -> str:
    """host:port, as S3 clients want it."""
    return f"127.0.0.1:{ports['s3']}"


def program(layout: Layout, ports: Mapping[str, int], *, weed: str, access_key: str, secret_key: str) -> Program:
    """Write the identities file and say how to run the server."""
    conf, folder = layout.conf("s3"), layout.data("s3")
    conf.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    identities_file = conf / "identities.json"
    write_json(identities_file, _identities(access_key, secret_key))
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder,
        "master.port": ports["s3.master"],
        "master.port.grpc": ports["s3.master.grpc"],
        "master.telemetry": "false",
        # The defaults suit several masters: alone, with data, it would take 15 s to elect itself.
        "master.electionTimeout": "1s",
        "master.heartbeatInterval": "200ms",
        "master.volumeSizeLimitMB": 256,
        "volume.port": ports["s3.volume"],
        "volume.port.grpc": ports["s3.volume.grpc"],
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer": "true",
        "filer.port": ports["s3.filer"],
        "filer.port.grpc": ports["s3.filer.grpc"],
        "filer.localSocket": _socket("filer", ports["s3.filer"]),
        "s3": "true",
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3.grpc"],
        "s3.localSocket": _socket("s3", ports["s3"]),
        "s3.config": identities_file,
        "s3.iam": "false",
        # Two more listeners that are on unless they are told not to be.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    return Program(
        name="s3",
        argv=(weed, "server", *(f"-{key}={value}" for key, value in options.items())),
        # A bucket would begin with seven volumes, and some dozens of buckets would use up the disk's share of them.
        environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        ports=dict(ports),
        probe=Probe(
            target="topology.stack.probes:s3_takes_an_object",
            arguments={"endpoint": endpoint(ports), "access_key": access_key, "secret_key": secret_key},
        ),
        ready_timeout_s=60,
        # Stopping in order takes it 15 s of waiting for its own streams; objects it acknowledged survive kill -9.
        stop_grace_s=1,
        # Paths that it makes by itself in the temporary folder, by port, and leaves there when killed.
        remove_after_stop=(
            _socket("filer", ports["s3.filer"]),
            _socket("s3", ports["s3"]),
            *(_socket(f"{part}-grpc", ports[f"s3.{part}.grpc"]) for part in ("master", "volume", "filer")),
            _socket("s3-grpc", ports["s3.grpc"]),
        ),
    )


def _socket(part: str, port: int) -> str:
    # Not in our own folder: the path of a socket may have 107 characters at most, and homes can be deep.
    return str(Path(tempfile.gettempdir()) / f"seaweedfs-{part}-{port}.sock")


def _identities(access_key: str, secret_key: str) -> dict[str, object]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "hindsight", "credentials": credentials, "actions": actions}]
    return {"identities": identities}
