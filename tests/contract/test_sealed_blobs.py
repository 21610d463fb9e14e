"""Encrypted blobs: nothing plain lies in the store, what is destroyed can never be read, and everything else reads as before."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from schemas.errors import BlobGoneError, ConfigurationError, DigestError
from schemas.types import BlobRef
from streams import key_tree, keyring
from streams.blob_names import Place, place_of
from streams.keyring import KeyRing, opened
from streams.memory import MemoryBlobStore, MemoryObjects
from streams.ports import BlobScope, Objects
from streams.sealed_blobs import SealedBlobs
from tests.contract.test_objects import s3_objects
from tests.given import AT_US

MASTER_KEY = bytes(range(32))
SECOND_US = 1_000_000
DAY_US = 24 * 3600 * SECOND_US
MIDNIGHT_US = AT_US - AT_US % DAY_US


@dataclass(frozen=True)
class World:
    """Blobs and keys, each in a bucket of their own."""

    blobs: Objects
    keys: Objects

    def store(self, *, master_key: bytes = MASTER_KEY, seals: bool = True) -> SealedBlobs:
        """As another process would have it: nothing kept from before."""
        return SealedBlobs(MemoryBlobStore(), self.blobs, KeyRing(self.keys, master_key), seals=seals)

    def everything(self) -> Iterable[bytes]:
        for objects in (self.blobs, self.keys):
            for name in objects.list(""):
                yield name.encode() + b"\n" + (objects.read(name, 1 << 24) or b"")


@pytest.fixture(params=["memory", "s3"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return World(blobs=MemoryObjects(), keys=MemoryObjects())
    stack, namespace = request.getfixturevalue("stack"), request.getfixturevalue("namespace")
    return World(blobs=s3_objects(stack, namespace.bucket("blobs")), keys=s3_objects(stack, namespace.bucket("keys")))


def image(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * 20


def put(store: SealedBlobs, number: int, at_us: int, device: str = "gate-1") -> BlobRef:
    return store.put(image(number), "image/jpeg", scope=BlobScope(device_id=device, captured_at_us=at_us))


def test_nothing_plain_lies_there(world: World) -> None:
    """Neither a frame's bytes nor a data key; and the reference says device, day and microsecond of its key."""
    store = world.store()
    ref = put(store, 1, AT_US)
    assert ref.sha256 == hashlib.sha256(image(1)).hexdigest()
    assert re.fullmatch(r"gate-1/2026-09-21/[0-9a-f]{32}/51200000000", ref.key_id or "")
    _, key = KeyRing(world.keys, MASTER_KEY).to_write(place_of("gate-1", AT_US))
    for lies in world.everything():
        assert image(1)[:32] not in lies
        assert key not in lies
        assert MASTER_KEY not in lies
    assert world.store().get(ref) == image(1)


def test_the_same_image_twice_is_two_blobs(world: World) -> None:
    """Of two devices, or of two moments: erasing one leaves the other. Of one moment it is one, however often it is sent."""
    store = world.store()
    first, again = put(store, 1, AT_US), put(world.store(), 1, AT_US)
    later, other = put(store, 1, AT_US + 1), put(store, 1, AT_US, device="gate-2")
    assert first == again
    assert len({first, later, other}) == 3
    store.destroy_keys("gate-1", AT_US, AT_US + 1)
    with pytest.raises(BlobGoneError, match="its key was destroyed"):
        store.get(first)
    assert store.get(later) == store.get(other) == image(1)


def test_exactly_what_was_captured_in_the_stretch_is_destroyed(world: World) -> None:
    """To the microsecond, across midnight, for one device; also for processes that read before, and doing it again is fine."""
    store = world.store()
    begin, end = MIDNIGHT_US + DAY_US - 5 * SECOND_US, MIDNIGHT_US + 2 * DAY_US + 3 * SECOND_US
    times = [begin - 1, begin, begin + 1, MIDNIGHT_US + DAY_US, MIDNIGHT_US + 2 * DAY_US - 1, end - 1, end, end + DAY_US]
    refs = {at: put(store, n, at) for n, at in enumerate(times)}
    others = {at: put(store, n, at, device="gate-10") for n, at in enumerate(times)}
    reader = world.store()
    assert all(reader.exists(ref) for ref in refs.values())
    for _ in range(2):
        concerned = world.store().destroy_keys("gate-1", begin, end)
        assert sorted(k.split("/")[1] for k in concerned) == (
            ["2026-09-21", "2026-09-22", "2026-09-23"] if _ == 0 else ["2026-09-21", "2026-09-23"]
        )
    for number, at in enumerate(times):
        assert reader.get(others[at]) == image(number)
        if begin <= at < end:
            assert not reader.exists(refs[at])
            with pytest.raises(BlobGoneError):
                reader.get(refs[at])
        else:
            assert reader.get(refs[at]) == image(number)


def test_a_copy_of_the_ciphertext_is_worth_nothing(world: World) -> None:
    """With every ciphertext from before, the master key, and all keys that are left, no leaf that was cut can be made."""
    store = world.store()
    erased, kept = put(store, 1, AT_US), put(store, 2, AT_US + 10 * SECOND_US)
    backup = {name: world.blobs.read(name, 1 << 24) or b"" for name in world.blobs.list("")}
    store.destroy_keys("gate-1", AT_US - SECOND_US, AT_US + SECOND_US)
    nodes = [
        node
        for name in world.keys.list("")
        for node in key_tree.unpack(opened(MASTER_KEY, world.keys.read(name, 1 << 24) or b"", name.encode()) or b"")
    ]
    assert nodes, "the day is not over: its key is left, and cut"
    for ref, expected in ((erased, None), (kept, image(2))):
        name = f"enc/{ref.key_id}/{ref.sha256}"
        leaf = int((ref.key_id or "").rpartition("/")[2])
        can = key_tree.leaf(tuple(nodes), leaf)
        tries = [MASTER_KEY, *(n.key for n in nodes), *([can] if can else [])]
        opens = [plain for key in tries if (plain := opened(key, backup[name], name.encode())) is not None]
        assert opens == ([] if expected is None else [expected])


