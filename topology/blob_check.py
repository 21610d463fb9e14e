"""Holding the blob store against vision.frames: is every frame's image there, and is it what its digest says?"""

from dataclasses import dataclass

from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS
from schemas.catalogue import FRAMES
from schemas.codec import Schemas, decode
from schemas.errors import BlobGoneError, ContractError, DigestError
from schemas.events import FrameCaptured
from schemas.types import BlobRef
from streams.blobs import S3BlobStore
from streams.ports import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsChecked:
    """Digests, sorted. `unreferenced` counts objects that no frame and no snapshot names: harmless leftovers."""

    checked: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unreferenced: int


def check_blobs(log: EventLog, blobs: S3BlobStore, schemas: Schemas, *, read: bool) -> BlobsChecked:
    """Look every referenced blob up, or read and verify it.

    Raises:
        BlobStoreUnavailableError: the store does not answer.
    """
    there = set(blobs.names())
    refs = _referenced(log, schemas)
    snapshots = _of_snapshots(log, blobs, schemas)
    missing, changed = [], []
    for ref in refs.values():
        if ref.sha256 not in there:
            missing.append(ref.sha256)
        elif read:
            try:
                blobs.get(ref)
            except BlobGoneError:
                missing.append(ref.sha256)
            except DigestError:
                changed.append(ref.sha256)
    return BlobsChecked(
        checked=len(refs),
        missing=tuple(sorted(missing)),
        changed=tuple(sorted(changed)),
        unreferenced=len(there - refs.keys() - snapshots),
    )


def _referenced(log: EventLog, schemas: Schemas) -> dict[str, BlobRef]:
    refs: dict[str, BlobRef] = {}
    for partition in log.partitions(FRAMES):
        bounds = log.bounds(FRAMES, partition)
        for record in log.read(FRAMES, partition, bounds.earliest, bounds.end):
            try:
                event = decode(record.value, FRAMES, schemas)
            except ContractError:
                continue
            if isinstance(event, FrameCaptured):
                refs[event.frame.blob.sha256] = event.frame.blob
    return refs


def _of_snapshots(log: EventLog, blobs: S3BlobStore, schemas: Schemas) -> set[str]:
    """Manifests and pieces of the snapshots that are kept; `hindsight snapshots check` says whether they are sound."""
    reading, found = Snapshots(log, schemas, blobs), set[str]()
    for view in VIEWS.values():
        for partition in log.partitions(view.topic):
            for one in reading.names(view, partition, []):
                found.add(one.sha256)
                try:
                    found |= {piece.sha256 for piece in reading.manifest(one.ref()).pieces if piece is not None}
                except ContractError:
                    continue
    return found
