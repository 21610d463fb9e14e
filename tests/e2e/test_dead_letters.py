"""Dead letters on the real stack: models break and are mended, and every frame is read once, whoever dies meanwhile."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from processors.letters import Letter, letter_of
from processors.redriven import redriven_of
from schemas.catalogue import ASSESSMENTS, DEAD_LETTERS, INFERENCES, REDRIVES
from schemas.codec import decode
from schemas.events import LetterRedriven
from schemas.types import FrameId
from tests.docs.console import Shell, follow
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, CHECKOUT, Deployment, devices_on_every_partition, outcomes_of, troubles, until

DEVICES = devices_on_every_partition()
LAUNCHER = (str(CHECKOUT / "tests" / "e2e" / "breaking_worker.py"),)


@pytest.fixture
def gates(deploy: Deploy) -> Deployment:
    """A worker whose models can be broken, at work."""
    deployment = deploy(LAUNCHER)
    deployment.start_workers(ALL)
    deployment.put_in_force()
    return deployment


def broken(gates: Deployment, *, is_broken: bool) -> None:
    flag = gates.folder / "broken"
    flag.touch() if is_broken else flag.unlink()


def fail(gates: Deployment, frames_each: int) -> tuple[FrameId, ...]:
    """Frames that fail, one read before them and one after them; the models are mended then."""
    gates.publish(DEVICES, 1)
    gates.drain()
    broken(gates, is_broken=True)
    failed = gates.publish(DEVICES, frames_each)
    gates.drain()
    broken(gates, is_broken=False)
    gates.publish(DEVICES, 1)
    gates.drain()
    return failed


def letters(gates: Deployment) -> list[Letter]:
    return [letter_of(r) for r in gates.log.read(DEAD_LETTERS, 0, 0, gates.log.bounds(DEAD_LETTERS, 0).end)]


def copies(gates: Deployment) -> dict[int, list[tuple[bytes | None, int]]]:
    """What lies on vision.assessments again, by partition: values, and which letter's they are."""
    found: dict[int, list[tuple[bytes | None, int]]] = {}
    for partition in gates.log.partitions(ASSESSMENTS):
        for record in gates.log.read(ASSESSMENTS, partition, 0, gates.log.bounds(ASSESSMENTS, partition).end):
            if (redriven := redriven_of(record)) is not None:
                found.setdefault(partition, []).append((record.value, redriven.letter_offset))
    return found


@pytest.mark.slow
def test_frames_that_failed_are_read_when_they_are_redriven(gates: Deployment) -> None:
    """Fail, mend, redrive: the same bytes in their order, one counted result for each frame, and nothing left to do."""
    failed = fail(gates, 3)
    kept = letters(gates)
    assert len(kept) == len(failed)
    listed = json.loads(gates.hindsight("dlq", "list", "--format", "json").stdout)
    assert [(x["frame"], x["state"], x["processor"]) for x in listed] == [
        (str(decode(x.value, ASSESSMENTS, gates.schemas).frame.frame_id), "open", "infer") for x in kept
    ]
    asked = gates.hindsight("dlq", "redrive", "--processor", "infer", "--reason", "model mended", "--yes")
    assert asked.returncode == 0, asked.stderr + asked.stdout
    gates.drain()
    assert troubles(gates) == []
    assert "failed" not in outcomes_of(gates)
    for partition, found in copies(gates).items():
        mine = [x for x in kept if x.partition == partition]
        assert found == [(x.value, x.offset) for x in mine]
    assert "no open letters" in gates.hindsight("dlq", "list").stdout
    told = gates.hindsight("dlq", "show", "0").stdout
    assert "InferenceFailed at" in told, told
    assert "InferenceCompleted at" in told, told
    explained = gates.hindsight("explain", str(failed[0])).stdout
    assert "Stub process" not in explained.split("dead letter")[0], explained


@pytest.mark.long
def test_a_worker_killed_while_letters_are_redriven_leaves_each_frame_read_once(gates: Deployment) -> None:
    """kill -9 at several points of a redrive, and a new worker: each letter has one event, and each frame one result."""
    for pause_s in (0.0, 0.02, 0.1):
        start = gates.log.bounds(DEAD_LETTERS, 0).end
        fail(gates, 2)
        end, before = gates.log.bounds(DEAD_LETTERS, 0).end, gates.appended(ASSESSMENTS)
        named = [arg for n in range(start, end) for arg in ("--offset", str(n))]
        asking = subprocess.Popen(
            [sys.executable, "-m", "topology.cli", "dlq", "redrive", *named, "--reason", "again", "--yes"],
            cwd=gates.folder,
            env=gates.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        until(lambda b=before: gates.appended(ASSESSMENTS) > b, within_s=60, what="the first copies")  # type: ignore[misc]
        threading.Event().wait(pause_s)
        for worker in gates.living():
            worker.kill()
        gates.start_workers(ALL)
        said, _ = asking.communicate(timeout=180)
        assert asking.returncode == 0, said
        gates.drain(within_s=120)
        assert troubles(gates) == []
        assert "failed" not in outcomes_of(gates)
    events = [decode(r.value, REDRIVES, gates.schemas) for r in gates.log.read(REDRIVES, 0, 0, gates.log.bounds(REDRIVES, 0).end)]
    assert {e.letter_offset for e in events if isinstance(e, LetterRedriven)} == {x.offset for x in letters(gates)}


@pytest.mark.slow
def test_a_record_that_goes_on_failing_is_refused_at_the_bound(gates: Deployment) -> None:
    """The letter of the third attempt is refused by name and says what to do; nothing runs in a circle meanwhile."""
    broken(gates, is_broken=True)
    gates.publish(DEVICES[:1], 1)
    gates.drain()
    for number in range(3):
        asked = gates.hindsight("dlq", "redrive", "--offset", str(number), "--reason", "hope", "--yes")
        assert asked.returncode == 0, asked.stderr
        gates.drain()
    assert [x.attempts for x in letters(gates)] == [0, 1, 2, 3]
    asked = gates.hindsight("dlq", "redrive", "--offset", "3", "--reason", "hope", "--yes")
    assert asked.returncode == 1
    assert "refused: 3 (attempts)" in asked.stdout
    assert "--beyond-limit" in asked.stdout
    assert (troubles(gates), outcomes_of(gates)) == ([], {"failed": 1})
    until(lambda: len(letters(gates)) == 4, within_s=5, what="four letters, and no more")
    broken(gates, is_broken=False)
    assert gates.hindsight("dlq", "redrive", "--offset", "3", "--beyond-limit", "--reason", "mended", "--yes").returncode == 0
    gates.drain()
    assert (troubles(gates), outcomes_of(gates)) == ([], {"nothing_read": 1})
    answers = [e for p in gates.log.partitions(INFERENCES) for e in read(gates, p)]
    assert len(answers) == 5


def read(gates: Deployment, partition: int) -> list[object]:
    end = gates.log.bounds(INFERENCES, partition).end
    return [decode(r.value, INFERENCES, gates.schemas) for r in gates.log.read(INFERENCES, partition, 0, end)]


@pytest.mark.slow
def test_the_page_does_what_it_says(gates: Deployment) -> None:
    """Every command of the page ends as the page says and prints what the page says."""
    fail(gates, 1)
    environment = {**gates.environment(), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    with Shell(gates.folder, environment) as shell:
        follow(CHECKOUT / "docs" / "how-to" / "dead-letters.md", shell, timeout_s=120)
    gates.drain()
    assert troubles(gates) == []
