"""Holding the blob store against the log: is every frame's image and every model's file there, and what its digest says?"""

from dataclasses import dataclass

from schemas.catalogue import FRAMES, RELEASES
from schemas.codec import Schemas, decode
from schemas.errors import BlobGoneError, ContractError, DigestError
from schemas.events import FrameCaptured, ModelRegistered
from schemas.types import BlobRef
from streams.blobs import S3BlobStore
from streams.ports import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsChecked:
    """Digests, sorted. `unreferenced` counts objects that nothing on the log names; they are harmless leftovers."""

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
        unreferenced=len(there - refs.keys()),
    )


def _referenced(log: EventLog, schemas: Schemas) -> dict[str, BlobRef]:
    refs: dict[str, BlobRef] = {}
    for topic in (FRAMES, RELEASES):
        for partition in log.partitions(topic):
            bounds = log.bounds(topic, partition)
            for record in log.read(topic, partition, bounds.earliest, bounds.end):
                try:
                    event = decode(record.value, topic, schemas)
                except ContractError:
                    continue
                if isinstance(event, FrameCaptured):
                    refs[event.frame.blob.sha256] = event.frame.blob
                elif isinstance(event, ModelRegistered):
                    refs |= {file.blob.sha256: file.blob for file in event.files}
    return refs
