"""A model process that is killed, under load: no frame fails, the model is started again, and the log says so."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest
import tritonclient.grpc as triton

from schemas.catalogue import INFERENCES, RELEASES
from schemas.events import LoadedModelsDiffered, ModelHealed
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


@pytest.mark.timeout(120)
def test_what_somebody_loads_by_hand_is_told_until_it_is_gone(running: Deployment) -> None:
    """An ensemble that no release names: it is on the log once, by name, and once more when server and log agree again."""
    repository, name = running.stack.layout.model_repository, "gate_reader_by_hand"
    config = (repository / R1 / "config.pbtxt").read_text().replace(f'name: "{R1}"', f'name: "{name}"')
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    (endpoint,) = running.settings.triton.endpoints
    client = triton.InferenceServerClient(endpoint)
    try:
        client.load_model(name)
        until(lambda: [name in e.unknown for e in differences(running)][-1:] == [True], within_s=30, what="it is told")
        client.unload_model(name)
        until(lambda: name not in differences(running)[-1].unknown, within_s=30, what="it is told that it is gone")
    finally:
        client.close()
        shutil.rmtree(repository / name)
    assert sum(name in e.unknown for e in differences(running)) == 1


def differences(deployment: Deployment) -> list[LoadedModelsDiffered]:
    return [e for e in said(deployment, LoadedModelsDiffered) if isinstance(e, LoadedModelsDiffered)]
