"""Resident memory of every process of a world, sampled while it runs: what each program had at most, and whether it grew.

Read from /proc in one pass for each sample, summed over a program's processes (a page that is shared counts in each). A
process that was killed and started again is another life; growth is told of the longest life of each program.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from topology.stack.local import LocalStack

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SESSION, _RSS_PAGES = 3, 21
_MIB = 2**20
# What each kind of program may take at most, on the load of this suite. Of Java the heap is 512 and 256 MiB.
BOUND_BYTES: Mapping[str, int] = {
    "worker": 500 * _MIB,
    "extra": 500 * _MIB,
    "gateway": 350 * _MIB,
    "edge": 250 * _MIB,
    "kafka": 1000 * _MIB,
    "registry": 600 * _MIB,
    "redis": 150 * _MIB,
    "s3": 700 * _MIB,
    "triton": 3000 * _MIB,
}
# A life's first samples are those of a program that still imports and loads.
_SETTLED_SAMPLES = 10


@dataclass(slots=True)
class Life:
    """One process of a program, from its start."""

    samples: list[int] = field(default_factory=list)

    @property
    def growth_bytes(self) -> int:
        """The mean of its last tenth less that of the first tenth after it had settled."""
        settled = self.samples[_SETTLED_SAMPLES:]
        tenth = max(1, len(settled) // 10)
        return (sum(settled[-tenth:]) - sum(settled[:tenth])) // tenth if len(settled) > 1 else 0


class Memory:
    """Samples a stack's programs in a thread of its own, from `start` to `stop`."""

    def __init__(self, stack: LocalStack, *, every_s: float = 2.0) -> None:
        self._stack = stack
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.lives: dict[str, dict[int, Life]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def peaks(self) -> dict[str, int]:
        """The most that each program had, in bytes."""
        found = {name: max((s for life in lives.values() for s in life.samples), default=0) for name, lives in self.lives.items()}
        return {name: peak for name, peak in found.items() if name.partition("-")[0] in BOUND_BYTES}

    def table(self) -> list[dict[str, float | int | str]]:
        """For each program: its lives, its peak, and the growth of its longest life."""
        peaks = self.peaks()
        rows: list[dict[str, float | int | str]] = []
        for name in sorted(peaks):
            longest = max(self.lives[name].values(), key=lambda life: len(life.samples))
            rows.append(
                {
                    "program": name,
                    "lives": len(self.lives[name]),
                    "peak_mib": round(peaks[name] / _MIB),
                    "bound_mib": BOUND_BYTES[name.partition("-")[0]] // _MIB,
                    "growth_mib": round(longest.growth_bytes / _MIB, 1),
                    "longest_life_s": round(len(longest.samples) * self._every_s),
                }
            )
        return rows

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            state = self._stack.state()
            by_session = _rss_by_session()
            for one in state.programs if state is not None else ():
                if one.process is not None and (rss := by_session.get(one.process.pid)):
                    self.lives.setdefault(one.name, {}).setdefault(one.process.start_ticks, Life()).samples.append(rss)


def _rss_by_session() -> dict[int, int]:
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            session = int(fields[_SESSION])
            found[session] = found.get(session, 0) + int(fields[_RSS_PAGES]) * _PAGE_BYTES
    return found
