"""A worker whose end hangs: `hanging_worker.py worker ...` is `hindsight worker ...` until it should leave its groups."""

import time

from topology.agents import Agents
from topology.cli import main


async def hang(agents: Agents) -> None:
    time.sleep(600)  # noqa: ASYNC251  # as a library does that joins a thread


if __name__ == "__main__":
    Agents.stop = hang  # type: ignore[method-assign]  # the plant
    main()
