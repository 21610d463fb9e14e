"""One more Triton on the session's model repository, that a test may kill and start again on the same ports."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from topology.stack import launch
from topology.stack.local import LocalStack
from topology.stack.ports import FREE_RANGE, choose
from topology.stack.probes import http_answers
from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command


class SecondTriton:
    """Ends with this process, whatever becomes of it. Close it to end it before."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._ports = choose(["grpc", "http", "metrics"], fixed={}, preferred={}, among=FREE_RANGE)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._ports['grpc']}"

    def start(self) -> None:
        """Start it, with nothing loaded; returns when it answers."""
        argv, environment = tritonserver_command(
            self._stack.layout.model_repository,
            backends=prepare_backends(self._folder / "backends"),
            grpc_port=self._ports["grpc"],
            http_port=self._ports["http"],
            metrics_port=self._ports["metrics"],
        )
        with (self._folder / "second-triton.log").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                return http_answers(url=f"http://127.0.0.1:{self._ports['http']}/v2/health/ready")
            except (OSError, ValueError):
                assert self.process.poll() is None, (self._folder / "second-triton.log").read_text()[-1000:]
                assert time.monotonic() < deadline, "the second Triton is not ready within 60 s"
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9; returns when it is dead."""
        assert self.process is not None, "it was started"
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._clean()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def _clean(self) -> None:
        for region in Path("/dev/shm").glob(f"{shared_memory_prefix(self._ports['grpc'])}*"):
            region.unlink(missing_ok=True)
