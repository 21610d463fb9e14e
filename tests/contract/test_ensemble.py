"""The reference ensemble on the real Triton server, and the same files in this process."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from schemas.errors import StepFailedError
from triton_models.configuration import ensemble_config
from triton_models.digest import model_digest
from triton_models.in_process import Answer, InProcessEnsemble
from triton_models.repository import RELEASES, build_repository, release_digests
from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command
from triton_models.weights import fetch_weights

R1, R2 = "gate_reader_r1", "gate_reader_r2"
READY_WITHIN_S = 40
CODE = "MSCU 123456 5"

Ask = Callable[..., Answer]


def picture(*texts: str, turned: bool = False) -> bytes:
    """A JPEG of 640x480: white texts below one another on coloured steel, with a little noise."""
    image = np.full((480, 640, 3), (60, 60, 150), np.uint8)
    for row, text in enumerate(texts):
        cv2.putText(image, text, (60, 120 + 90 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3, cv2.LINE_AA)
    noise = np.random.default_rng(7).normal(0, 4, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if turned:
        image = np.ascontiguousarray(image[::-1, ::-1])
    return bytes(cv2.imencode(".jpg", image)[1])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository, built from weights that are kept between runs."""
    weights = Path(__file__).parents[2] / ".hindsight" / "servers" / "weights"
    fetch_weights(weights, say=print)
    target = tmp_path_factory.mktemp("triton") / "repository"
    build_repository(target, weights)
    silent = target / "without_a_report"
    (silent / "1").mkdir(parents=True)
    config = ensemble_config("without_a_report", RELEASES[R1])
    (silent / "config.pbtxt").write_text(re.sub(r'\w+_map { key: "REPORT_DETECTION" [^}]*}', "", config))
    return target


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[triton.InferenceServerClient]:
    """The real server on free ports of the loopback address, with no model loaded; stopped afterwards."""
    grpc_port, http_port, metrics_port = free_ports(3)
    backends = prepare_backends(repository.parent / "backends")
    argv, environment = tritonserver_command(
        repository, backends=backends, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port
    )
    log = repository.parent / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment, stdout=output, stderr=subprocess.STDOUT)
    client = triton.InferenceServerClient(f"127.0.0.1:{grpc_port}")
    try:
        wait_until_ready(client, process, log)
        yield client
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for region in Path("/dev/shm").glob(f"{shared_memory_prefix(grpc_port)}*"):
            region.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def ask(server: triton.InferenceServerClient) -> Ask:
    """One call of an ensemble on the server, both releases loaded."""
    for name in (R1, R2):
        server.load_model(name)

    def call(release: str, image: bytes, parameters: dict[str, Any] | None = None) -> Answer:
        inputs = [bytes_input("IMAGE", image), bytes_input("PARAMETERS", json.dumps(parameters or {}).encode())]
        answer = server.infer(release, inputs, client_timeout=30)
        return Answer(result=answer.as_numpy("RESULT")[0], report=answer.as_numpy("REPORT")[0])

    return call


