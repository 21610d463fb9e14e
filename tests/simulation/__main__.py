"""`python -m tests.simulation`: many seeds on all cores, or one world again.

    python -m tests.simulation --seeds 10000          # all of them, with progress; each failing seed is shrunk
    python -m tests.simulation 4711 --frames 3 --without flush,garbage   # one world, as a shrunk failure names it

Ends with 1 when a world failed.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.running import quiet, run
from tests.simulation.shape import KINDS, Shape
from tests.simulation.shrinking import shrink
from tests.simulation.test_world import PLANTS

_AT_ONCE = 20
_SHRUNK_MOST = 5


def main() -> int:
    asked = _asked()
    shape = None
    if asked.frames is not None:
        shape = Shape(frames=asked.frames, faulty_s=asked.faulty_s, without=frozenset(filter(None, asked.without.split(","))))
    if asked.seed is not None:
        found = troubles_of(asked.seed, shape, plant=asked.plant)
        print("\n".join(found) or "all is well")
        return 1 if found else 0
    return sweep(range(asked.first, asked.first + asked.seeds), shape, asked.plant, asked.processes, asked.minutes)


def troubles_of(seed: int, shape: Shape | None, *, plant: str = "") -> list[str]:
    """What is wrong with one world; an error that no step should raise is one of the things."""
    with quiet(), PLANTS[plant][0]() if plant else quiet():
        try:
            return run(seed, plant, shape)[0]
        except Exception as error:
            return [f"the world broke: {error!r}"]


def _some(seeds: range, shape: Shape | None, plant: str) -> dict[int, list[str]]:
    return {seed: troubles for seed in seeds if (troubles := troubles_of(seed, shape, plant=plant))}


def sweep(seeds: range, shape: Shape | None, plant: str, processes: int, minutes: float) -> int:
    """Run all seeds, or as many as there is time for; shrink what fails."""
    began, done, failed = time.monotonic(), 0, {}
    parts = [seeds[at : at + _AT_ONCE] for at in range(0, len(seeds), _AT_ONCE)]
    with ProcessPoolExecutor(processes) as pool:
        for part, found in _in_time(pool, parts, partial(_some, shape=shape, plant=plant), began + minutes * 60):
            done += len(part)
            failed |= found
            for seed, troubles in found.items():
                print(f"seed {seed} FAILED: {troubles[0]}", flush=True)
            spent = time.monotonic() - began
            print(f"{done} of {len(seeds)} worlds, {len(failed)} failed, {spent:.0f} s, {done / spent:.1f} a second", flush=True)
    for seed in sorted(failed)[:_SHRUNK_MOST]:
        small = shrink(seed, partial(troubles_of, plant=plant), shape=shape)
        print(f"\nseed {seed}: {small.trouble}\nafter {small.tries} worlds: {small.command(plant)}", flush=True)
    print(f"\n{done} worlds were run, {len(failed)} failed")
    return 1 if failed else 0


def _in_time(
    pool: ProcessPoolExecutor, parts: list[range], work: "partial[dict[int, list[str]]]", end_s: float
) -> Iterator[tuple[range, dict[int, list[str]]]]:
    waiting = [(part, pool.submit(work, part)) for part in parts]
    for at, (part, future) in enumerate(waiting):
        if time.monotonic() > end_s:
            print("the time is over", flush=True)
            for _, other in waiting[at:]:
                other.cancel()
            return
        yield part, future.result()


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int, nargs="?", help="one world; without it, --seeds of them")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no world after so long")
    parser.add_argument("--frames", type=int, help="of each device; without it, each seed has a shape of its own")
    parser.add_argument("--faulty-s", type=float, default=Shape().faulty_s, help="seconds of bad weather")
    parser.add_argument("--without", default="", help=f"kinds that do not happen, of {','.join(KINDS)}")
    parser.add_argument("--plant", default="", choices=["", *PLANTS], help="a known bug, to see it found")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
