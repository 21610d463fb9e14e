"""Frames that real workers read with a real Triton, read again from log and blob store alone, by the commands."""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import TOPICS
from streams.past import Past
from tests.docs.console import Shell, follow
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, CHECKOUT, R1, R2, Deployment, devices_on_every_partition, until
from topology import commands, wiring
from topology.model_store import registered

DEVICES = devices_on_every_partition()[:2]
HOW_TO = CHECKOUT / "docs" / "how-to"
# `make reinfer-rates` reads more.
FRAMES_EACH = int(os.environ.get("REINFER_FRAMES", "24")) // len(DEVICES)


@pytest.fixture
def read(running: Deployment) -> Deployment:
    """Frames of two devices, read."""
    if len(running.frames) < FRAMES_EACH * len(DEVICES):
        running.publish(DEVICES, FRAMES_EACH, passage=10)
    running.drain(within_s=240)
    return running


def asked(deployment: Deployment, *arguments: str, ends: int = 0) -> dict[str, Any]:
    """A command's answer as JSON."""
    answer = deployment.hindsight(*arguments, "--format", "json")
    assert answer.returncode == ends, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_every_frame_of_a_run_is_reproduced_bit_for_bit(read: Deployment) -> None:
    """What the live Triton recorded, the same files give in this process; the rates are printed and exported."""
    metrics = read.folder / "reinfer.prom"
    found = asked(read, "reinfer", "--from", "1 hour ago", "--metrics", str(metrics))
    rates = found["rates"]
    print(json.dumps({**rates, "took_s": found["took_s"]}, indent=1))
    assert rates["frames"] == len(read.frames)
    assert rates["verdicts"] == {"recorded": {"bit-exact": rates["frames"]}}
    for backend in ("dali_cpu", "onnxruntime_cpu", "python_cpu"):
        assert rates["backends"][backend]["outputs_equal"] == rates["backends"][backend]["outputs_compared"] > 0
    line = 'hindsight_reinference_frames{runner="in process",form="recorded",verdict="bit_exact"}'
    assert f"{line} {rates['frames']}" in metrics.read_text().splitlines()
    assert {f["frame_id"] for f in found["frames"]} == set(read.frames)


def test_one_frame_is_read_again_in_process_and_on_a_triton_of_its_own(read: Deployment) -> None:
    """By its id; the same verdict from both. A frame that nobody knows, and half a question, end with 1 and 2."""
    frame = read.frames[-1]
    for more in ((), ("--triton",)):
        found = asked(read, "reinfer", frame, *more)
        assert found["rates"]["verdicts"] == {"recorded": {"bit-exact": 1}}
        assert found["frames"][0]["frame_id"] == frame
    unknown = read.hindsight("reinfer", "00000000-0000-0000-0000-000000000000")
    assert (unknown.returncode, "no model was asked about frame" in unknown.stderr) == (1, True)
    assert read.hindsight("reinfer").returncode == 2


def test_a_changed_byte_in_the_store_is_named_and_registering_again_mends_it(read: Deployment) -> None:
    """With S3 holding other bytes under a network's name nothing is judged; `models register` puts the file back."""
    store = wiring.blob_store(read.settings)
    past = Past(log=read.log, schemas=read.schemas, blobs=store, source="live")
    network = next(e for e in registered(past, "gate_reader") if (e.model, e.version) == ("recognizer", 1))
    blob = next(f.blob for f in network.files if f.path == "model.onnx")
    whole = store.get(blob)
    shutil.rmtree(read.stack.layout.home / "models" / network.digest, ignore_errors=True)
    name = f"sha256/{blob.sha256[:2]}/{blob.sha256}"
    changed = whole[:77] + bytes([whole[77] ^ 1]) + whole[78:]
    wiring.blobs_bucket(read.settings).write(name, changed, blob.media_type)
    found = asked(read, "reinfer", read.frames[-1], ends=1)
    assert "file model.onnx of recognizer:1 was changed in the blob store" in found["frames"][0]["problem"]

    folder = read.stack.layout.model_repository / "recognizer" / "1"
    mended = read.hindsight("models", "register", str(folder), "--name", "recognizer", "--version", "1")
    assert (mended.returncode, "stored again" in mended.stdout) == (0, True), mended.stderr
    assert asked(read, "reinfer", read.frames[-1])["rates"]["verdicts"] == {"recorded": {"bit-exact": 1}}


