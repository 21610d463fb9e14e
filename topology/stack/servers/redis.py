"""Redis: one server on loopback that keeps what it was told across restarts (append-only file, synced each second).

Losing that last second is allowed: views carry the position that they reflect and catch up from the log.
"""

from collections.abc import Mapping

from topology.stack.layout import Layout
from topology.stack.programs import Probe, Program

PORTS = {"redis": 16379}


def url(ports: Mapping[str, int]) -> str:
    return f"redis://127.0.0.1:{ports['redis']}/0"


def program(layout: Layout, ports: Mapping[str, int], *, redis_server: str) -> Program:
    """Write redis.conf and say how to run it."""
    conf, folder = layout.conf("redis"), layout.data("redis")
    conf.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": "127.0.0.1",
        "port": ports["redis"],
        "dir": f'"{folder}"',
        "daemonize": "no",
        # Writing its title would overwrite its environment, by which the stack finds what it started.
        "set-proc-title": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # The append-only file is enough; a second copy would cost a fork each time.
        "save": '""',
    }
    settings_file = conf / "redis.conf"
    settings_file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    return Program(
        name="redis",
        argv=(redis_server, str(settings_file)),
        ports=dict(ports),
        probe=Probe(target="topology.stack.probes:redis_answers", arguments={"host": "127.0.0.1", "port": ports["redis"]}),
        ready_timeout_s=30,
    )
