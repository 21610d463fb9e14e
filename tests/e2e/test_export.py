"""Exports of a real run: what the files hold is what is on the log, and the page about them is true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import rerun as rr
from mcap.reader import make_reader

from processors.export.json_lines import moment_of
from processors.export.moments import moments
from processors.export.window import CHAIN, Window
from schemas.events import FrameCaptured, InferenceCompleted, ResultDerived
from streams.past import Past
from tests.docs.console import Shell, commands, follow
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, CHECKOUT, Deployment
from tests.e2e.pictures import picture
from topology import wiring

PAGE = CHECKOUT / "docs" / "how-to" / "export.md"
DEVICES = ("gate-1", "gate-2")
FRAMES_EACH = 6


@pytest.fixture
def recorded(deploy: Deploy) -> Deployment:
    """A run of two devices, counted to its end; its worker has left, so that nothing is added while the log is read again."""
    deployment = deploy()
    deployment.start_workers(ALL)
    deployment.put_in_force()
    deployment.publish(DEVICES, FRAMES_EACH, passage=FRAMES_EACH)
    deployment.drain()
    for worker in deployment.living():
        worker.terminate(within_s=30)
    return deployment


def past_of(deployment: Deployment) -> Past:
    blobs = wiring.blob_store(deployment.settings)
    return Past(log=deployment.log, schemas=deployment.schemas, blobs=blobs, source="the live log")


def exported(deployment: Deployment, *arguments: str) -> dict[str, object]:
    """The summary of an export that went well."""
    answer = deployment.hindsight("export", *arguments, "--format", "json")
    assert answer.returncode == 0, answer.stderr
    summary: dict[str, object] = json.loads(answer.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_format_holds_what_is_on_the_log(recorded: Deployment) -> None:
    """Each file, read by its own library, has the frames, images, readings and events of the real log; the page is true."""
    folder, past = recorded.folder, past_of(recorded)
    whole = list(moments(past, Window()))
    assert len(whole) == sum(recorded.appended(topic) for topic in CHAIN)
    captured = [m for m in whole if isinstance(m.event, FrameCaptured)]
    assert len(captured) == len(DEVICES) * FRAMES_EACH

    lines_said = exported(recorded, "-o", "w.jsonl")
    lines = (folder / "w.jsonl").read_text().splitlines()
    assert [moment_of(line).event for line in lines] == [m.event for m in whole]
    assert lines_said["records"] == len(whole)

    assert exported(recorded, "-o", "w.mcap")["images"] == len(captured)
    with (folder / "w.mcap").open("rb") as file:
        counts: dict[str, int] = {}
        for _, channel, _ in make_reader(file, validate_crcs=True).iter_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
    assert {name: counts[f"/{name}/image"] for name in DEVICES} == dict.fromkeys(DEVICES, FRAMES_EACH)
    assert sum(n for topic, n in counts.items() if topic.startswith("/events/")) == len(whole)

    exported(recorded, "-o", "w.rrd")
    recording = rr.dataframe.load_recording(folder / "w.rrd")
    table = recording.view(index="captured", contents="/gate-1/image").select().read_all()
    blobs = [bytes(one[0]) for one in table.column("/gate-1/image:Blob").to_pylist() if one]
    assert blobs == [past.blobs.get(m.event.frame.blob) for m in captured if m.event.frame.device_id == "gate-1"]

    exported(recorded, "-o", "w.parquet")
    results = [m.event for m in whole if isinstance(m.event, ResultDerived)]
    readings = pq.read_table(folder / "w.parquet").to_pylist()
    assert [r["label"] for r in readings] == [reading.label for event in results for reading in event.readings]
    frames = pq.read_table(folder / "w.frames.parquet").to_pylist()
    assert {f["frame_id"]: f["outcome"] for f in frames} == {e.frame.frame_id: e.outcome for e in results}

    exported(recorded, "--as", "mp4", "-o", "w")
    for device in DEVICES:
        with av.open(str(folder / "w" / f"{device}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES_EACH
    assert any(isinstance(m.event, InferenceCompleted) and m.event.observations for m in whole), "nothing was there to draw"

    cuts_the_log_in_two(recorded, len(whole))
    a_missing_blob_and_a_broken_word_are_said(recorded, captured[0].event)
    the_page_is_true(recorded)


def cuts_the_log_in_two(recorded: Deployment, records: int) -> None:
    """A window and the one after it have every record once between them, by Kafka's own clock."""
    middle_ms = sorted(m.record.appended_at_ms for m in moments(past_of(recorded), Window()))[records // 2]
    middle = f"{middle_ms / 1000:.3f}"
    at = subprocess.run(
        ["date", "-u", "-d", f"@{middle}", "+%FT%T.%3NZ"], capture_output=True, text=True, check=True
    ).stdout.strip()
    before, after = exported(recorded, "--to", at, "-o", "before.jsonl"), exported(recorded, "--from", at, "-o", "after.jsonl")
    assert isinstance(before["records"], int)
    assert isinstance(after["records"], int)
    assert before["records"] > 0 < after["records"]
    assert before["records"] + after["records"] == records


def a_missing_blob_and_a_broken_word_are_said(recorded: Deployment, captured: FrameCaptured) -> None:
    """A blob that is gone from S3 and a device that nobody knows are facts, not failures."""
    blobs = wiring.blob_store(recorded.settings)
    blobs.discard(captured.frame.blob)
    said = exported(recorded, "--device", captured.frame.device_id, "-o", "gone.mp4")
    assert isinstance(said["missing_images"], dict)
    assert sum(said["missing_images"].values()) == 1
    blobs.put(picture(captured.frame.sequence), captured.frame.blob.media_type)

    for arguments, code in (
        (("-o", "w.jsonl"), 2),
        (("-o", "w.doc"), 2),
        (("-o", "x.mp4"), 2),
        (("-o", "x.mp4", "--device", "no"), 1),
    ):
        answer = recorded.hindsight("export", *arguments)
        assert answer.returncode == code, (arguments, answer.stdout, answer.stderr)
        assert "Traceback" not in answer.stderr
        assert answer.stderr
    assert not list(recorded.folder.rglob("*.partial"))
    assert not (recorded.folder / "x.mp4").exists()


def the_page_is_true(recorded: Deployment) -> None:
    """Every command of docs/how-to/export.md does what the page says, on a folder of its own."""
    folder = recorded.folder / "page"
    folder.mkdir()
    environment = {**recorded.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Shell(folder, environment) as shell:
        follow(PAGE, shell, timeout_s=120)
    assert len(list(commands(PAGE))) == sum(line.startswith("$ ") for line in PAGE.read_text().splitlines()) >= 11
