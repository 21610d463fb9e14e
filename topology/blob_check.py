"""Holding the blob store against the log: is every frame's image and every model's file there, and what its digest says?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from processors.lookback.gone import Order, Orders
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS
from schemas.catalogue import FRAMES, RELEASES
from schemas.codec import Schemas
from schemas.errors import BlobGoneError, ContractError, DigestError
from schemas.events import FrameCaptured, ModelRegistered
from schemas.types import BlobRef, FrameRef
from streams.events import events_of
from streams.ports import EventLog
from streams.sealed_blobs import SealedBlobs


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsChecked:
    """Digests, sorted. `unreferenced` counts objects that nothing on the log names; they are harmless leftovers.

    `erased` counts blobs that orders erased, by order; `not_erased` are digests of frames that an order erased and that
    can be read all the same, other than those that a frame which stays names too.
    """

    checked: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    erased: dict[str, int]
    not_erased: tuple[str, ...]
    unreferenced: int


def check_blobs(
    log: EventLog, blobs: SealedBlobs, schemas: Schemas, *, read: bool, progress: Callable[[], None] = lambda: None
) -> BlobsChecked:
    """Look every referenced blob up, or read and verify it.

    Args:
        progress: Told of each blob.

    Raises:
        BlobStoreUnavailableError: the store does not answer.
    """
    plain, sealed, segments = set(blobs.names()), set(blobs.sealed_names()), set(blobs.segment_names())
    orders = Orders(log, schemas)
    done = tuple(o for o in orders.all() if o.erased_at_us is not None)
    refs, staying = _referenced(log, schemas, done)
    missing, changed, not_erased = [], [], []
    erased: dict[str, int] = {}
    for ref, found in refs.items():
        progress()
        # Plain bytes that a frame which stays names too were not the order's to remove.
        order = None if ref.key_id is None and ref in staying else found
        # Whether a segment has a frame's bytes still, its name does not say.
        there = ref.segment is not None or ref.sha256 in plain or (ref.key_id is not None and (ref.key_id, ref.sha256) in sealed)
        is_asked = read or ref.key_id is not None or ref.segment is not None
        trouble = _trouble(blobs, ref, read=read) if there and is_asked else ""
        is_gone = not there or trouble == "gone"
        if order is not None and is_gone:
            erased[order.order_id] = erased.get(order.order_id, 0) + 1
        elif order is not None:
            if ref not in staying and not trouble:
                not_erased.append(ref.sha256)
        elif is_gone:
            missing.append(ref.sha256)
        elif trouble:
            changed.append(ref.sha256)
    named = {r.sha256 for r in refs}
    return BlobsChecked(
        checked=len(refs),
        missing=tuple(sorted(missing)),
        changed=tuple(sorted(changed)),
        erased=dict(sorted(erased.items())),
        not_erased=tuple(sorted(not_erased)),
        unreferenced=len(plain - named - _of_snapshots(log, blobs, schemas))
        + len(sealed - {(r.key_id, r.sha256) for r in refs})
        + len(segments - {r.segment.object for r in refs if r.segment is not None}),
    )


def _trouble(blobs: SealedBlobs, ref: BlobRef, *, read: bool) -> str:
    """What is wrong with a blob that is there: nothing, "gone" when its key is, or "changed"."""
    try:
        if read:
            blobs.get(ref)
            return ""
        return "" if blobs.exists(ref) else "gone"
    except BlobGoneError:
        return "gone"
    except DigestError:
        return "changed"


def _referenced(log: EventLog, schemas: Schemas, orders: tuple[Order, ...]) -> tuple[dict[BlobRef, Order | None], set[BlobRef]]:
    """Every blob that an event names, with the order that erased it; and those that an event names which no order is about,
    or which came after it."""
    models = tuple(_of_models(log, schemas))
    refs: dict[BlobRef, Order | None] = dict.fromkeys(models)
    staying = set(models)
    for partition in log.partitions(FRAMES):
        for record, event in events_of(log, schemas, FRAMES, partition):
            if isinstance(event, FrameCaptured):
                order = _order_of(event.frame, orders)
                refs[event.frame.blob] = order or refs.get(event.frame.blob)
                if order is None or record.offset >= order.frames_offsets[partition]:
                    staying.add(event.frame.blob)
    return refs, staying


def _of_models(log: EventLog, schemas: Schemas) -> Iterator[BlobRef]:
    for partition in log.partitions(RELEASES):
        for _, event in events_of(log, schemas, RELEASES, partition):
            if isinstance(event, ModelRegistered):
                yield from (file.blob for file in event.files)
                if event.configuration is not None:
                    yield event.configuration.blob


def _order_of(frame: FrameRef, orders: tuple[Order, ...]) -> Order | None:
    return next((o for o in orders if o.span.holds(frame)), None)


def _of_snapshots(log: EventLog, blobs: SealedBlobs, schemas: Schemas) -> set[str]:
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
