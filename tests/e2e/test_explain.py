"""`hindsight explain` on a live log of real servers and real models."""

import json
from pathlib import Path

import pytest

from schemas.catalogue import RESULTS
from schemas.codec import decode
from schemas.events import ResultDerived
from streams.partitioning import partition_of
from tests.e2e.deployment import R1, Deployment
from tests.e2e.pictures import code_of
from tests.pages import read_page

DEVICE = "explain-1"


@pytest.fixture
def at_work(running: Deployment) -> Deployment:
    """Ten frames of one device have gone all the way: five with nothing on them, five with a code each."""
    if DEVICE not in running._sent:
        running.publish([DEVICE], 10, passage=10)
        running.drain()
    return running


def test_a_result_is_explained(at_work: Deployment, tmp_path: Path) -> None:
    """By position, by its id and by its frame's: models, promotion, thresholds, votes and pictures, as text, JSON and page."""
    partition = partition_of(DEVICE.encode(), len(at_work.log.partitions(RESULTS)))
    kept = at_work.log.read(RESULTS, partition, 0, at_work.log.bounds(RESULTS, partition).end)
    results = ((r, decode(r.value, RESULTS, at_work.schemas)) for r in kept if r.key == DEVICE.encode())
    mine = next(r for r, event in results if isinstance(event, ResultDerived) and event.frame.sequence == 7)
    file = tmp_path / "result.html"
    answer = at_work.hindsight("explain", f"vision.results/{partition}/{mine.offset}", "--format", "json", "--html", str(file))
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["missing"] == []
    assert told["release"]["release"] == R1
    assert told["release"]["decided"]["by"] == "test"
    assert [s["as_pinned"] for s in told["steps"]] == [True] * len(told["steps"])
    assert len(told["steps"]) == len(told["release"]["pins"]) == 6
    assert told["passage"]["agrees"] is True
    assert [v["sequence"] for v in told["passage"]["votes"]] == list(range(8))
    assert told["result"]["content"]["readings"][0]["label"] == code_of(7)
    assert {t["name"]: t["set_by"]["event"] for t in told["release"]["thresholds"]} == {
        t["name"]: "ReleaseRegistered" for t in told["release"]["thresholds"]
    }
    read = read_page(file.read_text())
    assert read.troubles == []
    assert len(read.images) >= 2
    for target in (told["result"]["event_id"], told["frame_ref"]["frame_id"], told["inference"]["event_id"]):
        same = json.loads(at_work.hindsight("explain", target, "--device", DEVICE, "--format", "json").stdout)
        assert same["result"] == told["result"]
        assert same["passage"] == told["passage"]
    text = at_work.hindsight("explain", told["frame_ref"]["frame_id"]).stdout
    assert f'container_code "{code_of(7)}" (valid)' in text
    assert at_work.hindsight("explain", "no-such-id", "--device", DEVICE).returncode == 1
