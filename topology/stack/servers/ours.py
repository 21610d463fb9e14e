"""Hindsight's own processes as members of the stack: the two gateways and one worker.

They are started as anybody would start them, `hindsight gateway` and so on, with the stack's home in their environment:
their settings find the servers, and their own ports, in what the stack recorded.
"""

import sys
from collections.abc import Mapping

from topology.stack.layout import Layout
from topology.stack.programs import Program, http_probe

PORTS: Mapping[str, Mapping[str, int]] = {
    "gateway": {"gateway": 15051, "gateway.metrics": 15052},
    "http": {"http": 15080},
    "worker": {"worker.metrics": 15090},
}
_READY = {
    "gateway": ("gateway.metrics", "/health/ready"),
    "http": ("http", "/v2/health/ready"),
    "worker": ("worker.metrics", "/health/ready"),
}
_NEEDS = {
    "gateway": ("kafka", "registry", "s3"),
    "http": ("kafka", "registry", "redis", "s3"),
    "worker": ("kafka", "registry", "redis", "s3", "triton"),
}


def program(name: str, layout: Layout, ports: Mapping[str, int], *, among: tuple[str, ...]) -> Program:
    """One of them.

    Args:
        among: Programs of the stack; what is needed and not among them runs somewhere else.
    """
    port, path = _READY[name]
    return Program(
        name=name,
        argv=(sys.executable, "-m", "topology.cli", name),
        environment={"HINDSIGHT_HOME": str(layout.home), "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
        ports=dict(ports),
        needs=tuple(n for n in _NEEDS[name] if n in among),
        probe=http_probe(f"http://127.0.0.1:{ports[port]}{path}"),
        ready_timeout_s=90,
        stop_grace_s=25,
    )


def as_settings(ports: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Chosen ports under the names that the settings have for them."""
    named = {
        "gateway": {"port": ports.get("gateway"), "metrics_port": ports.get("gateway.metrics")},
        "http": {"port": ports.get("http")},
        "worker": {"metrics_port": ports.get("worker.metrics")},
    }
    found = {group: {key: port for key, port in values.items() if port} for group, values in named.items()}
    return {group: values for group, values in found.items() if values}
