"""`python -m tests.chaos`: brings up a stack of its own in a folder of its own, runs, and says what held.

--seed N      which plan; drawn and printed when not given
--minutes M   how long rounds are begun
--only N      one round of the plan, after the calm one
--out FOLDER  where chaos.json, chaos.md and chaos.svg go
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from streams.names import Namespace
from tests.chaos import faults, page
from tests.chaos.memory import Memory
from tests.chaos.plan import Round, rounds
from tests.chaos.run import Found, Runner, line
from tests.chaos.world import World
from tests.conftest import SERVERS
from tests.e2e.deployment import CHECKOUT
from topology.stack.local import LocalStack
from topology.stack.programs import Backoff
from triton_models.repository import build_repository
from triton_models.weights import fetch_weights

_SHOWN_ROUNDS = 20


def main(argv: Sequence[str]) -> int:
    told = _arguments(argv)
    print(
        f"seed {told.seed}, {told.minutes:g} minutes, {told.devices} devices, a frame each every {told.every_s:g} s", flush=True
    )
    plan = rounds(told.seed, hold_s=told.hold_s)
    if told.only is None:
        for one in itertools.islice(rounds(told.seed, hold_s=told.hold_s), _SHOWN_ROUNDS):
            print(f"  planned: {one}", flush=True)
    else:
        plan = iter([one for one in itertools.islice(plan, told.only + 1) if one.number in (0, told.only)])
    found = _run(told, plan)
    broken = [each for each in found if each.violations]
    for each in broken:
        print(f"BROKEN in round {each.round.number} of seed {told.seed} ({each.round.name}):")
        for violation in each.violations:
            print(f"  {violation}")
        print(f"again: python -m tests.chaos --seed {told.seed} --only {each.round.number}")
    if not broken:
        print(f"every claim held in {len(found)} rounds; {told.out}/chaos.md has the table")
    return 1 if broken else 0


def _run(told: argparse.Namespace, plan: Iterator[Round]) -> list[Found]:
    mounts = faults.own_mounts()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hindsight-chaos-", ignore_cleanup_errors=True)))
        servers = stack.enter_context(
            LocalStack(
                home / "stack",
                servers=SERVERS,
                ports="free",
                servers_folder=CHECKOUT / ".hindsight" / "servers",
                owned=True,
                # Faults come more often than in life: what dies is started again within seconds all the same.
                backoff=Backoff(first_s=0.5, longest_s=4.0),
                say=_say,
            )
        )
        weights = CHECKOUT / ".hindsight" / "servers" / "weights"
        fetch_weights(weights, say=_say)
        build_repository(servers.layout.model_repository, weights)
        world = World(
            servers,
            Namespace(f"c{uuid.uuid4().hex[:8]}"),
            home,
            devices=told.devices,
            every_s=told.every_s,
            workers=told.workers,
        )
        disk = _disks(world, stack, mounts=mounts)
        stack.enter_context(closing(world))
        memory = Memory(servers)
        world.start()
        memory.start()
        stack.callback(memory.stop)
        runner = Runner(world, memory, _say)
        end_s = time.monotonic() + 60 * told.minutes
        found: list[Found] = []
        for each in runner.run(plan, until=lambda: time.monotonic() > end_s):
            _say(line(each))
            found.append(each)
            measured = page.report(told.seed, found, memory, runner.logged, disk=disk, every_s=told.every_s, devices=told.devices)
            page.write(measured, told.out)
        if found[-1].violations:
            _say(world.last_lines())
        return found


def _disks(world: World, stack: ExitStack, *, mounts: bool) -> str:
    """Small file systems under the spools, where we may mount them; gives in words how a disk is filled."""
    if not mounts:
        return "a limit on the size of the files that the edge client writes"
    for device in world.devices:
        folder = world.spool_of(device) / "spool"
        folder.mkdir()
        faults.mount_disk(folder)
        stack.callback(faults.unmount_disk, folder)
    return f"a file system of {faults.DISK_BYTES // 2**20} MiB under each spool, filled up by somebody else"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Faults on the real stack, under load.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which plan; drawn when not given")
    parser.add_argument("--minutes", type=float, default=25.0, help="how long rounds are begun")
    parser.add_argument("--only", type=int, default=None, help="this round of the plan, after the calm one")
    parser.add_argument("--hold-s", type=float, default=30.0, help="how long a process is stopped, or a disk full")
    parser.add_argument("--devices", type=int, default=4, help="edge clients")
    parser.add_argument("--workers", type=int, default=2, help="workers, each with all processors")
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds between two frames of a device")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference", help="where the report goes")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
