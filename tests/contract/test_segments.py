"""Frames that share an object: each is read, verified, taken away and erased as if it had one of its own."""

import hashlib
from dataclasses import dataclass, replace

import pytest

from schemas.errors import BlobGoneError, BlobStoreUnavailableError, ContractError, DigestError
from schemas.types import BlobRef, Stretch
from streams.blob_names import digest
from streams.keyring import KeyRing
from streams.memory import MemoryBlobStore, MemoryObjects
from streams.ports import BlobScope, Objects
from streams.sealed_blobs import Part, SealedBlobs
from tests.contract.test_objects import s3_objects
from tests.given import AT_US

MASTER_KEY = bytes(range(32))


@dataclass(frozen=True)
class World:
    """A store, with hands on its objects."""

    objects: Objects
    keys: Objects
    plain: MemoryBlobStore
    seals: bool

    def store(self) -> SealedBlobs:
        """As another process would have it."""
        return SealedBlobs(self.plain, self.objects, KeyRing(self.keys, MASTER_KEY), seals=self.seals)

    def put(self, count: int = 4, *, device: str = "gate-1") -> list[BlobRef]:
        found = self.store().put_together([part(n, device) for n in range(count)])
        return [ref for ref in found if isinstance(ref, BlobRef)]

    def segments(self) -> list[str]:
        return list(self.objects.list("segments/"))


@pytest.fixture(params=["plain in memory", "plain in s3", "sealed in memory", "sealed in s3"])
def world(request: pytest.FixtureRequest) -> World:
    seals = request.param.startswith("sealed")
    if request.param.endswith("memory"):
        return World(objects=MemoryObjects(), keys=MemoryObjects(), plain=MemoryBlobStore(), seals=seals)
    stack, namespace = request.getfixturevalue("stack"), request.getfixturevalue("namespace")
    objects, keys = (s3_objects(stack, namespace.bucket(name)) for name in ("blobs", "keys"))
    return World(objects=objects, keys=keys, plain=MemoryBlobStore(), seals=seals)


