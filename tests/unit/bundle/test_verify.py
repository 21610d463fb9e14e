"""`bundle verify` finds any flipped byte, and what is cut, put in, moved or made up."""

import hashlib
import io
import json
import random
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import FRAMES
from schemas.errors import BundleError, ContractError
from schemas.types import BlobRef
from streams.bundle import layout, open_bundle, verify_bundle
from streams.bundle.layout import BLOCK, CLOSING, END_MARK, INDEX, MANIFEST, MISSING, EndMark, Entry
from streams.bundle.signing import Signer, make_keys, public_key
from streams.records import Outgoing
from tests.bundles import World, bundled, everything, run_of


def owners(content: bytes) -> list[tuple[int, int, str]]:
    """Which entry each byte belongs to, as a TAR reader of the standard library sees it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        found = [(m.offset, m.offset_data + layout.padded(m.size), m.name) for m in opened]
    return [*found, (found[-1][1], len(content), CLOSING)]


def owner_of(owned: list[tuple[int, int, str]], at: int) -> str:
    return next(name for start, stop, name in owned if start <= at < stop)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "recorder.key").private


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> bytes:
    """One frame of one device, one blob there, one gone, signed."""
    world = World(partitions=1)
    world.captured("gate-1", 0)
    gone, _ = world.captured("gate-1", 1)
    del world.blobs.contents[gone.blob.sha256]
    path = tmp_path_factory.mktemp("small") / "small.hsb"
    bundled(world.past(), path, signer=Signer(keys))
    assert verify_bundle(path).whole
    return path.read_bytes()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Several segments, schemas, blobs of every length, some gone."""
    world = run_of(["gate-1", "gate-2", "gate-3"], 4)
    chance = random.Random(5)
    for number in range(20):
        frame, _ = world.captured("gate-9", number, chance.randbytes(chance.choice([0, 1, 511, 512, 513, 70_000])))
        if number % 7 == 0:
            world.blobs.contents.pop(frame.blob.sha256, None)
    path = tmp_path_factory.mktemp("large") / "large.hsb"
    bundled(world.past(), path)
    assert verify_bundle(path).whole
    return path.read_bytes()


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


@pytest.mark.slow
def test_any_flipped_byte_is_found_and_its_entry_named(small: bytes, tmp_path: Path) -> None:
    """Every byte of the file, headers, paddings and end included: not whole, and the first finding names the entry."""
    path, owned = tmp_path / "flipped.hsb", owners(small)
    assert {name for _, _, name in owned} >= {MANIFEST, INDEX, MISSING, END_MARK, CLOSING, layout.SIGNATURE}
    for at in range(len(small)):
        path.write_bytes(flipped(small, at, at % 8))
        found = verify_bundle(path)
        assert [d.entry for d in found.damages] == [owner_of(owned, at)], f"byte {at}: {found.damages}"


def test_flipped_bytes_of_a_larger_one_are_found(large: bytes, tmp_path: Path) -> None:
    """The same for a sample of places, every entry among them."""
    path, owned, chance = tmp_path / "flipped.hsb", owners(large), random.Random(9)
    places = [chance.randrange(start, stop) for start, stop, _ in owned] + [chance.randrange(len(large)) for _ in range(150)]
    for at in places:
        path.write_bytes(flipped(large, at, chance.randrange(8)))
        found = verify_bundle(path)
        assert [d.entry for d in found.damages] == [owner_of(owned, at)], f"byte {at}: {found.damages}"


def test_several_damages_are_all_named(large: bytes, tmp_path: Path) -> None:
    """Damage in one entry does not hide damage in another."""
    owned = [entry for entry in owners(large) if entry[2].startswith(("records/", "blobs/", "schemas/"))]
    content = large
    for start, _, _ in owned:
        content = flipped(content, start + 100)
    path = tmp_path / "flipped.hsb"
    path.write_bytes(content)
    assert [d.entry for d in verify_bundle(path).damages] == [name for _, _, name in owned]


def test_a_file_cut_at_any_length_is_refused(small: bytes, tmp_path: Path) -> None:
    """Neither verified nor opened, and never anything but the clear error."""
    path = tmp_path / "cut.hsb"
    for length in [*range(0, len(small), 61), *range(BLOCK, len(small), BLOCK), len(small) - 1]:
        path.write_bytes(small[:length])
        assert not verify_bundle(path).whole
        with pytest.raises(BundleError), open_bundle(path):
            pass


