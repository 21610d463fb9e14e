"""A whole Hindsight whose model is a stand-in: it answers after a time that the release says, and takes none of the machine's.

For benchmarks in which the models should not be what is measured, on servers of their own.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from streams.names import Namespace
from streams.publishing import IncomingFrame
from tests.conftest import SERVERS
from tests.e2e.deployment import CHECKOUT, Deployment
from topology.stack.local import LocalStack

HERE = Path(__file__).parent
PIPELINE = "stand_in"
_LIMITS = "delay_ms=0..10000"


class StandIn(Deployment):
    """A deployment of the stand-in's pipeline.

    Args:
        variables: Further settings of its workers, as variables.
    """

    def __init__(self, stack: LocalStack, namespace: Namespace, folder: Path, variables: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self._variables = dict(variables)
        super().__init__(stack, namespace, folder)
        self.settings = self.settings.model_copy(
            update={"pipeline": self.settings.pipeline.model_copy(update={"name": PIPELINE, "rules": "stand_in_rules"})}
        )

    def environment(self) -> dict[str, str]:
        pipeline = {"HINDSIGHT_PIPELINE__NAME": PIPELINE, "HINDSIGHT_PIPELINE__RULES": "stand_in_rules"}
        return {**super().environment(), "PYTHONPATH": f"{HERE}:{CHECKOUT}", **pipeline, **self._variables}

    def next_frame(self, device: str, passage: int = 0) -> IncomingFrame:
        """As cameras do it, no two frames are alike: what is stored by its content is stored and read for each."""
        frame = super().next_frame(device, passage)
        return replace(frame, image=frame.image + f"{device} {frame.sequence}".encode())

    def release(self, delay_ms: float) -> None:
        """Register a release whose model takes so long, and put it in force; a worker must be at work."""
        release = f"after_{delay_ms:g}_ms"
        self._run("models", "register", str(HERE / PIPELINE), "--name", PIPELINE, "--no-trial")
        delay = ("--parameter", f"delay_ms={delay_ms:g}", "--limits", _LIMITS)
        self._run("releases", "register", release, "--step", f"{PIPELINE}:1", *delay)
        self._run("releases", "promote", release, "--reason", "a benchmark")

    def _run(self, *arguments: str) -> None:
        answer: subprocess.CompletedProcess[str] = self.hindsight(*arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@contextmanager
def stand_in(namespace: str, **variables: str) -> Iterator[StandIn]:
    """Servers of their own, and a deployment on them with no worker yet; all ends with the block."""
    with tempfile.TemporaryDirectory(prefix="hindsight-bench-", ignore_cleanup_errors=True) as home:
        servers = CHECKOUT / ".hindsight" / "servers"
        with LocalStack(Path(home) / "stack", servers=SERVERS, ports="free", servers_folder=servers, owned=True) as stack:
            shutil.rmtree(stack.layout.model_repository / PIPELINE, ignore_errors=True)
            with closing(StandIn(stack, Namespace(namespace), Path(home) / "deployment", variables)) as deployment:
                yield deployment
