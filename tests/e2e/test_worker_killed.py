"""kill -9 of workers while frames flow: every accepted frame ends with exactly one counted result."""

import random
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from schemas.catalogue import ASSESSMENTS, INFERENCES, RESULTS
from streams.kafka_groups import KafkaGroups
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, Deployment, Worker, devices_on_every_partition, troubles, until
from topology import wiring

DYING = str(Path(__file__).with_name("dying_worker.py"))
EARLY_ACK = (str(Path(__file__).with_name("early_ack_worker.py")),)
DEVICES = devices_on_every_partition(each=2)
# Two workers that share all partitions, or one worker for each processor.
SHARED = (ALL, ALL)
APART = ("assess", "infer,release", "derive", "views")
# A step of each kind of worker, whose count of records says how far the worker is.
_STEP_OF = {ALL: "infer", "assess": "assess", "infer,release": "infer", "derive": "derive", "views": "results_by_frame"}


def run_with_kills(
    deployment: Deployment, kinds: tuple[str, ...], victims: tuple[int, ...], moment: Callable[[Worker, str], Callable[[], bool]]
) -> None:
    """Let frames flow, kill workers in mid-flow and start others in their place; returns when all came to rest.

    Args:
        moment: Called with a worker and its kind before frames flow; what it gives says when to kill it.
    """
    workers = list(deployment.start_workers(*kinds))
    deployment.put_in_force()
    for victim in victims:
        is_time = moment(workers[victim], kinds[victim])
        deployment.publish(DEVICES, 6)
        until(is_time, within_s=90, what="the moment to kill")
        workers[victim].kill()
        workers[victim] = deployment.start_worker(kinds[victim])
        assert not deployment.is_drained(), "the kill came when all was done"
    deployment.publish(DEVICES, 2)
    deployment.drain(within_s=150)


def after_a_few_more_records(seed: int) -> Callable[[Worker, str], Callable[[], bool]]:
    """The moment when a worker's step has counted some more records than now; how many is drawn."""
    rng = random.Random(seed)

    def moment(worker: Worker, kind: str) -> Callable[[], bool]:
        def counted() -> float:
            return worker.counted("hindsight_records_total", processor=_STEP_OF[kind])

        goal = counted() + rng.randint(3, 10)
        return lambda: counted() >= goal

    return moment


@pytest.mark.parametrize(
    ("kinds", "victims"),
    [(SHARED, (0,)), pytest.param(APART, (1, 2, 0, 3), marks=pytest.mark.long)],
    ids=["two that share", "one a processor"],
)
def test_a_killed_worker_loses_and_doubles_nothing(
    deployment: Deployment, kinds: tuple[str, ...], victims: tuple[int, ...]
) -> None:
    """Whichever worker is killed while frames flow, every accepted frame has one counted result and every view is its log."""
    run_with_kills(deployment, kinds, victims, after_a_few_more_records(seed=7))
    assert troubles(deployment) == []


def test_what_a_dying_worker_wrote_twice_is_counted_once(deployment: Deployment) -> None:
    """Workers that die between publishing, storing and acknowledging leave repeats on the log, and no view counts one twice."""
    deployment.start_workers("release")
    deployment.put_in_force()
    points = {"assess": "stored", "infer": "appended", "derive": "appended", "views": "stored"}
    dying = [deployment.start_worker(name, launcher=(DYING, point)) for name, point in points.items()]
    deployment.publish(DEVICES, 4)
    until(lambda: all(w.process.poll() == -signal.SIGKILL for w in dying), within_s=90, what="the deaths of four workers")
    deployment.start_worker()
    deployment.publish(DEVICES, 1)
    deployment.drain(within_s=120)
    assert troubles(deployment) == []
    assert deployment.appended(INFERENCES) > len(deployment.frames)
    assert deployment.appended(RESULTS) > len(deployment.frames)


def test_acknowledging_before_the_publish_is_found_out(deploy: Deploy) -> None:
    """The same run with acknowledgement moved before the publish loses frames, and the check says which."""
    deployment = deploy(EARLY_ACK)
    with closing(KafkaGroups(wiring.bootstrap_servers(deployment.settings), deployment.namespace)) as kafka:

        def commits_are_ahead() -> bool:
            stored = deployment.positions("infer", ASSESSMENTS)
            committed = kafka.committed("infer", ASSESSMENTS, tuple(stored))
            return any(offset > stored[partition] for partition, offset in committed.items())

        run_with_kills(deployment, (ALL,), (0,), lambda worker, kind: commits_are_ahead)
    assert [t for t in troubles(deployment) if "has no result" in t]
