"""Blobs that were read a moment ago: read once beneath, within bounds of time and bytes."""

from collections import Counter

import pytest

from schemas.errors import BlobGoneError
from schemas.types import BlobRef
from streams.memory import MemoryBlobStore
from streams.recent_blobs import HELD_S, RecentBlobs


class Counting(MemoryBlobStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def get(self, ref: BlobRef) -> bytes:
        self.reads[ref.sha256] += 1
        return super().get(ref)


def test_a_frame_that_two_processors_read_is_fetched_once() -> None:
    """The second reader within seconds gets the same bytes, and the store is not asked again."""
    beneath = Counting()
    blobs = RecentBlobs(beneath, clock=lambda: 0.0)
    ref = blobs.put(b"a picture", "image/png")
    assert [blobs.get(ref), blobs.get(ref)] == [b"a picture"] * 2
    assert beneath.reads == {ref.sha256: 1}


def test_what_was_erased_is_gone_within_seconds() -> None:
    """After the stated time the store is asked, however often a blob was read meanwhile."""
    beneath, now = Counting(), [0.0]
    blobs = RecentBlobs(beneath, clock=lambda: now[0])
    ref = blobs.put(b"a picture", "image/png")
    blobs.get(ref)
    beneath.discard(ref)
    now[0] = HELD_S - 0.1
    assert blobs.get(ref) == b"a picture"
    now[0] = HELD_S
    with pytest.raises(BlobGoneError):
        blobs.get(ref)


def test_no_more_bytes_are_held_than_stated() -> None:
    """The oldest go first, and what is larger than everything is not held."""
    beneath = Counting()
    blobs = RecentBlobs(beneath, most_bytes=10, clock=lambda: 0.0)
    first, second, large = (blobs.put(content, "image/png") for content in (b"123456", b"abcdef", b"x" * 11))
    for ref in (first, second, second, large, large, second, first):
        blobs.get(ref)
    assert beneath.reads == {first.sha256: 2, second.sha256: 1, large.sha256: 2}