def image(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * (5 + number)


def part(number: int, device: str = "gate-1") -> Part:
    return Part(content=image(number), media_type="image/jpeg", scope=BlobScope(device_id=device, captured_at_us=AT_US + number))


def stretch_of(ref: BlobRef) -> Stretch:
    assert ref.segment is not None
    return ref.segment


def test_each_is_read_by_its_own_reference(world: World) -> None:
    """All lie in one object; a reference has digest, size and media type of its own bytes, and only they are read."""
    refs = world.put()
    assert len(world.segments()) == 1
    assert [r.sha256 for r in refs] == [digest(image(n)) for n in range(4)]
    assert [world.store().get(r) for r in refs] == [image(n) for n in range(4)]
    assert all(world.store().exists(r) for r in refs)
    assert all((r.key_id is not None) == world.seals for r in refs)


def test_nothing_plain_lies_in_a_sealed_segment(world: World) -> None:
    """Encryption holds inside of a segment, too."""
    world.put()
    lies = b"".join(world.objects.read(name, 1 << 20) or b"" for name in world.segments())
    assert (image(1)[:32] in lies) is not world.seals


def test_what_is_read_is_held_against_its_digest(world: World) -> None:
    """Bytes that were changed, or those of a neighbour of the same length, are found out."""
    one, two = world.put(2)
    where = stretch_of(one)
    content = bytearray(world.objects.read(where.object, 1 << 20) or b"")
    content[where.offset + where.length - 1] ^= 1
    world.objects.write(where.object, bytes(content), "")
    with pytest.raises(DigestError):
        world.store().get(one)
    assert world.store().get(two) == image(1)
    beside = replace(stretch_of(two), length=where.length)
    with pytest.raises(DigestError):
        world.store().get(replace(one, segment=beside))


def test_one_is_taken_away_and_the_others_stay(world: World) -> None:
    """It is gone for every reader, also when it is taken away again; its bytes lie nowhere any more."""
    refs = world.put()
    taken = world.objects.read(stretch_of(refs[1]).object, stretch_of(refs[1]).length, start=stretch_of(refs[1]).offset) or b""
    for _ in range(2):
        world.store().discard(refs[1])
        assert not world.store().exists(refs[1])
        with pytest.raises(BlobGoneError, match=refs[1].sha256):
            world.store().get(refs[1])
    assert [world.store().get(refs[n]) for n in (0, 2, 3)] == [image(n) for n in (0, 2, 3)]
    assert taken not in (world.objects.read(stretch_of(refs[1]).object, 1 << 20) or b"")


def test_several_are_wiped_at_once(world: World) -> None:
    """Of two segments, some of each."""
    first, second = world.put(), world.put(device="gate-2")
    world.store().wipe([first[0], second[3], first[2]])
    assert [world.store().exists(r) for r in first] == [False, True, False, True]
    assert [world.store().exists(r) for r in second] == [True, True, True, False]


def test_keys_erase_exactly_their_moment(world: World) -> None:
    """Two frames of a device in one segment, a microsecond apart: one is erased by its key, the other reads on."""
    refs = world.put()
    world.store().destroy_keys("gate-1", AT_US + 1, AT_US + 2)
    left = [world.store().exists(r) for r in refs]
    assert left == ([True, False, True, True] if world.seals else [True] * 4)
    if world.seals:
        with pytest.raises(BlobGoneError, match="its key was destroyed"):
            world.store().get(refs[1])


def test_a_lost_segment_is_gone_and_an_imported_copy_answers(world: World) -> None:
    """A bundle brings plain bytes by their digest, whose records name segments that this installation never had."""
    ref, _ = world.put(2)
    world.objects.remove(stretch_of(ref).object)
    assert not world.store().exists(ref)
    with pytest.raises(BlobGoneError):
        world.store().get(ref)
    world.store().put(image(0), "image/jpeg")
    assert world.store().exists(ref)
    assert world.store().get(ref) == image(0)


def test_behind_the_end_is_nothing(world: World) -> None:
    """A stretch that the object does not have is gone, and no other error."""
    ref, _ = world.put(2)
    far = replace(ref, segment=replace(stretch_of(ref), offset=2**30))
    assert not world.store().exists(far)
    with pytest.raises(BlobGoneError):
        world.store().get(far)


@pytest.mark.parametrize(
    "change",
    [
        {"object": "keys/gate-1"},
        {"object": "segments/../keys/gate-1"},
        {"object": "enc/x"},
        {"offset": -1},
        {"offset": 2**62},
        {"length": 0},
        {"length": 10**9},
    ],
)
def test_a_place_that_anybody_wrote_reaches_no_other_object(world: World, change: dict[str, object]) -> None:
    """Names come from the log: what is no segment, or has another length than the bytes, is refused before S3 is asked."""
    ref, _ = world.put(2)
    forged = replace(ref, segment=replace(stretch_of(ref), **change))  # type: ignore[arg-type]  # the point of it
    store = world.store()
    for call in (store.get, store.exists, store.discard):
        with pytest.raises(DigestError, match="is not a stretch of a segment"):
            call(forged)


def test_what_cannot_be_sealed_fails_alone(world: World) -> None:
    """A time that no calendar has is one frame's trouble, and not that of those that came with it."""
    odd = replace(part(1), scope=BlobScope(device_id="gate-1", captured_at_us=2**62))
    first, second, third = world.store().put_together([part(0), odd, part(2)])
    assert isinstance(first, BlobRef)
    assert isinstance(third, BlobRef)
    assert isinstance(second, ContractError) == world.seals
    assert [world.store().get(first), world.store().get(third)] == [image(0), image(2)]


def test_a_store_that_is_away_stores_none() -> None:
    """And says so by the one error that is tried again."""

    class Away(MemoryObjects):
        def write(self, name: str, content: bytes, media_type: str) -> None:
            raise BlobStoreUnavailableError("away")

    store = World(objects=Away(), keys=MemoryObjects(), plain=MemoryBlobStore(), seals=False).store()
    with pytest.raises(BlobStoreUnavailableError):
        store.put_together([part(0), part(1)])
