"""The short form of `make chaos`: two rounds of overlapping faults on the session's stack. And planted bugs, which it finds."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from streams.names import Namespace
from tests.chaos.memory import Memory
from tests.chaos.plan import Fault, Round, Strike, rounds
from tests.chaos.run import Found, Runner, line
from tests.chaos.world import World
from tests.e2e.deployment import CHECKOUT, until
from topology.stack.local import LocalStack

SEED = 6
# What is over within seconds; the others are for the long form.
QUICK = (
    Fault.KILL_WORKER,
    Fault.KILL_GATEWAY,
    Fault.KILL_EDGE,
    Fault.KILL_MODEL,
    Fault.KILL_REDIS,
    Fault.STOP_WORKER,
    Fault.STOP_TRITON,
    Fault.FULL_DISK,
    Fault.FLUSH_REDIS,
)
EARLY_ACK, MISCOUNTING, LYING = (
    (str(Path(__file__).with_name(name)),) for name in ("early_ack_worker.py", "miscounting_worker.py", "lying_gateway.py")
)
Begin = Callable[..., Runner]


@pytest.fixture
def begin(serving_stack: LocalStack, namespace: Namespace, tmp_path: Path) -> Iterator[Begin]:
    """Starts a world and gives what runs rounds on it; its processes end with the test."""
    with ExitStack() as stack:

        def begun(**how: object) -> Runner:
            options = {"devices": 3, "every_s": 0.7, "workers": 2, **how}
            world = stack.enter_context(closing(World(serving_stack, namespace, tmp_path, **options)))  # type: ignore[arg-type]
            memory = Memory(serving_stack, every_s=1.0)
            world.start()
            memory.start()
            stack.callback(memory.stop)
            return Runner(world, memory, print, calm_s=1.0, tail_s=1.0)

        yield begun


def all_of(runner: Runner, plan: Sequence[Round]) -> list[Found]:
    """Every round of a plan, up to the first that broke a claim."""
    found = []
    for one in runner.run(plan, until=lambda: False):
        print(line(one), *one.violations, sep="\n")
        found.append(one)
    if found[-1].violations:
        print(runner.world.last_lines())
    return found


def claims(found: Sequence[Found]) -> set[str]:
    return {violation.claim for one in found for violation in one.violations}


@pytest.mark.timeout(240)
def test_faults_that_overlap_cost_no_frame_and_double_none(begin: Begin) -> None:
    """Under load: each frame that was acknowledged has one counted outcome in time, views are the log, memory is bounded."""
    plan = tuple(itertools.islice(rounds(SEED, hold_s=5, faults=QUICK, together=5), 1, 3))
    assert {strike.fault for one in plan for strike in one.strikes} == set(QUICK)
    found = all_of(begin(), plan)
    assert [(one.round.number, [str(v) for v in one.violations]) for one in found] == [(n, []) for n in (1, 2)], f"seed {SEED}"
    assert all(one.acknowledged for one in found)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_worker_that_acknowledges_too_early_is_found_out(begin: Begin) -> None:
    """Planted: killed again and again under load, it loses frames that were acknowledged, and the verdict names them."""
    runner = begin(worker=EARLY_ACK, workers=1, devices=4, every_s=0.15)
    runner.rest_s = 0.0
    found = all_of(runner, [kills_of(Fault.KILL_WORKER, n) for n in range(1, 7)])
    lost = [v for one in found for v in one.violations if v.claim == "exactly one outcome"]
    assert lost, claims(found)
    assert lost[0].frames


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_gateway_that_answers_before_the_broker_has_the_frame_is_found_out(begin: Begin) -> None:
    """Planted: it answers at once and publishes later, so that what it holds goes with it when it is killed."""
    found = all_of(begin(gateway=LYING), [kills_of(Fault.KILL_GATEWAY, n) for n in range(1, 7)])
    lost = [v for one in found for v in one.violations if v.claim == "acknowledged is on the log"]
    assert lost, claims(found)
    assert lost[0].frames


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("on", ["true", "false"])
def test_a_worker_that_miscounts_is_found_out_also_when_its_own_check_mends_the_view(begin: Begin, on: str) -> None:
    """Planted: the view differs from the log; where the worker's check is on and mends it, its alarm still tells."""
    runner = begin(worker=MISCOUNTING, settings={"HINDSIGHT_CHECKS__ON": on})
    runner.calm_s = 5.0
    assert claims(all_of(runner, [Round(number=0, strikes=())])) == {"views equal the log"}
    if on == "true":
        until(lambda: runner.world.shown().alarms, within_s=90, what="a worker tells of it")


def kills_of(fault: Fault, number: int) -> Round:
    return Round(number=number, strikes=(Strike(fault=fault, at_s=1.0 + 0.3 * number),))


def test_a_disk_with_a_file_system_of_its_own_fills_up_and_has_room_again(tmp_path: Path) -> None:
    """In a process with mounts of its own, as the long form has: full while the fault stands, also after a file was deleted, and
    not after it; and nothing stays mounted."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.e2e.filling_a_disk", str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True
    )
    if "not allowed" in told.stdout:
        pytest.skip("no file system may be mounted here")
    assert told.returncode == 0, told.stderr
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
