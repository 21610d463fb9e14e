"""Puts the servers of a stack together: which ones, on which ports, with which endpoints.

Decides nothing about processes: the result is a Plan, which `local.py` hands to the supervisor.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.errors import ConfigurationError
from topology.stack import install, ports
from topology.stack.layout import Layout
from topology.stack.processes import ProcessKey
from topology.stack.programs import Backoff, Program
from topology.stack.servers import kafka, ours, redis, registry, s3, triton
from topology.stack.state import Endpoints, Plan, write_json

SERVERS = ("kafka", "registry", "redis", "s3", "triton")
PROGRAMS = (*SERVERS, *ours.PORTS)
DEFAULT_PORTS: Mapping[str, Mapping[str, int]] = {
    "kafka": kafka.PORTS,
    "registry": registry.PORTS,
    "redis": redis.PORTS,
    "s3": s3.PORTS,
    "triton": triton.PORTS,
    **ours.PORTS,
}


def check_names(servers: Iterable[str]) -> tuple[str, ...]:
    """The names in the stack's own order, each once.

    Raises:
        ConfigurationError: There is no such server.
    """
    wanted = set(servers)
    for name in sorted(wanted):
        if name not in PROGRAMS:
            raise ConfigurationError(f"there is no server {name}", do=f"choose from {', '.join(PROGRAMS)}")
    return tuple(name for name in PROGRAMS if name in wanted)


def check_ports(fixed: Mapping[str, int]) -> dict[str, int]:
    """Ports that a user set, each for a listener that there is, and none twice.

    Raises:
        ConfigurationError: another name, which would be passed over in silence, or a port for two listeners.
    """
    known = sorted(name for listeners in DEFAULT_PORTS.values() for name in listeners)
    for name, port in fixed.items():
        if name not in known:
            raise ConfigurationError(
                f"there is no listener {name}", setting=f"stack.ports.{name}", do=f"choose from {', '.join(known)}"
            )
        if list(fixed.values()).count(port) > 1:
            raise ConfigurationError(
                f"port {port} is set for more than one listener", setting=f"stack.ports.{name}", do="set another port"
            )
    return dict(fixed)


def choose_ports(
    servers: Iterable[str],
    *,
    fixed: Mapping[str, int],
    last: Mapping[str, int],
    use_defaults: bool,
    among: Iterable[int] = ports.FREE_RANGE,
) -> dict[str, int]:
    """A port for each listener of the servers; see `ports.choose`.

    Raises:
        ConfigurationError: A name in `fixed` is not a listener, or its port is taken.
    """
    listeners = {name: port for server in servers for name, port in DEFAULT_PORTS[server].items()}
    check_ports(fixed)
    preferred = {**(listeners if use_defaults else {}), **last}
    return ports.choose(listeners, fixed=fixed, preferred=preferred, among=among)


def make_plan(
    layout: Layout,
    servers: Iterable[str],
    chosen: Mapping[str, int],
    *,
    installed: Path,
    extra: tuple[Program, ...] = (),
    triton_load: tuple[str, ...] = (),
    owner: ProcessKey | None = None,
    backoff: Backoff | None = None,
    watch_every_s: float = 10.0,
) -> Plan:
    """Write the servers' settings files and say what is to run.

    Args:
        chosen: Port of each listener of these servers.
        installed: The folder for installed servers.
        extra: Programs of our own to run beside the servers.
        triton_load: Models that Triton loads before it is ready.
    """
    names = check_names(servers)
    access_key, secret_key = _credentials(layout)
    programs = tuple(_program(name, names, layout, chosen, installed, access_key, secret_key, triton_load) for name in names)
    endpoints = Endpoints(
        kafka_bootstrap=f"127.0.0.1:{chosen['kafka']}" if "kafka" in names else "",
        registry_url=registry.url(chosen) if "registry" in names else "",
        redis_url=redis.url(chosen) if "redis" in names else "",
        s3_endpoint=s3.endpoint(chosen) if "s3" in names else "",
        s3_access_key=access_key if "s3" in names else "",
        s3_secret_key=secret_key if "s3" in names else "",
        triton_grpc=f"127.0.0.1:{chosen['triton.grpc']}" if "triton" in names else "",
        triton_http=f"127.0.0.1:{chosen['triton.http']}" if "triton" in names else "",
        triton_metrics=f"127.0.0.1:{chosen['triton.metrics']}" if "triton" in names else "",
    )
    return Plan(
        programs=(*programs, *extra),
        endpoints=endpoints,
        ports=dict(chosen),
        owner=owner,
        backoff=backoff or Backoff(),
        watch_every_s=watch_every_s,
    )


def _program(
    name: str,
    names: tuple[str, ...],
    layout: Layout,
    chosen: Mapping[str, int],
    installed: Path,
    access_key: str,
    secret_key: str,
    triton_load: tuple[str, ...],
) -> Program:
    own = {listener: chosen[listener] for listener in DEFAULT_PORTS[name]}
    match name:
        case "kafka":
            return kafka.program(layout, own, jars=install.kafka_jars(installed), java=_found("java"))
        case "registry":
            return registry.program(layout, own, jar=install.registry_jar(installed), java=_found("java"))
        case "redis":
            return redis.program(layout, own, redis_server=_found("redis-server"))
        case "s3":
            return s3.program(layout, own, weed=_found("weed"), access_key=access_key, secret_key=secret_key)
        case "triton":
            return triton.program(layout, own, load=triton_load)
        case _:
            return ours.program(name, layout, own, among=names)


def _found(command: str) -> str:
    path = install.java_command() if command == "java" else install.environment_command(command)
    if path is None:
        raise ConfigurationError(f"the command {command} is not installed", do="hindsight doctor says how to install it")
    return path


def _credentials(layout: Layout) -> tuple[str, str]:
    """The S3 keys of this stack, made once: the objects that they guard outlive `down`."""
    path = layout.credentials_file
    if path.exists():
        value = json.loads(path.read_text())
    else:
        value = {"s3_access_key": secrets.token_hex(10).upper(), "s3_secret_key": secrets.token_hex(20)}
        write_json(path, value)
    return value["s3_access_key"], value["s3_secret_key"]
