"""Sorting more than fits into memory: sorted runs in unnamed files, merged as they are read."""

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO

Item = tuple[int, int, bytes]
_HEAD = struct.Struct(">qqI")


def in_order(items: Iterable[Item], *, most: int = 20_000) -> Iterator[Item]:
    """Items (a time, a number, bytes) by time, then by number.

    Args:
        most: Items that are kept in memory.
    """
    with ExitStack() as files:
        runs: list[Iterator[Item]] = []
        kept: list[Item] = []
        for item in items:
            kept.append(item)
            if len(kept) == most:
                runs.append(_read(_written(kept, files)))
                kept = []
        yield from heapq.merge(*runs, iter(sorted(kept)))


def _written(items: list[Item], files: ExitStack) -> IO[bytes]:
    file = files.enter_context(tempfile.TemporaryFile(prefix="hindsight-order-"))  # noqa: SIM115  # the stack closes it
    for time, number, content in sorted(items):
        file.write(_HEAD.pack(time, number, len(content)) + content)
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[Item]:
    while head := file.read(_HEAD.size):
        time, number, length = _HEAD.unpack(head)
        yield time, number, file.read(length)
