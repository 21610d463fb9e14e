"""A model process that is killed, under load: no frame fails, the model is started again, and the log says so."""

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from schemas.catalogue import INFERENCES, RELEASES
from schemas.events import ModelHealed
from streams.events import events_of
from tests.e2e.deployment import R1, Deployment, devices_on_every_partition, outcomes_of, troubles, until
from triton_models.repository import release_digests

DEVICES = devices_on_every_partition()


def model_process(deployment: Deployment, model: str, version: int) -> int:
    """The process of the session's Triton that runs a model's version, the youngest if it was started again."""
    folder = f"{deployment.stack.layout.model_repository.resolve()}/{model}/{version}/"
    processes = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    stubs = [line for line in processes.splitlines() if "python_backend_stub" in line]
    found = [line.split(None, 1) for line in stubs if folder in line]
    assert found, f"no process runs {folder}: {stubs}"
    return int(max(found, key=lambda columns: int(columns[0]))[0])


def said(deployment: Deployment, kind: type) -> list[object]:
    found = events_of(deployment.log, deployment.schemas, RELEASES, 0)
    return [event for _, event in found if isinstance(event, kind)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_model_process_that_dies_or_freezes_costs_no_frame(running: Deployment, number: signal.Signals) -> None:
    """Its server says ready all the while. Every frame gets a result, the files stay as pinned, and the log tells of it."""
    before, told_before = release_digests(running.stack.layout.model_repository, R1), len(said(running, ModelHealed))
    running.publish(DEVICES, 6)
    wanted = running.appended(INFERENCES) + 4
    until(lambda: running.appended(INFERENCES) >= wanted, within_s=60, what="frames are read")
    victim, killed_s = model_process(running, "recognizer", 1), time.monotonic()
    os.kill(victim, number)
    try:
        running.publish(DEVICES, 4)
        until(lambda: len(said(running, ModelHealed)) > told_before, within_s=60, what="the model is started again")
        print(f"{number.name}: told as healed after {time.monotonic() - killed_s:.1f} s")
        running.drain()
    finally:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)
    healed = said(running, ModelHealed)[-1]
    assert isinstance(healed, ModelHealed)
    print(healed)
    assert (healed.model, healed.release, len(said(running, ModelHealed))) == ("recognizer", R1, told_before + 1)
    assert healed.endpoint in running.settings.triton.endpoints
    assert troubles(running) == []
    assert outcomes_of(running).keys() <= {"read", "nothing_read"}
    assert release_digests(running.stack.layout.model_repository, R1) == before
