"""kill -9 of each server while frames flow: nothing is lost or doubled, and the views catch up with the log."""

import redis

from schemas.catalogue import RESULTS
from tests.e2e.deployment import ALL, Deployment, devices_on_every_partition, outcomes_of, troubles, until

DEVICES = devices_on_every_partition()


def in_mid_flow(deployment: Deployment, *, results: int = 8) -> None:
    """Publish frames, and return when some of them have gone all the way and others have not."""
    deployment.publish(DEVICES, 10)
    wanted = deployment.appended(RESULTS) + results
    until(lambda: deployment.appended(RESULTS) >= wanted, within_s=90, what=f"{results} results")
    assert not deployment.is_drained(), "the fault came when all was done"


def flush(deployment: Deployment) -> None:
    client = redis.Redis.from_url(deployment.settings.redis.url)
    client.flushall()
    client.close()


def test_triton_killed(running: Deployment) -> None:
    """Frames wait for Triton, which comes back empty and is filled again; none fails and none is lost."""
    in_mid_flow(running)
    running.stack.kill("triton")
    running.stack.wait_ready("triton", timeout_s=90)
    running.drain(within_s=120)
    assert troubles(running) == []
    assert outcomes_of(running).keys() <= {"read", "nothing_read"}


def test_redis_killed(running: Deployment) -> None:
    """Redis may lose its last second: the views are caught up from the log and equal it."""
    in_mid_flow(running)
    running.stack.kill("redis")
    running.publish(DEVICES, 3)
    running.stack.wait_ready("redis", timeout_s=60)
    running.drain(within_s=120)
    assert troubles(running) == []


def test_redis_emptied_while_frames_flow(running: Deployment) -> None:
    """Redis may lose everything: every state is built anew from the log while frames go on."""
    in_mid_flow(running)
    flush(running)
    running.publish(DEVICES, 3)
    running.drain(within_s=120)
    assert troubles(running) == []


def test_redis_emptied_while_no_worker_runs(running: Deployment) -> None:
    """A worker that starts on an empty Redis builds every view from the log, also where no new record comes."""
    running.publish(DEVICES, 1)
    running.drain()
    for worker in running.living():
        assert worker.terminate(within_s=30) == 0
    flush(running)
    running.start_workers(ALL)
    running.drain(within_s=60)
    assert troubles(running) == []


def test_kafka_killed(running: Deployment) -> None:
    """The broker may die and come back: workers wait for it, and go on where they were."""
    in_mid_flow(running)
    running.stack.kill("kafka")
    running.stack.wait_ready("kafka", timeout_s=120)
    running.publish(DEVICES, 3)
    running.drain(within_s=150)
    assert troubles(running) == []
