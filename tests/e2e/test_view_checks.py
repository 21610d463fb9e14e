"""Views that stop being what the log says are found by the running worker, told on the log, and made right from it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS, MONITORING
from schemas.codec import decode
from schemas.events import AlertCleared, AlertRaised
from streams.names import Namespace
from streams.partitioning import partition_of
from tests.e2e import miscounting_worker
from tests.e2e.deployment import PARTITIONS, Deployment, devices_on_every_partition, until
from topology import wiring
from topology.stack.local import LocalStack

DEVICES = devices_on_every_partition()
DEVICE = DEVICES[0]
FOUND_WITHIN_S = 20.0
PROCESSORS = "assess,views"


class OftenChecked(Deployment):
    """A deployment whose workers look at their views all the time, and repair one however shortly before they did."""

    repair_once_in_s = 0.01

    def environment(self) -> dict[str, str]:
        checks = {"EVERY_S": "0.2", "SHARE": "0.5", "REPAIR_ONCE_IN_S": str(self.repair_once_in_s)}
        return {**super().environment(), **{f"HINDSIGHT_CHECKS__{name}": value for name, value in checks.items()}}

    def alerts(self, view: str) -> list[AlertRaised | AlertCleared]:
        """What was said about one view, partition by partition."""
        found = []
        for partition, end in self.ends(MONITORING).items():
            for record in self.log.read(MONITORING, partition, 0, end):
                event = decode(record.value, MONITORING, self.schemas)
                if event.subject.startswith(f"view/{view}/"):
                    found.append(event)
        return found

    def in_redis(self, work: Callable[[Redis, str], Awaitable[Any]], view: str, partition: int) -> Any:
        """Do something to one view's partition behind everybody's back; `work` gets the client and the name of the states."""

        async def run() -> Any:
            redis = wiring.redis_client(self.settings)
            try:
                return await work(redis, self.namespace.redis_key(f"{{{view}.{partition}}}", "states"))
            finally:
                await redis.aclose()

        return asyncio.run(run())


@pytest.fixture(scope="module")
def counted(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OftenChecked]:
    """Frames of four devices, assessed and counted by a worker that goes on running; no model is asked."""
    folder = tmp_path_factory.mktemp("checked")
    with closing(OftenChecked(stack, Namespace(f"v{folder.name[-1]}checks"), folder)) as deployment:
        deployment.start_workers(PROCESSORS)
        deployment.publish(DEVICES, 5)
        until(
            lambda: deployment.positions("device_frames", ASSESSMENTS) == dict.fromkeys(range(PARTITIONS), 5),
            within_s=60,
            what="counted",
        )
        until(
            lambda: deployment.positions("frame_outcomes", ASSESSMENTS) == dict.fromkeys(range(PARTITIONS), 5),
            within_s=60,
            what="counted",
        )
        yield deployment
        print(deployment.last_lines())


async def change_a_state(redis: Redis, states: str) -> None:
    state = json.loads(await redis.hget(states, DEVICE) or b"")  # type: ignore[misc]
    await redis.hset(states, DEVICE, json.dumps({**state, "accepted_count": 4711}))  # type: ignore[misc]


async def delete_a_key(redis: Redis, states: str) -> None:
    assert await redis.hdel(states, DEVICE) == 1  # type: ignore[misc]


async def add_a_key(redis: Redis, states: str) -> None:
    await redis.hset(states, "gate-nobody", await redis.hget(states, DEVICE) or b"")  # type: ignore[misc,arg-type]


async def lose_the_states(redis: Redis, states: str) -> None:
    assert await redis.delete(states) == 1


PLANTS = [change_a_state, delete_a_key, add_a_key, lose_the_states]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_difference_is_found_told_and_repaired(counted: OftenChecked, plant: Any) -> None:
    """In real Redis under a running worker: one alert with its evidence on the log and in the alerts view, cleared again."""
    partition = partition_of(DEVICE.encode(), PARTITIONS)
    before = counted.alerts("device_frames")
    counted.in_redis(plant, "device_frames", partition)

    until(lambda: len(counted.alerts("device_frames")) == len(before) + 2, within_s=FOUND_WITHIN_S, what="raised and cleared")
    raised, cleared = counted.alerts("device_frames")[-2:]
    assert isinstance(raised, AlertRaised)
    assert isinstance(cleared, AlertCleared)
    assert raised.alert_id == cleared.alert_id
    assert raised.subject == f"view/device_frames/{partition}"
    assert raised.evidence["keys"].split(", ")[-1] == ("gate-nobody" if plant is add_a_key else DEVICE)
    assert all(c.equal for c in counted.checked())
    (alerts,) = until(lambda: settled(counted, raised.subject), within_s=10, what="the alerts view")
    assert (alerts["open"], alerts["raised_count"], alerts["cleared_count"]) == ([], 1 + len(before) // 2, 1 + len(before) // 2)
    (worker,) = counted.living()
    place = {"view": "device_frames", "partition": str(partition)}
    assert worker.counted("hindsight_view_differences_total", **place) == 1 + len(before) // 2
    assert worker.counted("hindsight_view_repairs_total", **place, outcome="repaired") == 1 + len(before) // 2
    assert worker.counted("hindsight_view_checks_total", **place, outcome="different") == 1 + len(before) // 2


def settled(deployment: OftenChecked, subject: str) -> list[dict[str, Any]]:
    state = deployment.states("alerts").get(subject)
    return [state] if state is not None and not state["open"] else []


def test_a_position_that_was_moved_is_right_again(counted: OftenChecked) -> None:
    """Moved back: found and repaired, or caught up by the worker before the check came by; never counted twice."""
    partition = partition_of(DEVICE.encode(), PARTITIONS)
    before = counted.alerts("device_frames")

    async def move_back(redis: Redis, states: str) -> None:
        assert await redis.set(states.replace(":states", ":position"), "3")

    for _ in range(5):
        counted.in_redis(move_back, "device_frames", partition)
        until(lambda: counted.positions("device_frames", ASSESSMENTS)[partition] == 5, within_s=FOUND_WITHIN_S, what="back")
        until(lambda: all(c.equal for c in counted.checked()), within_s=FOUND_WITHIN_S, what="equal")
        if len(counted.alerts("device_frames")) > len(before):
            break
    until(lambda: len(counted.alerts("device_frames")) == len(before) + 2, within_s=FOUND_WITHIN_S, what="raised and cleared")
    assert counted.states("device_frames")[DEVICE]["accepted_count"] == 5


def test_the_command_shows_the_running_digest(counted: OftenChecked) -> None:
    """`views check` prints it for each partition, says when it is not that of the states, and a rebuild makes it right."""
    counted.living()[0].terminate(within_s=30)  # nobody else may mend it meanwhile
    answer = counted.hindsight("views", "check", "device_frames", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    assert all(c["equal"] and c["running_agrees"] and len(c["running_digest"]) == 40 for c in json.loads(answer.stdout))

    async def spoil(redis: Redis, states: str) -> None:
        await redis.set(states.replace(":states", ":digest"), "ab" * 20)

    counted.in_redis(spoil, "device_frames", 2)
    answer = counted.hindsight("views", "check", "device_frames")
    assert answer.returncode == 1
    assert "abababababababab WRONG" in answer.stdout
    assert "device_frames 2: the running digest is not that of the states" in answer.stderr
    answer = counted.hindsight("views", "rebuild", "device_frames")
    assert answer.returncode == 0, answer.stderr
    assert counted.hindsight("views", "check", "device_frames").returncode == 0
    counted.start_workers(PROCESSORS)


def test_a_fold_that_counts_otherwise_is_found(stack: LocalStack, namespace: Namespace, tmp_path: Path) -> None:
    """A worker with a fault in its live fold: repaired once, and when it differs again the alert is critical and stands."""
    with closing(OftenChecked(stack, namespace, tmp_path, (miscounting_worker.__file__,))) as deployment:
        deployment.repair_once_in_s = 600
        deployment.start_workers(PROCESSORS)
        deployment.publish((DEVICE,), 3)
        until(lambda: len(deployment.alerts("device_frames")) >= 2, within_s=60, what="found and repaired once")
        until(lambda: all(c.equal for c in deployment.checked()), within_s=FOUND_WITHIN_S, what="equal")
        deployment.publish((DEVICE,), 3)
        until(lambda: len(deployment.alerts("device_frames")) == 3, within_s=60, what="found again")
        raised, cleared, again = deployment.alerts("device_frames")
        assert [type(a).__name__ for a in (raised, cleared, again)] == ["AlertRaised", "AlertCleared", "AlertRaised"]
        assert isinstance(again, AlertRaised)
        assert again.severity == "critical"
        (worker,) = deployment.living()
        checks = worker.counted("hindsight_view_checks_total", view="device_frames", outcome="different")
        until(
            lambda: worker.counted("hindsight_view_checks_total", view="device_frames", outcome="different") > checks + 5,
            within_s=FOUND_WITHIN_S,
            what="looked at again",
        )
        assert len(deployment.alerts("device_frames")) == 3
        assert worker.counted("hindsight_view_repairs_total") == 1
        assert [c.view for c in deployment.checked() if not c.equal] == ["device_frames"]
        assert VIEWS["device_frames"].topic == ASSESSMENTS
