"""Triton Inference Server out of the Python environment, with explicit model control, on loopback.

`triton_models` knows how to run it; this module gives it folders and ports. It starts with the models named in `load`
and no others: whoever drives releases loads them, and must load them again after Triton restarted.
"""

from collections.abc import Mapping

from topology.stack.layout import Layout
from topology.stack.programs import Program, http_probe

PORTS = {"triton.http": 18000, "triton.grpc": 18001, "triton.metrics": 18002}


def program(layout: Layout, ports: Mapping[str, int], *, load: tuple[str, ...] = ()) -> Program:
    """Lay out the backends and say how to run the server on the model repository under data/triton."""
    # Imported here: only a stack that has Triton needs it.
    from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command

    repository = layout.model_repository
    repository.mkdir(parents=True, exist_ok=True)
    argv, environment = tritonserver_command(
        repository,
        backends=prepare_backends(layout.data("triton") / "backends"),
        grpc_port=ports["triton.grpc"],
        http_port=ports["triton.http"],
        metrics_port=ports["triton.metrics"],
        load=load,
    )
    return Program(
        name="triton",
        argv=tuple(argv),
        environment=environment,
        inherits_environment=False,
        ports=dict(ports),
        probe=http_probe(f"http://127.0.0.1:{ports['triton.http']}/v2/health/ready"),
        ready_timeout_s=90,
        stop_grace_s=15,
        remove_after_stop=(f"/dev/shm/{shared_memory_prefix(ports['triton.grpc'])}*",),
    )
