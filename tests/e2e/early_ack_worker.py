"""A worker with a planted bug: it acknowledges a record when it takes it, before what it causes is on the broker.

`test_worker_killed` runs it to prove that its own check finds lost frames. Started like `hindsight worker`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from processors import agent
from processors.partition import PartitionRunner
from streams.records import Record
from topology.cli import main


class EarlyAckRunner(PartitionRunner[Any]):
    """The runner with the acknowledgement moved before the publish."""

    async def submit(self, records: Sequence[Record], acknowledge: Callable[[Record], Any]) -> None:
        await super().submit(records, lambda record: None)
        for record in records:
            acknowledge(record)


if __name__ == "__main__":
    agent.PartitionRunner = EarlyAckRunner  # type: ignore[attr-defined]  # the plant
    main()