def test_what_is_put_behind_or_between_is_found(small: bytes, tmp_path: Path) -> None:
    """More zeros, another TAR behind it, an entry in the middle."""
    path = tmp_path / "more.hsb"
    extra = layout.header("../../evil", 3) + b"abc".ljust(BLOCK, b"\0")
    first = owners(small)[0][1]
    for content in (
        small + bytes(512),
        small + bytes(10240),
        small + small,
        small[:first] + extra + small[first:],
        extra + small,
    ):
        path.write_bytes(content)
        assert not verify_bundle(path).whole


def test_entries_that_are_swapped_are_found(large: bytes, tmp_path: Path) -> None:
    """Two whole entries of the same length in each other's place."""
    blobs = [(start, stop) for start, stop, name in owners(large) if name.startswith("blobs/")]
    (a, a_end), (b, b_end) = next((x, y) for x in blobs for y in blobs if x < y and x[1] - x[0] == y[1] - y[0])
    path = tmp_path / "swapped.hsb"
    path.write_bytes(large[:a] + large[b:b_end] + large[a_end:b] + large[a:a_end] + large[b_end:])
    assert len(verify_bundle(path).damages) == 2


def test_a_signature_shows_who_made_it(small: bytes, keys: Path, tmp_path: Path) -> None:
    """The right key trusts it; another one, a stripped or replaced signature does not."""
    path = tmp_path / "signed.hsb"
    path.write_bytes(small)
    trusted = public_key(keys.with_name("recorder.key.pub"))
    other = public_key(make_keys(tmp_path / "other.key").public)
    assert verify_bundle(path, key=trusted).trusted is True
    assert verify_bundle(path).whole
    wrong = verify_bundle(path, key=other)
    assert (wrong.trusted, wrong.whole, wrong.damages_count) == (False, False, 0)
    path.write_bytes(rebuilt(small, lambda manifest: None))
    stripped = verify_bundle(path, key=trusted)
    assert (stripped.signed_by, stripped.trusted, stripped.whole) == (None, False, False)


def test_a_signature_of_something_else_is_found(small: bytes, keys: Path, tmp_path: Path) -> None:
    """A manifest that was changed and made consistent with everything, under the old signature."""
    path = tmp_path / "forged.hsb"
    path.write_bytes(rebuilt(small, lambda m: m["about"].update(created_by="somebody"), keep_signature=True))
    found = verify_bundle(path)
    assert [d.entry for d in found.damages] == [layout.SIGNATURE]


def rebuilt(
    content: bytes, change: Callable[[Any], None], *, keep_signature: bool = False, body: Callable[[bytes], bytes] | None = None
) -> bytes:
    """A bundle whose manifest says something else, and whose end agrees with it: what a forger would make."""
    mark = layout.read_end_mark(content[-1536:-1024], len(content))
    manifest = json.loads(content[mark.manifest.at : mark.manifest.at + mark.manifest.size_bytes])
    change(manifest)
    front = content[: mark.manifest.at - BLOCK]
    out = io.BytesIO()
    out.write(body(front) if body is not None else front)

    def add(name: str, what: bytes) -> Entry:
        at = out.tell() + BLOCK
        out.write(layout.header(name, len(what)) + what.ljust(layout.padded(len(what)), b"\0"))
        return Entry(at=at, size_bytes=len(what), sha256=layout.sha256_of(what))

    made = add(MANIFEST, json.dumps(manifest).encode())
    signature = None
    if keep_signature and mark.signature is not None:
        old = mark.signature
        signature = add(layout.SIGNATURE, content[old.at : old.at + old.size_bytes])
    new = EndMark(manifest=made, signature=signature, file_bytes=out.tell() + layout.TAIL_BYTES)
    add(END_MARK, layout.end_mark_content(new))
    out.write(bytes(2 * BLOCK))
    return out.getvalue()


def first_segment(manifest: Any) -> Any:
    return next(p for p in manifest["partitions"] if p["segments"])["segments"][0]


def frames(manifest: Any) -> Any:
    return next(p for p in manifest["partitions"] if p["topic"] == FRAMES)


