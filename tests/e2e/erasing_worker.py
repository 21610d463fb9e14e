"""A worker that dies while it carries out an order: `erasing_worker.py POINT worker ...` is `hindsight worker ...` until then.

keys        the keys are destroyed, and nothing else
bytes       some bytes are removed
unsaid      everything is done, and the event is not written
said        the event is on the log; the command is not acknowledged
"""

import os
import signal
import sys
from typing import Any

from processors import agent
from processors.erase.step import EraseStep
from processors.partition import PartitionRunner
from streams.records import Outgoing
from streams.sealed_blobs import SealedBlobs
from topology.cli import main


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


_destroy, _discard, _carry_out = SealedBlobs.destroy_keys, SealedBlobs.discard, EraseStep.carry_out


def _destroy_and_die(self: SealedBlobs, *arguments: Any) -> Any:
    return _die(_destroy(self, *arguments))


def _discard_and_die(self: SealedBlobs, *arguments: Any) -> Any:
    return _die(_discard(self, *arguments))


def _carry_out_and_die(self: EraseStep, *arguments: Any) -> Any:
    return _die(_carry_out(self, *arguments))


class DiesWhenSaid(PartitionRunner[Any]):
    async def _append(self, outs: list[Outgoing]) -> None:
        await super()._append(outs)
        if any(out.topic == "vision.erasures" for out in outs):
            _die()


if __name__ == "__main__":
    match sys.argv.pop(1):
        case "keys":
            SealedBlobs.destroy_keys = _destroy_and_die  # type: ignore[method-assign]
        case "bytes":
            SealedBlobs.discard = _discard_and_die  # type: ignore[method-assign]
        case "unsaid":
            EraseStep.carry_out = _carry_out_and_die  # type: ignore[method-assign]
        case "said":
            agent.PartitionRunner = DiesWhenSaid  # type: ignore[attr-defined]
    main()
