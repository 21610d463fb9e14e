"""A snapshot that somebody made up, in a bundle or in the store: passed over with a sentence, in bounded memory."""

import gzip
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest

from processors.lookback.known import known_at
from processors.snapshots import manifest as manifests
from processors.snapshots.announcing import event_of, outgoing
from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.manifest import Manifest, Piece
from processors.snapshots.reading import Snapshots
from processors.snapshots.taking import hold_anchor, settled, take
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS
from schemas.errors import DigestError
from streams.memory import MemoryBlobStore
from streams.records import LEFT_OUT
from tests.bundles import run_of

FRAMES = VIEWS["device_frames"]
BOMB = gzip.compress(bytes(400 * 2**20), 9)


def pieces_of(content: bytes, manifest: Manifest, blobs: MemoryBlobStore) -> bytes:
    ref = blobs.put(content, "x")
    piece = Piece(sha256=ref.sha256, size_bytes=ref.size_bytes, digest="x", keys_count=1)
    return manifests.pack(replace(manifest, pieces=tuple(piece for _ in manifest.pieces)))


FORGERIES: dict[str, Callable[[Manifest, MemoryBlobStore], bytes]] = {
    "a bomb": lambda m, _: BOMB,
    "a bomb as piece": lambda m, blobs: pieces_of(BOMB, m, blobs),
    "half a gzip": lambda m, _: gzip.compress(b"{}")[:-4],
    "depth": lambda m, _: gzip.compress(b"[" * 200_000),
    "a state of depth": lambda m, blobs: pieces_of(
        gzip.compress(b'{}\n{"key":"gate-1","state":' + b"[" * 100_000 + b"}\n"), m, blobs
    ),
    "no pieces": lambda m, _: manifests.pack(replace(m, pieces=())),
    "three pieces": lambda m, _: manifests.pack(replace(m, pieces=(None, None, None))),
    "a negative position": lambda m, _: manifests.pack(replace(m, offset=-5)),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_it_is_passed_over(what: str) -> None:
    """The answer is that of the log, and says why."""
    world = run_of(["gate-1"], 30, partitions=1)
    ports = Ports(log=world.log, schemas=world.schemas, blobs=world.blobs, append=world.raw, clock=lambda: world.now_us)
    made = Keeper(FRAMES, 0, ports, Rules(every_events=10, every_ms=10**9, policy=Policy())).take_now()
    assert made is not None
    forged = world.blobs.put(FORGERIES[what](made, world.blobs), "x")
    world.raw(outgoing(event_of(made, forged, world.now_us), world.schemas))
    tracemalloc.start()
    found = known_at(
        world.log, world.schemas, FRAMES, "gate-1", world.now_us, snapshots=Snapshots(world.log, world.schemas, world.blobs)
    )
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.state.accepted_count == 30
    assert "passed over" in found.notes[0]
    assert most_bytes < 300 * 2**20


def test_a_snapshot_may_end_at_a_record_that_an_import_left_out() -> None:
    """An imported bundle of one device has only the place and the time of what another one wrote before the snapshot."""
    world = run_of(["gate-1"], 9, partitions=1)
    at = settled(world.log, ASSESSMENTS, 0, 5)
    manifest = take(FRAMES, world.log, world.schemas, world.blobs, partition=0, stop=at).manifest
    (last,) = world.log.read(ASSESSMENTS, 0, at - 1, at)
    hold_anchor(manifest, last)
    hold_anchor(manifest, replace(last, value=None, headers=((LEFT_OUT, b"1"),)))
    with pytest.raises(DigestError):
        hold_anchor(manifest, replace(last, value=b"another"))
    with pytest.raises(DigestError):
        hold_anchor(manifest, replace(last, headers=((LEFT_OUT, b"1"),), appended_at_ms=1))