FORGERIES: dict[str, Callable[[Any], Any]] = {
    "a newer version": lambda m: m.update(version=2),
    "another format": lambda m: m.update(format="zip"),
    "a field that is missing": lambda m: m.pop("blobs"),
    "a field too many": lambda m: m.update(extra=1),
    "a number that is text": lambda m: frames(m).update(end="9"),
    "a number that is a fraction": lambda m: frames(m).update(end=1.5),
    "an unknown topic": lambda m: frames(m).update(topic="vision.secrets"),
    "a topic that leads out": lambda m: frames(m).update(topic="../../etc"),
    "an absolute topic": lambda m: frames(m).update(topic="/etc"),
    "a partition twice": lambda m: m["partitions"].insert(0, dict(frames(m))),
    "a partition left out": lambda m: frames(m).update(partition=7),
    "a negative offset": lambda m: first_segment(m).update(first_offset=-1),
    "an absurd offset": lambda m: first_segment(m).update(last_offset=2**80),
    "an absurd end": lambda m: frames(m).update(end=2**70, log_end=2**70),
    "an end before its start": lambda m: frames(m).update(earliest=9, end=2),
    "offsets beyond the end": lambda m: first_segment(m).update(last_offset=999),
    "an entry beyond the file": lambda m: first_segment(m)["entry"].update(size_bytes=10**9),
    "an entry of no length": lambda m: first_segment(m)["entry"].update(size_bytes=-1),
    "an entry inside another": lambda m: first_segment(m)["entry"].update(at=0),
    "a place that is none": lambda m: first_segment(m)["entry"].update(at=513),
    "a bomb": lambda m: first_segment(m).update(raw_bytes=2**40),
    "more records than offsets": lambda m: first_segment(m).update(items_count=60_000),
    "times that cannot be": lambda m: first_segment(m).update(most_ms=2**62),
    "half a sign in a name": lambda m: m["about"].update(created_by="\ud800"),
    "a window that ends first": lambda m: m["about"].update(from_us=5, to_us=4),
    "schemas out of order": lambda m: m["schemas"].append(m["schemas"][0]),
    "an absurd schema id": lambda m: m["schemas"][0].update(id=2**70),
    "blobs elsewhere": lambda m: m["blobs"].update(first_at=512),
    "an index elsewhere": lambda m: m["blobs"]["index"].update(at=512),
    "an index of half a row": lambda m: m["blobs"].update(count=77),
    "fewer than no blobs": lambda m: m["blobs"].update(count=-1),
    "an entry that is not there": lambda m: m["schemas"].append(
        {"id": 99, "entry": {"at": 1024, "size_bytes": 9, "sha256": "00"}}
    ),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_manifest_that_says_what_cannot_be_is_refused(small: bytes, tmp_path: Path, what: str) -> None:
    """Digests and end mark agree, and still it makes no sense: refused with a sentence, when opened or when verified."""
    path = tmp_path / "forged.hsb"
    path.write_bytes(rebuilt(small, FORGERIES[what]))
    found = verify_bundle(path)
    assert found.damages, what
    assert all(d.what for d in found.damages)
    if what != "an index of half a row":
        with pytest.raises(BundleError, match=r"manifest\.json"), open_bundle(path):
            pass


def test_a_manifest_that_is_no_json_is_refused(small: bytes, tmp_path: Path) -> None:
    """Depth bombs, other encodings, numbers of ten thousand digits."""
    path = tmp_path / "forged.hsb"
    for text in (b"[" * 200_000, b"\xff\xfe", b"null", b'{"format":' + b"9" * 10_000 + b"}", b"{}", b"\0" * 100):
        path.write_bytes(rebuilt_with(small, text))
        assert verify_bundle(path).damages[0].entry == MANIFEST


def rebuilt_with(content: bytes, text: bytes) -> bytes:
    mark = layout.read_end_mark(content[-1536:-1024], len(content))
    front = content[: mark.manifest.at - BLOCK]
    made = Entry(at=mark.manifest.at, size_bytes=len(text), sha256=layout.sha256_of(text))
    end = EndMark(manifest=made, signature=None, file_bytes=made.next_at - BLOCK + layout.TAIL_BYTES)
    body = layout.header(MANIFEST, len(text)) + text.ljust(layout.padded(len(text)), b"\0")
    return front + body + layout.header(END_MARK, BLOCK) + layout.end_mark_content(end) + bytes(2 * BLOCK)


def with_segment(content: bytes, raw: bytes, **changes: Any) -> bytes:
    """The first segment replaced by another of the forger's making, with every digest and place set right."""
    packed = changes.pop("packed", zlib.compress(raw))
    shift = 0

    def change(manifest: Any) -> None:
        nonlocal shift
        segment = first_segment(manifest)
        before = layout.padded(segment["entry"]["size_bytes"])
        shift = layout.padded(len(packed)) - before
        segment["entry"].update(size_bytes=len(packed), sha256=hashlib.sha256(packed).hexdigest())
        segment.update({"raw_bytes": len(raw), **changes})
        for entry in (*(s["entry"] for s in manifest["schemas"]), manifest["blobs"]["missing"], manifest["blobs"]["index"]):
            entry["at"] += shift
        manifest["blobs"]["first_at"] += shift

    def body(front: bytes) -> bytes:
        start, stop, name = owners_of_front(front)[0]
        return front[:start] + layout.header(name, len(packed)) + packed.ljust(layout.padded(len(packed)), b"\0") + front[stop:]

    return rebuilt(content, change, body=body)


def owners_of_front(front: bytes) -> list[tuple[int, int, str]]:
    return owners(front + bytes(1024))[:-1]


FIXED = struct.Struct(">BQq")
LENGTHS = struct.Struct(">iiI")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three records that name no blob, so that nothing behind the segment has to be moved but the index."""
    world = World(partitions=1)
    for value in (b"", None, b"x"):
        world.raw(Outgoing(topic=FRAMES, key=b"gate-1", value=value, headers=()))
    path = tmp_path_factory.mktemp("plain") / "plain.hsb"
    bundled(world.past(), path)
    return path.read_bytes()


def segment_of(content: bytes) -> Any:
    """What the manifest says of the first segment."""
    mark = layout.read_end_mark(content[-1536:-1024], len(content))
    return first_segment(json.loads(content[mark.manifest.at : mark.manifest.at + mark.manifest.size_bytes]))


def test_a_forged_segment_is_refused(plain: bytes, tmp_path: Path) -> None:
    """Bombs, lengths that lie, records out of order, times and ids that are not theirs: named, when verified and when read."""
    segment = segment_of(plain)
    first, last = segment["least_ms"], segment["most_ms"]
    unknown = struct.pack(">bI", 0, 4711) + b"body"

    def record(
        offset: int, at_ms: int, value: bytes = b"", *, key: int = -1, length: int | None = None, headers: int = 0
    ) -> bytes:
        return FIXED.pack(0, offset, at_ms) + LENGTHS.pack(key, len(value) if length is None else length, headers) + value

    two = record(0, first) + record(1, first)
    good = two + record(2, last)
    forged = {
        "bomb": with_segment(plain, good, packed=zlib.compress(bytes(50 * 2**20))),
        "cut": with_segment(plain, good, packed=zlib.compress(good)[:-3]),
        "more behind": with_segment(plain, good, packed=zlib.compress(good) + b"more"),
        "no zlib": with_segment(plain, good, packed=b"rubbish"),
        "shorter": with_segment(plain, good, raw_bytes=len(good) - 1),
        "cut item": with_segment(plain, good[:-3]),
        "lying value": with_segment(plain, two + record(2, last, b"abc", length=2**31 - 1)),
        "negative value": with_segment(plain, two + record(2, last, b"abc", length=-2)),
        "lying headers": with_segment(plain, two + record(2, last, headers=2**32 - 1)),
        "lying key": with_segment(plain, two + record(2, last, key=2**30)),
        "other kind": with_segment(plain, FIXED.pack(7, 0, first) + record(1, first) + record(2, last)),
        "out of order": with_segment(plain, record(1, first) + record(0, first) + record(2, last)),
        "twice": with_segment(plain, record(0, first) + record(0, first) + record(2, last)),
        "another first": with_segment(plain, record(1, first) + record(2, last), items_count=2, records_count=2),
        "beyond": with_segment(plain, two + record(5, last)),
        "other time": with_segment(plain, two + record(2, last + 1)),
        "no such times": with_segment(plain, two + record(2, first)),
        "one less": with_segment(plain, two),
        "unknown schema": with_segment(plain, two + record(2, last, unknown)),
    }
    path = tmp_path / "forged.hsb"
    path.write_bytes(with_segment(plain, good))
    assert verify_bundle(path).whole, "the forger's tool itself makes whole bundles"
    for what, content in forged.items():
        path.write_bytes(content)
        found = verify_bundle(path)
        assert [d.entry for d in found.damages] == ["records/vision.frames/0/00000000000000000000.seg"], (
            f"{what}: {found.damages}"
        )
        if what != "unknown schema":
            with pytest.raises(BundleError), open_bundle(path) as past:
                everything(past.log)
        else:
            with open_bundle(path) as past, pytest.raises(ContractError, match="4711"):
                past.schemas.schema_of(4711)


def test_a_bomb_is_never_unpacked(plain: bytes, tmp_path: Path) -> None:
    """A segment that would unpack to 40 MB takes what the manifest says and no more, verified or read."""
    path = tmp_path / "bomb.hsb"
    path.write_bytes(with_segment(plain, bytes(100), packed=zlib.compress(bytes(40 * 10**6))))
    tracemalloc.start()
    try:
        assert not verify_bundle(path).whole
        with pytest.raises(BundleError, match="does not unpack"), open_bundle(path) as past:
            everything(past.log)
        assert tracemalloc.get_traced_memory()[1] < 20 * 10**6
    finally:
        tracemalloc.stop()


def test_what_is_hidden_among_the_blobs_is_found(large: bytes, tmp_path: Path) -> None:
    """An entry between two blobs, with the index, the manifest and every digest made to step over it."""
    owned = owners(large)
    first = next(start for start, _, name in owned if name.startswith("blobs/") and len(name) == 70)
    extra = layout.header("../../evil", 3) + b"abc".ljust(BLOCK, b"\0")
    second = next(start for start, _, name in owned if start > first)

    def body(front: bytes) -> bytes:
        moved = front[:second] + extra + front[second:]
        start, stop, _ = next(e for e in owners_of_front(moved) if e[2] == INDEX)
        rows = [moved[at : at + 56] for at in range(start + BLOCK, stop, 56) if at + 56 <= stop and any(moved[at : at + 32])]
        places = [struct.unpack(">32sQQQ", row) for row in rows]
        index = b"".join(
            struct.pack(">32sQQQ", sha, at + len(extra) if at > second else at, size, kind) for sha, at, size, kind in places
        )
        return moved[: start + BLOCK] + index + moved[start + BLOCK + len(index) :]

    def change(manifest: Any) -> None:
        made = body(large[: layout.read_end_mark(large[-1536:-1024], len(large)).manifest.at - BLOCK])
        manifest["blobs"]["missing"]["at"] += len(extra)
        index = manifest["blobs"]["index"]
        index["at"] += len(extra)
        index["sha256"] = layout.sha256_of(made[index["at"] : index["at"] + index["size_bytes"]])

    path = tmp_path / "hidden.hsb"
    path.write_bytes(rebuilt(large, change, body=body))
    found = verify_bundle(path)
    assert [d.what for d in found.damages] == [found.damages[0].what], found.damages
    assert "it should lie at" in found.damages[0].what


def test_damage_is_named_when_it_is_read(large: bytes, tmp_path: Path) -> None:
    """Without verifying first: a damaged segment, schema or blob is refused, and what is whole is still answered."""
    path = tmp_path / "flipped.hsb"
    owned = owners(large)
    blob = next((start, name) for start, _, name in owned if name.startswith("blobs/") and not name.startswith("blobs."))
    content = flipped(large, owned[0][0] + 530)
    content = flipped(content, blob[0] + 512)
    path.write_bytes(content)
    with open_bundle(path) as past:
        with pytest.raises(BundleError, match="records/"):
            everything(past.log)
        sha256 = blob[1].removeprefix("blobs/")
        size = next(m.size for m in tarfile.open(path) if m.name == blob[1])  # noqa: SIM115
        with pytest.raises(ContractError, match=sha256):
            past.blobs.get(BlobRef(sha256=sha256, size_bytes=size, media_type="x"))


def test_any_tar_lists_it_and_nothing_in_it_leads_out(large: bytes) -> None:
    """Plain files with relative names only, in the order of the format."""
    with tarfile.open(fileobj=io.BytesIO(large)) as opened:
        members = opened.getmembers()
    assert all(m.isfile() and not m.name.startswith("/") and ".." not in m.name.split("/") for m in members)
    kinds = [m.name.split("/")[0] for m in members]
    assert kinds == sorted(kinds, key=["records", "schemas", "blobs", MISSING, INDEX, MANIFEST, END_MARK].index)
    assert all((m.mtime, m.uid, m.gid, m.mode, m.uname) == (0, 0, 0, 0o644, "") for m in members)


def test_the_header_of_an_entry_never_changes() -> None:
    """Bundles are verified by making headers anew, also by later versions of Python."""
    assert hashlib.sha256(layout.header("schemas/7.avsc", 12345)).hexdigest() == HEADER_SHA256


HEADER_SHA256 = "9cca418d61c8576e29d14c0c3bf88e88764a31a085a5f252e602ef391df9bb1f"
