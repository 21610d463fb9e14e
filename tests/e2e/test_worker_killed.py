"""kill -9 of workers while frames flow: every accepted frame ends with exactly one counted result."""

import random
from pathlib import Path

import pytest

from schemas.catalogue import RESULTS
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, Deployment, devices_on_every_partition, troubles, until

EARLY_ACK = (str(Path(__file__).with_name("early_ack_worker.py")),)
DEVICES = devices_on_every_partition(each=2)
# Two workers that share all partitions, or one worker for each processor.
SHARED = (ALL, ALL)
APART = ("assess", "infer,release", "derive", "views")


def run_with_kills(deployment: Deployment, kinds: tuple[str, ...], victims: tuple[int, ...], seed: int) -> None:
    """Let frames flow, kill workers at seeded moments and start others in their place; returns when all came to rest."""
    rng = random.Random(seed)
    workers = list(deployment.start_workers(*kinds))
    deployment.put_in_force()
    deployment.publish(DEVICES, 8)
    for victim in victims:
        results = deployment.appended(RESULTS) + rng.randint(8, 16)
        until(lambda at=results: deployment.appended(RESULTS) >= at, within_s=90, what=f"{results} results")  # type: ignore[misc]
        workers[victim].kill()
        assert not deployment.is_drained(), "the kill came when all was done"
        workers[victim] = deployment.start_worker(kinds[victim])
        deployment.publish(DEVICES, 3)
    deployment.drain(within_s=150)


@pytest.mark.parametrize(("kinds", "victims"), [(SHARED, (0,)), (APART, (1, 2, 0, 3))], ids=["two that share", "one a processor"])
def test_a_killed_worker_loses_and_doubles_nothing(
    deployment: Deployment, kinds: tuple[str, ...], victims: tuple[int, ...]
) -> None:
    """Whichever worker is killed while frames flow, every accepted frame has one counted result and every view is its log."""
    run_with_kills(deployment, kinds, victims, seed=7)
    assert troubles(deployment) == []


def test_acknowledging_before_the_publish_is_found_out(deploy: Deploy) -> None:
    """The same run with acknowledgement moved before the publish loses frames, and the check says which."""
    deployment = deploy(EARLY_ACK)
    run_with_kills(deployment, SHARED, (0,), seed=7)
    assert [t for t in troubles(deployment) if "has no result" in t]