@pytest.fixture(scope="module")
def here(repository: Path) -> dict[str, InProcessEnsemble]:
    """Both releases in this process."""
    return {name: InProcessEnsemble(repository, pins) for name, pins in RELEASES.items()}


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until_ready(client: triton.InferenceServerClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.is_server_ready(client_timeout=1):
                return
        except InferenceServerException:
            os.sched_yield()
    pytest.fail(f"Triton is not ready:\n{log.read_text()[-3000:]}")


def bytes_input(name: str, content: bytes) -> triton.InferInput:
    tensor = triton.InferInput(name, [1], "BYTES")
    elements: NDArray[np.object_] = np.array([content], dtype=np.object_)
    tensor.set_data_from_numpy(elements)
    return tensor


def labels(answer: Answer) -> list[str]:
    return [one["label"] for one in json.loads(answer.result)["observations"]]


def timeless(answer: Answer) -> dict[str, Any]:
    """The report without what may differ between two runs: durations, and who ran it."""
    report: dict[str, Any] = json.loads(answer.report)
    for step in report["steps"]:
        assert step.pop("duration_us") >= 0
    report["runtime"].pop("triton")
    return report


@pytest.mark.parametrize("release", [R1, R2])
@pytest.mark.parametrize("image", [picture(), picture(CODE), picture("GATE 4", CODE, "22G1"), picture(CODE, turned=True)])
def test_server_and_process_give_the_same_bits(ask: Ask, here: dict[str, InProcessEnsemble], release: str, image: bytes) -> None:
    """With no crops, one, several, or one upside down: every step's output has the same digest in both."""
    served, computed = ask(release, image), here[release].answer(image, {})
    assert served.result == computed.result
    assert timeless(served) == timeless(computed)


@pytest.mark.parametrize("release", [R1, R2])
def test_a_clean_code_is_read(ask: Ask, release: str) -> None:
    """Both generations read a rendered container code, upright and upside down."""
    for turned, degrees in ((False, 0.0), (True, 180.0)):
        [observation] = json.loads(ask(release, picture(CODE, turned=turned)).result)["observations"]
        assert observation["label"].replace(" ", "") == CODE.replace(" ", "")
        assert observation["measures"]["orientation_deg"] == degrees
        assert observation["confidence"] > 0.9


def test_a_frame_without_text_has_an_answer(ask: Ask) -> None:
    """No crops is an answer with no observations, not a failure, and every step still reports."""
    answer = ask(R1, picture())
    assert json.loads(answer.result) == {
        "image": {"width_px": 640, "height_px": 480},
        "observations": [],
        "candidates": [],
    }
    assert [s["step"] for s in json.loads(answer.report)["steps"]] == [pin.step for pin in RELEASES[R1]]


def test_several_texts_are_read_in_order(ask: Ask) -> None:
    """Observations come from top to bottom, numbered."""
    answer = ask(R2, picture("GATE 4", CODE, "22G1"))
    assert [label.replace(" ", "") for label in labels(answer)] == ["GATE4", "MSCU1234565", "22G1"]
    assert [one["index"] for one in json.loads(answer.result)["observations"]] == [0, 1, 2]


@pytest.mark.parametrize("cut", [0, 5, 300, 6000])
def test_a_broken_picture_names_the_step(ask: Ask, here: dict[str, InProcessEnsemble], cut: int) -> None:
    """Bytes that are no picture, or the start of one, fail in dali_preprocess, in both; the next frame is read."""
    broken = picture(CODE)[:cut]
    with pytest.raises(InferenceServerException, match=r"step dali_preprocess \(model dali_preprocess version 1\): "):
        ask(R1, broken)
    with pytest.raises(StepFailedError) as failed:
        here[R1].answer(broken, {})
    assert failed.value.step == "dali_preprocess"
    image = picture(CODE)
    assert ask(R1, image).result == here[R1].answer(image, {}).result


def test_a_decompression_bomb_is_refused(ask: Ask) -> None:
    """A small file that claims more pixels than the limit is refused by its header, before it is decoded."""
    bomb = bytes(cv2.imencode(".png", np.zeros((8000, 8000), np.uint8))[1])
    with pytest.raises(InferenceServerException, match=r"step dali_preprocess .*8000x8000 pixels, more than 50000000"):
        ask(R1, bomb)


def test_a_wrong_parameter_names_itself(ask: Ask) -> None:
    """An unknown threshold is refused by the first step that reads thresholds."""
    with pytest.raises(InferenceServerException, match=r"step crop_and_resize .*unknown parameter 'text'"):
        ask(R1, picture(CODE), {"text": 0.5})


def test_thresholds_move_a_reading(ask: Ask, here: dict[str, InProcessEnsemble]) -> None:
    """A stricter text_confidence or box_threshold turns an observation into a candidate with stage and reason."""
    image = picture(CODE)
    [observation] = json.loads(ask(R1, image).result)["observations"]
    assert 0.5 < observation["confidence"] < 0.9999
    assert 0.5 < observation["detection_score"] < 0.9999
    for parameters, stage, reason in (
        ({"text_confidence": 0.9999}, "recognizer", "text_confidence below 0.9999"),
        ({"box_threshold": 0.9999}, "detection", "detection_score below box_threshold 0.9999"),
    ):
        answer = ask(R1, image, parameters)
        assert answer.result == here[R1].answer(image, parameters).result
        assert labels(answer) == []
        candidate = json.loads(answer.result)["candidates"][0]
        assert (candidate["stage"], candidate["reason"]) == (stage, reason)
        assert candidate["detection_score"] == observation["detection_score"]


@pytest.mark.parametrize("release", [R1, R2])
def test_the_report_names_what_ran(ask: Ask, repository: Path, release: str) -> None:
    """Each step reports its pinned version and the digest that its folder has on disk, and the runtime is named."""
    report = json.loads(ask(release, picture(CODE)).report)
    reported = [(s["step"], s["model"], s["version"], s["digest"]) for s in report["steps"]]
    assert reported == [
        (pin.step, pin.model, pin.version, model_digest(repository / pin.model / str(pin.version))) for pin in RELEASES[release]
    ]
    assert {step: digest for step, _, _, digest in reported} == release_digests(repository, release)
    assert report["runtime"]["triton"] != "unknown"
    assert {"onnxruntime", "numpy", "opencv", "dali", "instruction_set", "batch_form"} <= report["runtime"].keys()
    assert all(isinstance(value, str) for value in report["runtime"].values())


def test_the_server_reports_its_own_version(ask: Ask, server: triton.InferenceServerClient) -> None:
    """The version in the fingerprint is the one that the running server states."""
    report = json.loads(ask(R1, picture()).report)
    assert report["runtime"]["triton"] == server.get_server_metadata().version


def test_loading_a_release_restarts_nothing(ask: Ask, server: triton.InferenceServerClient, repository: Path) -> None:
    """Running models write nothing into their folders, so loading a release leaves the models of another alone."""
    ask(R1, picture(CODE))
    server.load_model(R1)
    server.load_model(R2)
    assert (repository.parent / "server.log").read_text().count('"loading: detection:3') == 1


def test_a_record_beside_a_version_is_nothing_to_the_server(
    ask: Ask, server: triton.InferenceServerClient, repository: Path
) -> None:
    """The digest beside a version's folder is no version: the folders alone are served, and the server does not speak of it."""
    ask(R1, picture(CODE))
    for model in {pin.model for name in (R1, R2) for pin in RELEASES[name]}:
        folders = {path.name for path in (repository / model).iterdir() if path.is_dir() and path.name != "configs"}
        records = {path.name for path in (repository / model).glob("*.sha256")}
        assert records == {f"{name}.sha256" for name in folders}
        index = server.get_model_repository_index().models
        assert {one.version for one in index if one.name == model and one.state == "READY"} == folders
    assert ".sha256" not in (repository.parent / "server.log").read_text()


def test_a_step_that_cannot_report_is_left_out(ask: Ask, server: triton.InferenceServerClient) -> None:
    """An ensemble with a backend that gives no report answers the same, and its REPORT holds the other steps."""
    server.load_model("without_a_report")
    image = picture(CODE)
    silent = ask("without_a_report", image)
    assert silent.result == ask(R1, image).result
    assert [s["step"] for s in json.loads(silent.report)["steps"]] == [
        pin.step for pin in RELEASES[R1] if pin.step != "detection"
    ]


def test_building_again_changes_nothing(repository: Path) -> None:
    """An unchanged repository is not touched, and a damaged file or a stray one is put right."""
    weights = Path(__file__).parents[2] / ".hindsight" / "servers" / "weights"
    copy = repository.parent / "copy"
    shutil.copytree(repository, copy)
    stamps = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    build_repository(copy, weights)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == stamps
    digests = release_digests(copy, R1)
    (copy / "detection" / "3" / "steps" / "detection.py").write_text("broken")
    (copy / "recognizer" / "1" / "stray.txt").write_text("stray")
    assert release_digests(copy, R1) != digests
    build_repository(copy, weights)
    assert release_digests(copy, R1) == digests


def test_a_release_runs_the_source_in_its_folder(repository: Path) -> None:
    """In this process too, what decides the answer is the copy in the repository and not today's source."""
    copy = repository.parent / "other_source"
    shutil.copytree(repository, copy)
    source = copy / "postprocess" / "1" / "steps" / "postprocess.py"
    source.write_text(source.read_text().replace('"kind": "text"', '"kind": "old text"'))
    answer = InProcessEnsemble(copy, RELEASES[R1]).answer(picture(CODE), {})
    assert [one["kind"] for one in json.loads(answer.result)["observations"]] == ["old text"]
    assert json.loads(answer.report)["steps"][-1]["digest"] == release_digests(copy, R1)["postprocess"]
