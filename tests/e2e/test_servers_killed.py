"""kill -9 of each server while frames flow: nothing is lost or doubled, and the views catch up with the log."""

import asyncio
import time

import redis

from schemas.catalogue import RESULTS
from streams.triton import TritonModels
from tests.e2e.deployment import ALL, R1, R2, Deployment, devices_on_every_partition, outcomes_of, troubles, until
from topology import commands
from topology.stack.state import read_plan

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


def test_triton_killed_while_a_promotion_is_asked_for(running: Deployment) -> None:
    """That Triton had the release before it died promotes nothing: the promotion comes when Triton has it again, and the way
    back, to a release that is ready, takes a moment."""
    running.register(R2)
    until(lambda: commands.releases_now(running.settings).releases[R2].loaded_on, within_s=90, what=f"{R2} loaded")
    in_mid_flow(running)
    running.stack.kill("triton")
    running.promote(R2)
    assert asyncio.run(is_ready(running, R2))
    running.drain(within_s=120)
    asked_s = time.monotonic()
    running.promote(R1)
    assert time.monotonic() - asked_s < 5
    running.publish(DEVICES, 1)
    running.drain()
    assert troubles(running) == []
    assert outcomes_of(running).keys() <= {"read", "nothing_read"}


async def is_ready(deployment: Deployment, release: str) -> bool:
    (endpoint,) = deployment.settings.triton.endpoints
    server = TritonModels(endpoint)
    try:
        return await server.is_ready(release)
    finally:
        await server.close()


def test_redis_killed(running: Deployment) -> None:
    """Redis may lose its last second: the views are caught up from the log and equal it."""
    in_mid_flow(running)
    running.stack.kill("redis")
    running.publish(DEVICES, 3)
    running.stack.wait_ready("redis", timeout_s=60)
    running.drain(within_s=120)
    assert troubles(running) == []


def test_while_redis_is_away_the_worker_says_that_it_is_not_ready(running: Deployment) -> None:
    """Killed and not started again: the worker says what it waits for, once a round, and is ready again with Redis."""
    worker = running.living()[0]
    (program,) = (p for p in read_plan(running.stack.layout.plan_file).programs if p.name == "redis")  # type: ignore[union-attr]
    log_bytes, killed_s = worker.log.stat().st_size, time.monotonic()
    running.stack.kill("redis")
    running.stack.stop(["redis"])
    try:
        until(lambda: worker.says_ready().startswith("not ready: Redis: "), within_s=60, what="word of Redis")
        running.publish(DEVICES, 1)
        rounds = (time.monotonic() - killed_s) // 5 + 2
        assert worker.log.read_bytes()[log_bytes:].count(b"lag not measured") <= rounds
    finally:
        running.stack.start([program])
    until(worker.is_ready, within_s=60, what="a worker that is ready again")
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
    """The broker may die and come back: workers wait for it, asking now and then, and go on where they were."""
    in_mid_flow(running)
    worker = running.living()[0]
    log_bytes, killed_s = worker.log.stat().st_size, time.monotonic()
    running.stack.kill("kafka")
    running.stack.wait_ready("kafka", timeout_s=120)
    asked = worker.log.read_bytes()[log_bytes:].count(b"Unable connect to node")
    print(f"asked {asked} times in {time.monotonic() - killed_s:.1f} s")
    assert asked < 120 * (time.monotonic() - killed_s)
    running.publish(DEVICES, 3)
    running.drain(within_s=150)
    assert troubles(running) == []
