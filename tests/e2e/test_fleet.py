"""Two Tritons at work: one that is killed costs no frame and little time, and is used again when it is back."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from schemas.catalogue import INFERENCES
from schemas.events import InferenceCompleted
from streams.events import events_of
from tests.e2e.deployment import ALL, R1, Deployment, devices_on_every_partition, troubles, until
from tests.e2e.second_triton import SecondTriton

DEVICES = devices_on_every_partition()
EVERY_S = 0.8
WATCHED_S = 40.0


@contextmanager
def steady_load(deployment: Deployment) -> Iterator[None]:
    """Four frames every 0.8 s, whether they are read or not, for as long as the block runs."""
    stop = threading.Event()

    def publish() -> None:
        due_s = time.monotonic()
        while not stop.wait(max(0.0, due_s - time.monotonic())):
            due_s += EVERY_S
            deployment.publish(DEVICES, 1)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read(deployment: Deployment) -> list[tuple[float, float, str]]:
    """Of each frame that was read: when it was (s), how long it took from its capture (s), and where; in the order of time."""
    return sorted(
        (record.appended_at_ms / 1e3, record.appended_at_ms / 1e3 - event.frame.captured_at_us / 1e6, event.endpoint)
        for partition in deployment.log.partitions(INFERENCES)
        for record, event in events_of(deployment.log, deployment.schemas, INFERENCES, partition)
        if isinstance(event, InferenceCompleted)
    )


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[round(0.95 * (len(seconds) - 1))]


def back_after_s(deployment: Deployment, killed_s: float, until_s: float, usual_s: float) -> float:
    """How long after the kill the last window of three seconds ended whose 95th percentile was above twice the usual one.

    Args:
        until_s: What comes later is another story: a Triton that starts loads its models on the same two cores.
    """
    frames = [(at_s, took_s) for at_s, took_s, _ in read(deployment) if killed_s <= at_s < until_s]
    windows = [
        (begin, p95(took)) for begin in range(60) if (took := [t for at_s, t in frames if begin <= at_s - killed_s < begin + 3])
    ]
    print("95th percentiles of 3 s after the kill:", [(begin, round(took, 2)) for begin, took in windows])
    return max((begin + 3.0 for begin, took in windows if took > 2 * usual_s), default=0.0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_triton_that_is_killed_is_routed_around_and_used_again_when_it_is_back(deployment: Deployment, tmp_path: Path) -> None:
    """Under load: no frame fails, the time of a frame is what it was within seconds, and its calls come back with it."""
    with closing(SecondTriton(deployment.stack, tmp_path)) as second:
        second.start()
        deployment.endpoints = (*deployment.settings.triton.endpoints, second.endpoint)
        deployment.start_workers(ALL)
        deployment.put_in_force(R1)
        until(lambda: _loaded_on(deployment, second.endpoint), within_s=60, what="loaded on both")
        with steady_load(deployment):
            until(lambda: len(read(deployment)) > 160, within_s=120, what="frames are read")
            usual_s = p95([took for _, took, _ in read(deployment)][80:])
            assert {where for _, _, where in read(deployment)[80:]} == set(deployment.endpoints)
            killed_s = time.time()
            second.kill()
            until(lambda: time.time() > killed_s + WATCHED_S, within_s=2 * WATCHED_S, what="time to see it")
            started_s = time.time()
            second.start()
            until(lambda: _read_at(deployment, second.endpoint, killed_s + 5) > 10, within_s=90, what="it is used again")
        deployment.drain()
    after_s = back_after_s(deployment, killed_s, started_s, usual_s)
    print(f"usual 95th percentile {usual_s:.2f} s; back to it {after_s:g} s after the kill")
    assert troubles(deployment) == []
    assert len(read(deployment)) == len(deployment.frames)
    assert after_s <= 10


def _loaded_on(deployment: Deployment, endpoint: str) -> bool:
    from topology import commands

    return endpoint in commands.releases_now(deployment.settings).releases[R1].loaded_on


def _read_at(deployment: Deployment, endpoint: str, since_s: float) -> int:
    return sum(at_s > since_s and where == endpoint for at_s, _, where in read(deployment))
