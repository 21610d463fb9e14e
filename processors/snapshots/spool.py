"""Items of many groups, kept apart in bounded memory: the first ones as they are, further ones as bytes in unnamed files.

What was added to a group comes back in the order in which it was added.
"""

import struct
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Any, Self

_LENGTHS = struct.Struct(">II")


class Spool:
    """Keys with their events, by group.

    Args:
        decode: An event from the bytes that were added with it.
        most: Events that are kept in memory, over all groups.
    """

    def __init__(self, decode: Callable[[bytes], Any], *, most: int) -> None:
        self._decode = decode
        self._room = most
        self._kept: defaultdict[int, list[tuple[str, Any]]] = defaultdict(list)
        self._files: dict[int, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()

    def add(self, group: int, key: str, event: Any, content: bytes) -> None:
        """Add one event, whose bytes are `content`."""
        if self._room > 0:
            self._room -= 1
            self._kept[group].append((key, event))
            return
        if group not in self._files:
            self._files[group] = tempfile.TemporaryFile(prefix="hindsight-spool-")  # noqa: SIM115  # closed with the spool
        name = key.encode()
        self._files[group].write(_LENGTHS.pack(len(name), len(content)) + name + content)

    def groups(self) -> set[int]:
        """Groups to which anything was added."""
        return self._kept.keys() | self._files.keys()

    def items(self, group: int) -> Iterator[tuple[str, Any]]:
        """The keys and events of one group."""
        yield from self._kept.get(group, ())
        file = self._files.get(group)
        if file is None:
            return
        file.seek(0)
        while lengths := file.read(_LENGTHS.size):
            name, content = _LENGTHS.unpack(lengths)
            yield file.read(name).decode(), self._decode(file.read(content))
