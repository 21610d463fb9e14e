"""Group commit: few PUTs for many frames, no wait for a lone one, and no answer before the bytes are stored."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from schemas.errors import BlobStoreUnavailableError
from schemas.types import BlobRef
from streams.keyring import KeyRing
from streams.memory import MemoryBlobStore, MemoryObjects
from streams.packing import SEGMENT_BYTES_MAX, Packer
from streams.ports import BlobScope
from streams.sealed_blobs import Part, SealedBlobs
from tests.given import AT_US

SCOPE = BlobScope(device_id="gate-1", captured_at_us=AT_US)


class Counting(SealedBlobs):
    """A store that counts its PUTs, and holds each until it may go on."""

    def __init__(self) -> None:
        self.plain, self.objects = MemoryBlobStore(), MemoryObjects()
        super().__init__(self.plain, self.objects, KeyRing(MemoryObjects(), b""), seals=False)
        self.puts: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_away = False

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        self._wait(1)
        return super().put(content, media_type, scope=scope)

    def put_together(self, parts: Sequence[Part]) -> "tuple[BlobRef | object, ...]":  # type: ignore[override]  # wider
        self._wait(len(parts))
        return super().put_together(parts)

    def _wait(self, count: int) -> None:
        self.puts.append(count)
        assert self.may_go_on.wait(20)
        if self.is_away:
            raise BlobStoreUnavailableError("away")


def image(number: int, size: int = 100) -> bytes:
    return b"%08d" % number * (size // 8)


def packer(store: Counting, **more: int) -> Packer:
    return Packer(store, frame_bytes_max=100_000, **more)  # type: ignore[arg-type]  # its put_together answers wider


async def put(packing: Packer, *numbers: int, size: int = 100) -> list[BlobRef]:
    return await asyncio.gather(*(packing.put(image(n, size), "image/jpeg", scope=SCOPE) for n in numbers))


async def until_puts(store: Counting, count: int) -> None:
    async with asyncio.timeout(20):
        while len(store.puts) < count:  # noqa: ASYNC110  # the store is in threads
            await asyncio.sleep(0.001)


def test_what_arrives_during_a_put_goes_together() -> None:
    """While two PUTs are held up, 300 frames arrive: they take one more PUT, and each is read by its own reference."""

    async def work() -> None:
        store = Counting()
        packing = packer(store)
        store.may_go_on.clear()
        first = asyncio.ensure_future(put(packing, 1))
        await until_puts(store, 1)
        second = asyncio.ensure_future(put(packing, 2))
        await until_puts(store, 2)
        rest = asyncio.ensure_future(put(packing, *range(3, 303)))
        await asyncio.sleep(0)
        assert not first.done()
        assert not rest.done()
        store.may_go_on.set()
        refs = [*await first, *await second, *await rest]
        assert store.puts == [1, 1, 300]
        assert [store.get(ref) for ref in refs] == [image(n) for n in range(1, 303)]

    asyncio.run(work())


def test_a_lone_frame_waits_for_nobody_and_has_an_object_of_its_own() -> None:
    """On an idle gateway a frame is stored as without packing, and other frames are not needed for it."""

    async def work() -> None:
        store = Counting()
        (ref,) = await asyncio.wait_for(put(packer(store), 1), 10)
        assert ref.segment is None
        assert (store.puts, list(store.objects.contents)) == ([1], [])

    asyncio.run(work())


def test_large_frames_and_zeros_are_not_packed() -> None:
    """A large one gains nothing; bytes that begin with zeros could not be told from wiped ones."""

    async def work() -> None:
        store = Counting()
        packing = packer(store)
        refs = await put(packing, 1, 2, size=200_000)
        zeros = await asyncio.gather(*(packing.put(bytes(99), "image/bmp", scope=SCOPE) for _ in range(2)))
        assert all(ref.segment is None for ref in (*refs, *zeros))
        assert store.puts == [1, 1, 1, 1]

    asyncio.run(work())


def test_a_segment_is_bounded() -> None:
    """Frames of 99 kB: no segment is longer than it may be, and all are stored."""

    async def work() -> None:
        store = Counting()
        refs = await put(packer(store), *range(60), size=99_000)
        assert max(map(len, store.objects.contents.values())) <= SEGMENT_BYTES_MAX
        assert sum(store.puts) == 60
        assert [store.get(ref) for ref in refs] == [image(n, 99_000) for n in range(60)]

    asyncio.run(work())


def test_a_put_that_fails_fails_all_that_it_carried() -> None:
    """Nobody is answered, and whoever tries again is stored."""

    async def work() -> None:
        store = Counting()
        packing = packer(store)
        store.is_away = True
        found = await asyncio.gather(*(put(packing, n) for n in range(5)), return_exceptions=True)
        assert [type(one) for one in found] == [BlobStoreUnavailableError] * 5
        store.is_away = False
        refs = await put(packing, *range(5))
        assert [store.get(ref) for ref in refs] == [image(n) for n in range(5)]

    asyncio.run(work())


def test_whoever_gave_up_takes_nobody_along() -> None:
    """A frame whose stream ended while it waited is left out; those beside it are stored."""

    async def work() -> None:
        store = Counting()
        packing = packer(store, at_once=1)
        store.may_go_on.clear()
        first = asyncio.ensure_future(put(packing, 1))
        await until_puts(store, 1)
        gone, stays = (asyncio.ensure_future(packing.put(image(n), "", scope=SCOPE)) for n in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        store.may_go_on.set()
        assert store.get(await stays) == image(3)
        await first
        assert store.puts == [1, 1]
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(work())