def test_a_model_version_never_changes(read: Deployment, tmp_path: Path) -> None:
    """The same version with other files is refused, and the list stays as it was."""
    copy = tmp_path / "1"
    shutil.copytree(read.stack.layout.model_repository / "postprocess" / "1", copy)
    (copy / "settings.json").write_text((copy / "settings.json").read_text().replace("16", "17"))
    before = read.hindsight("models", "list", "--format", "json").stdout
    refused = read.hindsight("models", "register", str(copy), "--name", "postprocess", "--version", "1")
    assert refused.returncode == 1
    assert "a model version never changes" in refused.stderr
    assert read.hindsight("models", "list", "--format", "json").stdout == before
    shown = asked(read, "models", "show", "postprocess:1")
    assert all(shown["there"].values())
    assert read.hindsight("models", "show", "postprocess:9").returncode == 1


@pytest.fixture
def still(deploy: Deploy) -> Deployment:
    """Frames read by one release, another one registered and loaded, and nobody at work any more."""
    deployment = deploy()
    (worker,) = deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    deployment.publish(DEVICES, 10, passage=10)
    deployment.drain()
    deployment.register(R2)
    until(
        lambda: commands.releases_now(deployment.settings).releases[R2].loaded_on,
        within_s=120,
        what=f"{R2} loaded",
    )
    deployment.drain()
    worker.terminate(within_s=60)
    return deployment


def everything(deployment: Deployment) -> dict[str, Any]:
    """The end of every partition, every key of the view store, and every object of the blob store."""

    async def redis() -> dict[str, str]:
        client = wiring.redis_client(deployment.settings)
        found = {}
        async for key in client.scan_iter(match=deployment.namespace.redis_key("*")):
            found[key.decode()] = hashlib.sha256(await client.dump(key)).hexdigest()
        await client.aclose()
        return found

    return {
        "ends": {topic: deployment.ends(topic) for topic in TOPICS},
        "redis": asyncio.run(redis()),
        "blobs": sorted(wiring.blob_store(deployment.settings).names()),
    }


def test_a_question_changes_nothing(still: Deployment) -> None:
    """`whatif` and `reinfer` leave Kafka's ends, Redis's keys and S3's objects as they were; what they say is sound."""
    before = everything(still)
    assert before["redis"]
    page = still.folder / "whatif.html"
    report = asked(still, "whatif", "--from", "1 hour ago", "--release", R2, "--html", str(page))
    strict = asked(still, "whatif", "--from", "1 hour ago", "--threshold", "text_confidence=0.99")
    itself = asked(still, "whatif", "--from", "1 hour ago", "--release", R1)
    again = asked(still, "reinfer", "--from", "1 hour ago")
    assert everything(still) == before

    assert (report["frames"], report["frames_not_read"], report["question"]["release"]) == (20, 0, R2)
    assert {(r["recorded"], r["whatif"]) for r in report["outcomes"]} <= {
        ("read", "read"),
        ("nothing_read", "nothing_read"),
        ("read", "nothing_read"),
        ("nothing_read", "read"),
    }
    assert report["agreement"]["frames"]["low"] <= report["agreement"]["frames"]["rate"] <= report["agreement"]["frames"]["high"]
    assert strict["readings"]["lost"] >= report["readings"]["lost"]
    assert strict["readings"]["lost"] > 0
    (first, *_) = strict["worst"][0]["changes"]
    assert first["kind"] == "lost"
    assert "text_confidence below 0.99" in first["why"]
    # Asked with the very release that read the frames, nothing differs: cores and models are the live ones.
    assert itself["readings"] == {"same": itself["readings"]["same"], "moved": 0, "changed": 0, "lost": 0, "gained": 0}
    assert itself["agreement"]["frames"]["rate"] == itself["agreement"]["passages"]["rate"] == 1.0
    assert (itself["alerts"]["gained"], itself["alerts"]["lost"], itself["worst"]) == (0, 0, [])
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert again["rates"]["verdicts"] == {"recorded": {"bit-exact": 20}}


@pytest.mark.parametrize("page", ["reinfer.md", "what-if.md"])
def test_the_pages_do_what_they_say(read: Deployment, page: str) -> None:
    """Every command of the how-to ends and prints as the page says."""
    if R2 not in commands.releases_now(read.settings).releases:
        read.register(R2)
    environment = {**read.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"FRAME": read.frames[-1], "REPOSITORY": str(read.stack.layout.model_repository)}
    with Shell(read.folder, environment) as shell:
        follow(HOW_TO / page, shell, timeout_s=180)
