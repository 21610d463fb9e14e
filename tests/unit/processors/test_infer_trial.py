"""infer, on trial: a candidate that cannot read a frame costs nothing but time; the release in force reads it instead."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from schemas.errors import InferenceTimeoutError, InferenceUnavailableError, StepFailedError
from schemas.events import CandidateFailed, FrameAccepted, InferenceCompleted, InferenceFailed
from schemas.types import RolloutArm
from streams.memory import MemoryBlobStore
from streams.ports import Answer
from tests.given import AT_US, accepted, cause
from tests.simulation import virtual_time

PINNED = "ab" * 32
BAD_ANSWER = "an answer that breaks the contract"
ARM = RolloutArm(rollout_id="trial", kind="canary", stage=1, arm="candidate")
R1 = Route(release="r1", parameters={}, pins={"detection": PINNED}, releases_offset=4)
R2 = Route(release="r2", parameters={}, pins={"detection": PINNED}, releases_offset=4, rollout=ARM, instead=R1)
RESULT = json.dumps({"image": {"width_px": 1, "height_px": 1}, "observations": [], "candidates": []}).encode()


class Server:
    """An inference server in memory: what each release does when it is asked, and who was asked."""

    def __init__(self, **troubles: Exception | str) -> None:
        self.troubles = troubles
        self.asked: list[str] = []

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        self.asked.append(release)
        trouble = self.troubles.get(release, PINNED)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble == BAD_ANSWER:
            return Answer(result_json=b'{"observations": 7}', report_json=b'{"steps": [], "runtime": {}}', endpoint="one:8001")
        step = {"step": "detection", "model": "detection", "version": 3, "variant": "v", "digest": trouble}
        return Answer(result_json=RESULT, report_json=json.dumps({"steps": [step], "runtime": {}}).encode(), endpoint="one:8001")


def events(server: Server, *routes: Route) -> tuple[Any, ...]:
    """What follows from one frame; it is routed so at first, and then as the last of the routes says."""
    left = list(routes or (R2,))
    blobs, found = MemoryBlobStore(), []
    event: FrameAccepted = accepted()
    event = replace(event, frame=replace(event.frame, blob=blobs.put(b"image", "image/jpeg")))
    step = InferStep(
        pipeline="gate",
        route=lambda frame: left.pop(0) if len(left) > 1 else left[0],
        inference=server,
        blobs=blobs,
        clock=lambda: AT_US,
        retries=Retries(attempts_max=3),
        concurrency=6,
    )

    async def whole() -> None:
        where = cause(3, "vision.assessments")
        prepared = await step.prepare(event, where)
        found.append((step.decide(step.initial, event, prepared.answer, where), prepared.dead_letter))

    virtual_time.run(whole)
    return (*found[0][0], found[0][1])


def test_a_candidate_that_answers_reads_the_frame() -> None:
    """Its answer is the frame's, and names the trial."""
    server = Server()
    read, letter = events(server)
    assert isinstance(read, InferenceCompleted)
    assert (read.release, read.rollout, letter, server.asked) == ("r2", ARM, None, ["r2"])


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (StepFailedError("boom", step="detection"), ("step_failed", "detection")),
        (InferenceTimeoutError("slow", endpoint="one:8001"), ("timeout", None)),
        (InferenceUnavailableError("not there"), ("unavailable", None)),
        ("ef" * 32, ("unavailable", None)),
        (BAD_ANSWER, ("bad_answer", None)),
        (RuntimeError("whatever a library makes of it"), ("unexpected", None)),
    ],
)
def test_where_it_fails_the_release_in_force_reads_the_frame(trouble: Exception | str, told: tuple[str, str | None]) -> None:
    """One try and no dead letter; the frame has one outcome, which says so, and the failure is told beside."""
    server = Server(r2=trouble)
    read, failed, letter = events(server)
    assert isinstance(read, InferenceCompleted)
    side = None if told[0] == "unavailable" else replace(ARM, arm="candidate_failed")
    assert (read.release, read.rollout, letter) == ("r1", side, None)
    assert isinstance(failed, CandidateFailed)
    assert (failed.release, failed.rollout, failed.incumbent_release) == ("r2", ARM, "r1")
    assert (failed.error_class, failed.failed_step) == told
    assert server.asked == ["r2", "r1"]


def test_a_frame_that_neither_can_read_has_failed_by_the_release_in_force() -> None:
    """Its retries are those of any frame, and it is a dead letter."""
    server = Server(r1=StepFailedError("no", step="x"), r2=StepFailedError("boom", step="y"))
    read, failed, letter = events(server)
    assert isinstance(read, InferenceFailed)
    assert (read.release, read.attempts, read.rollout) == ("r1", 3, replace(ARM, arm="candidate_failed"))
    assert isinstance(failed, CandidateFailed)
    assert letter == "step_failed: no"


def test_while_no_server_answers_the_frame_waits() -> None:
    """Nothing is recorded of either."""
    with pytest.raises(InferenceUnavailableError):
        events(Server(r1=InferenceUnavailableError("away"), r2=InferenceUnavailableError("away")))


def test_a_frame_that_waits_when_a_trial_begins_is_not_given_to_it() -> None:
    """It was routed before, and is tried as often as any frame, by the release in force."""
    server = Server(r1=StepFailedError("no", step="x"), r2=StepFailedError("boom", step="y"))
    read, letter = events(server, R1, R2)
    assert (type(read), read.release, read.attempts, letter) == (InferenceFailed, "r1", 3, "step_failed: no")
    assert server.asked == ["r1"] * 3
