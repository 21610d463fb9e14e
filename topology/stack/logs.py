"""The log files of the programs: the last lines, following, and keeping them bounded.

A program appends to its own file through its standard output. The supervisor rotates a file when the program starts and
when it has grown past the limit; `hindsight logs` reads.
"""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

LIMIT_BYTES = 32 * 2**20
_TAIL_BYTES_PER_LINE = 400


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a file, oldest first; empty when there is no file."""
    if lines <= 0:
        return ()
    try:
        with path.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - lines * _TAIL_BYTES_PER_LINE))
            text = source.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])


def rotate(path: Path) -> None:
    """Move a file past the limit aside, keeping one older one. The writer appends, so the file may be emptied under it."""
    try:
        if path.stat().st_size <= LIMIT_BYTES:
            return
    except OSError:
        return
    shutil.copyfile(path, path.with_suffix(".log.1"))
    os.truncate(path, 0)


def follow(paths: Sequence[Path], *, lines: int, is_wanted: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """(name, line) from the last lines of each file on, as they are written, while `is_wanted()`."""
    offsets: dict[Path, int] = {}
    rests: dict[Path, str] = {}
    for path in paths:
        offsets[path] = path.stat().st_size if path.exists() else 0
        for line in tail(path, lines):
            yield path.stem, line
    while is_wanted():
        fresh = deque[tuple[str, str]]()
        for path in paths:
            chunk = _read_from(path, offsets)
            *whole, rests[path] = (rests.get(path, "") + chunk).split("\n")
            fresh.extend((path.stem, line) for line in whole)
        yield from fresh
        if not fresh:
            time.sleep(0.2)


def _read_from(path: Path, offsets: dict[Path, int]) -> str:
    try:
        with path.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(offsets[path] if offsets[path] <= size else 0)
            content = source.read()
            offsets[path] = source.tell()
    except OSError:
        return ""
    return content.decode(errors="replace")
