"""A `BlobStore` that holds what was read a moment ago: one processor reads each frame right after another, in one process.

What it gives was verified when it was read. It holds few bytes and for seconds only: whoever erases bytes from the store beneath
knows that they are gone from here by then, too.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from schemas.types import BlobRef
from streams.ports import BlobScope, BlobStore

HELD_S = 5.0
_HELD_BYTES = 64 * 2**20


class RecentBlobs:
    """The blobs of `beneath`, each read there once in a while.

    Args:
        most_bytes: Of all that is held.
        clock: Seconds, from any beginning.
    """

    def __init__(self, beneath: BlobStore, *, most_bytes: int = _HELD_BYTES, clock: Callable[[], float] = monotonic) -> None:
        self._beneath = beneath
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[BlobRef, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        return self._beneath.put(content, media_type, scope=scope)

    def get(self, ref: BlobRef) -> bytes:
        with self._lock:
            self._let_go(0)
            held = self._held.get(ref)
        if held is not None:
            return held[1]
        content = self._beneath.get(ref)
        with self._lock:
            if ref not in self._held and len(content) <= self._most_bytes:
                self._let_go(len(content))
                self._held[ref] = (self._clock() + HELD_S, content)
                self._bytes += len(content)
        return content

    def exists(self, ref: BlobRef) -> bool:
        return self._beneath.exists(ref)

    def _let_go(self, coming_bytes: int) -> None:
        """What is held for too long, and the oldest until there is room."""
        now = self._clock()
        while self._held and (next(iter(self._held.values()))[0] <= now or self._bytes + coming_bytes > self._most_bytes):
            _, (_, content) = self._held.popitem(last=False)
            self._bytes -= len(content)
