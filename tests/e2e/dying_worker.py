"""A worker that dies at the worst moment: `dying_worker.py POINT worker ...` is `hindsight worker ...` until then.

    appended    a step's first events are on the broker; no state is stored and nothing is acknowledged
    stored      a step's first states are stored; nothing is acknowledged

This is no bug: a machine may lose its power then. Whoever comes next finds the same records again.
"""

import os
import signal
import sys
from typing import Any

from processors import agent
from processors.partition import PartitionRunner
from streams.records import Outgoing
from topology.cli import main


class DiesWhenAppended(PartitionRunner[Any]):
    async def _append(self, outs: list[Outgoing]) -> None:
        await super()._append(outs)
        if outs:
            os.kill(os.getpid(), signal.SIGKILL)


class DiesWhenStored(PartitionRunner[Any]):
    def _measure(self, items: list[Any], position: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    point = sys.argv.pop(1)
    agent.PartitionRunner = {"appended": DiesWhenAppended, "stored": DiesWhenStored}[point]  # type: ignore[attr-defined]
    main()
