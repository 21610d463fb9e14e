"""Trials and switches on the real stack, under load: a bad candidate ends by itself, and a switch is exact to the frame."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from processors.release.core import INITIAL, PipelineReleases, fold
from schemas.catalogue import CANDIDATES, INFERENCES, RELEASES
from schemas.events import (
    CandidateCompleted,
    CandidateFailed,
    InferenceCompleted,
    ReleasePromoted,
    ReleaseRolledBack,
    RolloutEnded,
)
from streams.events import events_of
from tests.e2e import planted
from tests.e2e.deployment import ALL, R1, R2, Deployment, devices_on_every_partition, troubles, until
from topology import commands

DEVICES = devices_on_every_partition()


@contextmanager
def load(deployment: Deployment, *, ahead: int = 24) -> Iterator[None]:
    """Frames are published as fast as they are read, each a passage of its own, for as long as the block runs."""
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            if len(deployment.frames) - deployment.appended(INFERENCES) < ahead:
                deployment.publish(DEVICES, 4, passage=1)
            else:
                stop.wait(0.05)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def events(deployment: Deployment, topic: str, kind: Any = object) -> list[tuple[int, int, Any]]:
    """Moment (ms), offset and event of everything of a kind on a topic."""
    return [
        (record.appended_at_ms, record.offset, event)
        for partition in deployment.log.partitions(topic)
        for record, event in events_of(deployment.log, deployment.schemas, topic, partition)
        if isinstance(event, kind)
    ]


def releases_now(deployment: Deployment) -> PipelineReleases:
    return commands.releases_now(deployment.settings)


def states(deployment: Deployment) -> dict[int, PipelineReleases]:
    """The releases as they stood before each offset of the log."""
    state, known = INITIAL, {0: INITIAL}
    for _, offset, event in events(deployment, RELEASES):
        state = fold(state, event)
        known[offset + 1] = state
    return known


@pytest.mark.timeout(400)
@pytest.mark.parametrize("which", [planted.MISREADS, pytest.param(planted.CRASHES, marks=pytest.mark.long)])
def test_a_bad_candidate_at_ten_percent_is_rolled_back_by_itself(deployment: Deployment, which: str) -> None:
    """Under load: judged failed and over, after a bounded number of its frames; no frame is lost to it, and after its end
    none is read by it."""
    steps = {planted.MISREADS: planted.misreading, planted.CRASHES: planted.crashing}[which](deployment.stack)
    deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    planted.register(deployment, which, steps)
    with load(deployment):
        until(lambda: releases_now(deployment).releases[which].loaded_on, within_s=60, what="loaded")
        begun = deployment.hindsight("releases", "canary", which, "--percent", "10", "--reason", "planted")
        assert begun.returncode == 0, begun.stderr
        until(lambda: events(deployment, RELEASES, RolloutEnded), within_s=240, what="the canary is over")
    deployment.drain(within_s=120)
    ((_, ended_offset, ended),) = events(deployment, RELEASES, RolloutEnded)
    assert (ended.outcome, ended.release, ended.issued_by) == ("rolled_back", which, "hindsight")
    read = [e for _, _, e in events(deployment, INFERENCES, InferenceCompleted)]
    failed = events(deployment, CANDIDATES, CandidateFailed)
    by_it = [e for e in read if e.release == which]
    assert all(e.releases_offset <= ended_offset for e in by_it)
    assert len(read) == len(deployment.frames)
    assert troubles(deployment) == []
    during = [e for e in read if e.rollout is not None or e.release == which]
    print(f"{which}: judged by {ended.reason}; {len(by_it) + len(failed)} of its frames of about {len(during) + len(failed)}")
    shown = deployment.hindsight("releases", "show", which)
    assert "last verdict: failed" in shown.stdout, shown.stdout
    refused = deployment.hindsight("releases", "promote", which)
    assert (refused.returncode, "verdict_failed" in refused.stderr) == (1, True)


def test_a_switch_under_load_is_exact_to_the_frame_and_a_way_back_takes_a_moment(deployment: Deployment) -> None:
    """Every frame has a result; every one was read by the release that the log had in force where its reader stood, and that
    was loaded before; going back is in effect on new frames within 2 s of the request."""
    deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    deployment.register(R2)
    with load(deployment):
        until(lambda: deployment.appended(INFERENCES) > 20, within_s=60, what="frames are read")
        assert deployment.hindsight("releases", "promote", R2, "--reason", "newer").returncode == 0
        until(lambda: _read_by(deployment, R2) > 20, within_s=60, what="frames are read by the second")
        back = deployment.hindsight("releases", "rollback", "--reason", "worse at night")
        assert back.returncode == 0, back.stderr
        before = deployment.appended(INFERENCES)
        until(lambda: deployment.appended(INFERENCES) > before + 40, within_s=60, what="frames are read again")
    deployment.drain()
    assert troubles(deployment) == []
    known = states(deployment)
    switches = [e for _, _, e in events(deployment, RELEASES, (ReleasePromoted, ReleaseRolledBack))]
    assert [(type(e).__name__, e.release) for e in switches] == [
        ("ReleasePromoted", R1),
        ("ReleasePromoted", R2),
        ("ReleaseRolledBack", R1),
    ]
    read = events(deployment, INFERENCES, InferenceCompleted)
    assert len(read) == len(deployment.frames)
    for _, _, event in read:
        state = known[event.releases_offset]
        assert event.release == state.in_force
        assert state.releases[event.release].loaded_on
    requested_us = switches[2].rolled_back_at_us
    first = min(e.started_at_us for _, _, e in read if e.release == R1 and e.started_at_us > requested_us)
    asked_ms = max(at_ms for at_ms, _, e in events(deployment, RELEASES) if getattr(e, "is_rollback", False))
    print(f"from the request to the first frame read again: {first / 1000 - asked_ms:.0f} ms")
    assert first / 1000 - asked_ms < 2000


def test_a_shadow_reads_beside_and_never_reaches_results(deployment: Deployment) -> None:
    """Each frame has one result, by the release in force; what the shadow read is measured, and ends when it is told."""
    deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    deployment.register(R2)
    until(lambda: releases_now(deployment).releases[R2].loaded_on, within_s=60, what="loaded")
    assert deployment.hindsight("releases", "shadow", R2).returncode == 0
    deployment.publish(DEVICES, 10, passage=2)
    deployment.drain()
    until(lambda: len(events(deployment, CANDIDATES)) >= len(deployment.frames), within_s=90, what="all read beside")
    shown = deployment.hindsight("releases", "show", R2)
    assert ("shadow" in shown.stdout, "frames.candidate" in shown.stdout) == (True, True), shown.stdout
    assert deployment.hindsight("releases", "abort", "--reason", "enough").returncode == 0
    beside = [e for _, _, e in events(deployment, CANDIDATES, CandidateCompleted)]
    assert {(e.release, e.incumbent_release) for e in beside} == {(R2, R1)}
    assert sorted(e.frame.frame_id for e in beside) == sorted(deployment.frames)
    assert all({"disagrees", "error", "latency_ms"} <= e.measures.keys() for e in beside)
    assert {s["result"]["release"] for s in deployment.states("results_by_frame").values()} == {R1}
    assert troubles(deployment) == []
    seen = len(events(deployment, CANDIDATES))
    deployment.publish(DEVICES, 2)
    deployment.drain()
    assert len(events(deployment, CANDIDATES)) == seen


def test_a_promotion_is_held_to_a_past_window(deployment: Deployment) -> None:
    """The window is read with the release first: where a limit does not hold the promotion is refused, and what was found lies
    on the log with the refusal as with the promotion."""
    deployment.start_workers(ALL)
    deployment.put_in_force(R1)
    deployment.register(R2)
    deployment.publish(DEVICES, 3)
    deployment.drain()
    gate = ("releases", "promote", R2, "--gate", "whatif:last-1h", "--gate-limit")
    refused = deployment.hindsight(*gate, "frames_least=1000")
    assert (refused.returncode, "gate_failed" in refused.stderr) == (1, True), refused.stderr
    assert "12 frames could be compared, and 1000 are wanted" in refused.stderr
    assert releases_now(deployment).in_force == R1
    passed = deployment.hindsight(*gate, "frames_least=12", "--gate-limit", "valid_share_drop_most=1")
    assert passed.returncode == 0, passed.stderr
    ((_, _, promoted),) = [e for e in events(deployment, RELEASES, ReleasePromoted) if e[2].release == R2]
    assert promoted.gate is not None
    assert (promoted.gate.passed, promoted.gate.measures["frames"], promoted.gate.conditions["frames_least"]) == (
        True,
        12.0,
        12.0,
    )


def _read_by(deployment: Deployment, release: str) -> int:
    return sum(e.release == release for _, _, e in events(deployment, INFERENCES, InferenceCompleted))