def test_a_frame_that_comes_late_gets_a_new_key(world: World) -> None:
    """What arrives after an erasure, for the time that was erased, is stored and read; what was erased stays so."""
    store = world.store()
    before = put(store, 1, AT_US)
    world.store().destroy_keys("gate-1", AT_US, AT_US + SECOND_US)
    late = put(world.store(), 1, AT_US)
    assert late != before
    assert world.store().get(late) == image(1)
    with pytest.raises(BlobGoneError):
        world.store().get(before)
    assert world.store().get(put(world.store(), 3, AT_US + 2 * SECOND_US)) == image(3)


def test_a_writer_that_remembers_a_destroyed_key_writes_nothing_readable(world: World) -> None:
    """A gateway keeps a day's key for a minute: what it writes into the erased time meanwhile is erased from the start."""
    writer = world.store()
    put(writer, 1, AT_US)
    world.store().destroy_keys("gate-1", MIDNIGHT_US, MIDNIGHT_US + DAY_US)
    with pytest.raises(BlobGoneError):
        world.store().get(put(writer, 2, AT_US + 1))


def test_two_writers_at_once_both_keep_their_frames(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sees the other's new key; nothing is overwritten, and an erasure finds both."""
    monkeypatch.setattr(KeyRing, "_find_or_make", _makes_always)
    refs = [put(world.store(), n, AT_US + n) for n in range(2)]
    assert len({(r.key_id or "").rpartition("/")[0] for r in refs}) == 2
    assert [world.store().get(r) for r in refs] == [image(0), image(1)]
    assert len(world.store().destroy_keys("gate-1", AT_US, AT_US + 1)) == 2
    assert [world.store().exists(r) for r in refs] == [False, True]


def _makes_always(self: KeyRing, place: Place) -> tuple[str, key_tree.Nodes]:
    key_id, nodes = f"{place.device}/{place.day}/{keyring.os.urandom(16).hex()}", key_tree.root(keyring.os.urandom(32))
    self._store(key_id, nodes)
    return key_id, nodes


def test_without_or_with_another_master_key_nothing_is_read(world: World) -> None:
    """The first names the setting; the second says that the key does not open, and is not taken for an erasure."""
    ref = put(world.store(), 1, AT_US)
    with pytest.raises(ConfigurationError) as raised:
        world.store(master_key=b"").get(ref)
    assert raised.value.setting == "blobs.master_key"
    with pytest.raises(DigestError, match="does not open under this master key"):
        world.store(master_key=bytes(32)).get(ref)


def test_what_was_plain_is_read_on(world: World) -> None:
    """Turned on or off later: each reference says by itself how it lies."""
    plain = MemoryBlobStore()
    off = SealedBlobs(plain, world.blobs, KeyRing(world.keys, MASTER_KEY), seals=False)
    on = SealedBlobs(plain, world.blobs, KeyRing(world.keys, MASTER_KEY), seals=True)
    refs = [put(off, 1, AT_US), put(on, 2, AT_US), on.put(image(3), "application/json")]
    assert [r.key_id is None for r in refs] == [True, False, True]
    for store in (on, off):
        assert [store.get(r) for r in refs] == [image(1), image(2), image(3)]


def test_an_imported_blob_answers_for_an_encrypted_one(world: World) -> None:
    """A bundle brings plain bytes, and its records name keys that this installation never had."""
    store = world.store()
    ref = replace(put(store, 1, AT_US), key_id="gate-1/2026-09-21/" + "ab" * 16 + "/5")
    with pytest.raises(BlobGoneError):
        store.get(ref)
    store.put(image(1), "image/jpeg")
    assert store.get(ref) == image(1)
    assert store.exists(ref)


@pytest.mark.parametrize(
    "name", ["", "x", "../../keys/1", "gate-1/2026-09-21/zz/5", "gate-1/2026-09-21/" + "ab" * 16 + "/-1", "/" * 9]
)
def test_a_key_id_that_anybody_wrote_reaches_no_path(name: str) -> None:
    """It is refused as what it is: no key's id."""
    store = World(blobs=MemoryObjects(), keys=MemoryObjects()).store()
    ref = BlobRef(sha256="ab" * 32, size_bytes=1, media_type="image/jpeg", key_id=name)
    for call in (store.get, store.exists, store.discard):
        with pytest.raises(DigestError, match="not the id of a blob's key"):
            call(ref)


def test_a_device_whose_name_no_path_can_hold(world: World) -> None:
    """Its folder is its digest, and erasing finds it."""
    store = world.store()
    ref = put(store, 1, AT_US, device="../böse/gate 1")
    assert store.get(ref) == image(1)
    assert ".." not in (ref.key_id or "")
    store.destroy_keys("../böse/gate 1", AT_US, AT_US + 1)
    assert not store.exists(ref)


def test_swapped_ciphertexts_are_found_out(world: World) -> None:
    """Each is bound to its name: one put in another's place does not open."""
    store = world.store()
    one, two = put(store, 1, AT_US), put(store, 2, AT_US)
    sealed = world.blobs.read(f"enc/{one.key_id}/{one.sha256}", 1 << 20) or b""
    world.blobs.write(f"enc/{two.key_id}/{two.sha256}", sealed, "")
    with pytest.raises(DigestError):
        store.get(two)
