"""Snapshots held against the log: each one's pieces are what the manifest says, and its digest is that of the fold.

Each is compared with the fold of the tail onto the sound one before it, the first with the fold from the start of the log.
So the check reads the log once, and takes no more memory than taking snapshots does. It stores nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from processors.snapshots import pieces
from processors.snapshots.announcing import announced
from processors.snapshots.manifest import Kept, Manifest, fold_of
from processors.snapshots.reading import Snapshots
from processors.snapshots.taking import piece_ref, take
from processors.views.catalogue import View
from schemas.catalogue import RELEASES
from schemas.codec import Schemas
from schemas.errors import ContractError
from schemas.types import BlobRef
from streams.blobs import digest
from streams.past import Scope
from streams.ports import BlobScope, BlobStore, EventLog

EQUAL, DIFFERENT, DAMAGED, INTACT, OTHER = "equal", "different", "damaged", "intact", "other version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One snapshot. `verdict` is equal, different, damaged, intact (the log no longer reaches back to it), or other version."""

    view: str
    partition: int
    offset: int
    keys_count: int
    verdict: str
    detail: str

    @property
    def is_good(self) -> bool:
        return self.verdict in (EQUAL, INTACT, OTHER)


def check(
    view: View[Any], log: EventLog, schemas: Schemas, blobs: BlobStore, partition: int, *, scope: Scope | None = None
) -> Iterator[Checked]:
    """Every kept snapshot of a view's partition, the oldest first.

    Args:
        scope: Where the log is that of a bundle: snapshots that it does not hold are none of it, and one that leaves devices
            out has not all that the snapshots count.
    Raises:
        LogUnavailableError, BlobStoreUnavailableError: no answer.
    """
    reading, notes = Snapshots(log, schemas, blobs), list[str]()
    names = sorted(reading.names(view, partition, notes), key=lambda one: one.offset)
    if scope is not None:
        names, notes = [name for name in names if blobs.exists(name.ref())], []
    said = {one.taken.blob.sha256: one.taken.digest for one in announced(log, schemas, view.name, partition)}
    if reading.away is not None:
        raise reading.away
    for note in notes:
        yield Checked(view=view.name, partition=partition, offset=-1, keys_count=0, verdict=DAMAGED, detail=note)
    lacks_devices = scope is not None and scope.devices is not None and view.topic != RELEASES
    checking = _Checking(view, log, schemas, blobs, partition, lacks_devices=lacks_devices)
    for name in names:
        if name.fold != fold_of(view):
            yield _checked(view, partition, name, None, OTHER, "another version of the view made it")
            continue
        yield checking.check(name, reading, said.get(name.sha256))


class _Checking:
    """What was found sound so far."""

    def __init__(
        self, view: View[Any], log: EventLog, schemas: Schemas, blobs: BlobStore, partition: int, *, lacks_devices: bool
    ) -> None:
        self._lacks_devices = lacks_devices
        self._view, self._log, self._schemas, self._blobs, self._partition = view, log, schemas, blobs, partition
        self._sound: Manifest | None = None
        self._pieces: set[str] = set()

    def check(self, name: Kept, reading: Snapshots, said: str | None) -> Checked:
        try:
            manifest = reading.manifest(name.ref())
            self._hold_pieces(manifest)
        except ContractError as error:
            return _checked(self._view, self._partition, name, None, DAMAGED, str(error))
        if said is not None and said != manifest.digest:
            return _checked(self._view, self._partition, name, manifest, DIFFERENT, "announced with another digest")
        verdict, detail = self._against_the_log(manifest)
        if verdict != DIFFERENT:
            self._sound = manifest
        return _checked(self._view, self._partition, name, manifest, verdict, detail)

    def _hold_pieces(self, manifest: Manifest) -> None:
        for piece in manifest.pieces:
            if piece is None or piece.sha256 in self._pieces:
                continue
            states = pieces.states_of(self._blobs.get(piece_ref(piece)))
            if pieces.digest(pieces.lines_of(states)) != piece.digest or len(states) != piece.keys_count:
                raise ContractError(f"piece {piece.sha256} does not hold the states that the manifest says")
            self._pieces.add(piece.sha256)

    def _against_the_log(self, manifest: Manifest) -> tuple[str, str]:
        if self._lacks_devices:
            return INTACT, "the bundle leaves out devices that it counts"
        earliest = self._log.bounds(self._view.topic, self._partition).earliest
        base = self._sound
        if base is not None and (base.offset < earliest or len(base.pieces) > len(manifest.pieces)):
            base = None
        if base is None and earliest > 0:
            return INTACT, f"the log is kept from {earliest} on, and does not reach back"
        if base is not None and base.offset == manifest.offset:
            return (
                (EQUAL, "") if base.digest == manifest.digest else (DIFFERENT, "not what another one at the same position says")
            )
        try:
            expected = take(
                self._view,
                self._log,
                self._schemas,
                _Forgetting(self._blobs),
                partition=self._partition,
                stop=manifest.offset,
                base=base,
                buckets=len(manifest.pieces),
            ).manifest
        except ContractError as error:
            return DIFFERENT, str(error)
        return (EQUAL, "") if expected.digest == manifest.digest else (DIFFERENT, "not the fold of the log")


class _Forgetting:
    """A blob store that reads, and names what it is given without keeping it."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        return BlobRef(sha256=digest(content), size_bytes=len(content), media_type=media_type)

    def get(self, ref: BlobRef) -> bytes:
        return self._blobs.get(ref)

    def exists(self, ref: BlobRef) -> bool:
        return self._blobs.exists(ref)


def _checked(view: View[Any], partition: int, name: Kept, manifest: Manifest | None, verdict: str, detail: str) -> Checked:
    return Checked(
        view=view.name,
        partition=partition,
        offset=name.offset,
        keys_count=manifest.keys_count if manifest is not None else 0,
        verdict=verdict,
        detail=detail,
    )
