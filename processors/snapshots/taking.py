"""Taking a snapshot: the tail of the log folded onto the one before, from the log alone, writing the touched pieces only.

Memory is bounded by the spool, one bucket's states and its tail, whatever the length of the tail and the number of keys.
A snapshot ends where a millisecond of the broker's clock ends and another record follows, so it is the state at moments,
and which moments is known for ever: also when the log around it is gone.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from processors.repeats import Seen
from processors.snapshots import pieces
from processors.snapshots.manifest import FORMAT, Kept, Manifest, Piece, fold_of
from processors.snapshots.spool import Spool
from processors.views.catalogue import View
from processors.views.replay import Reader
from schemas.codec import Schemas, decode
from schemas.errors import ContractError, DecodeError, DigestError
from schemas.plain import canonical_json, from_plain
from schemas.types import BlobRef
from streams.ports import BlobStore, EventLog
from streams.records import LEFT_OUT, Record

_GROUPS = 256
_IN_MEMORY = 10_000
_PUTS_AT_ONCE = 8
_COUNTED_BITS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot whose pieces are stored. `counted` is how many events of the tail belong to a key."""

    manifest: Manifest
    counted: int


def settled(log: EventLog, topic: str, partition: int, wanted: int, *, after: int = 0) -> int:
    """The last position at or before `wanted` at which a snapshot may end; the first one after it when there is none since
    `after`, and `after` itself when there is none at all.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    end = log.bounds(topic, partition).end
    at = min(wanted, end - 1)
    following = next(log.read(topic, partition, at, at + 1), None) if at > after else None
    if following is None:
        return after
    found = log.offset_at(topic, partition, following.appended_at_ms)
    if found <= after:
        found = log.offset_at(topic, partition, following.appended_at_ms + 1)
    return found if after < found < end else after


def take(
    view: View[Any],
    log: EventLog,
    schemas: Schemas,
    blobs: BlobStore,
    *,
    partition: int,
    stop: int,
    base: Manifest | None = None,
    buckets: int | None = None,
) -> Taken:
    """The snapshot of every record before `stop`, its pieces stored; nobody knows of it yet.

    Args:
        stop: A position as `settled` gives it.
        base: An earlier snapshot to fold onto; without one the log is read from its start.
        buckets: How many pieces, when it must be so many.
    Raises:
        ContractError: the log does not reach back to the base, or the base is damaged, gone, or of another log.
        LogUnavailableError, BlobStoreUnavailableError: no answer.
    """
    seen, unreadable = (base.seen, base.unreadable) if base is not None else (Seen(), 0)
    reader = Reader(view, schemas, seen, unreadable)
    with Spool(lambda value: decode(value, view.topic, schemas), most=_IN_MEMORY) as spool:
        tail = _Tail()
        for record in _records(view, log, partition, base, stop):
            if tail.covers(record, stop) and (found := reader.read(record)) is not None and found[0] is not None:
                hashed = pieces.hash_of(found[0])
                tail.count(hashed)
                spool.add(pieces.bucket_of(hashed, _GROUPS), found[0], found[1], record.value or b"")
        if tail.next_ms is None or tail.last is None:
            raise ContractError(f"{view.topic} {partition} has no record on each side of {stop}: no snapshot can end there")
        keys_before = base.keys_count if base is not None else tail.keys_count()
        count = buckets or max(len(base.pieces) if base is not None else 1, pieces.buckets_for(keys_before))
        written = {"view": view.name, "topic": view.topic, "partition": partition, "offset": stop}
        made = tuple(_all_stored(_pieces(view, spool, blobs, base.pieces if base is not None else (None,), count, written)))
    last = tail.last
    return Taken(
        manifest=Manifest(
            format=FORMAT,
            view=view.name,
            fold=fold_of(view),
            topic=view.topic,
            partition=partition,
            offset=stop,
            known_from_ms=last.appended_at_ms,
            known_until_ms=tail.next_ms,
            last_sha256=value_digest(last),
            seen=reader.seen,
            unreadable=reader.unreadable,
            keys_count=sum(piece.keys_count for piece in made if piece is not None),
            pieces=made,
            earlier=(),
            removed=(),
        ),
        counted=tail.counted,
    )


def with_history(manifest: Manifest, *, earlier: tuple[Kept, ...], removed: tuple[Kept, ...]) -> Manifest:
    """The same snapshot, naming others."""
    return replace(manifest, earlier=earlier, removed=removed)


def piece_ref(piece: Piece) -> BlobRef:
    return BlobRef(sha256=piece.sha256, size_bytes=piece.size_bytes, media_type=pieces.MEDIA_TYPE)


def value_digest(record: Record) -> str:
    return hashlib.sha256(record.value or b"").hexdigest()


def hold_anchor(manifest: Manifest, record: Record) -> None:
    """Hold a snapshot against the last record that it reflects, when that is the record at hand.

    Raises:
        DigestError: it is another record; the snapshot belongs to another log.
    """
    if record.offset == manifest.offset - 1 and (
        record.appended_at_ms != manifest.known_from_ms
        # An imported bundle may hold only the place of the record, when it is another device's.
        or (value_digest(record) != manifest.last_sha256 and LEFT_OUT not in dict(record.headers))
    ):
        raise DigestError(
            f"the snapshot of {manifest.view} at {manifest.topic}/{manifest.partition}/{manifest.offset} is of another log"
        )


def state_from(view: View[Any], stored: bytes | None) -> Any:
    """A state from its bytes in a piece; the view's initial one when there are none.

    Raises:
        DecodeError: it is no state of this view.
    """
    if stored is None:
        return view.initial
    try:
        return from_plain(view.state_type, json.loads(stored))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a state of {view.name} in a snapshot cannot be read: {error}") from error


class _Tail:
    """What passes by while a tail is read."""

    def __init__(self) -> None:
        self.last: Record | None = None
        self.next_ms: int | None = None
        self.counted = 0
        self._bits = bytearray(_COUNTED_BITS // 8)

    def covers(self, record: Record, stop: int) -> bool:
        """Whether the record is before the stop."""
        if record.offset >= stop:
            self.next_ms = record.appended_at_ms
            return False
        self.last = record
        return True

    def count(self, hashed: int) -> None:
        self.counted += 1
        bit = hashed % _COUNTED_BITS
        self._bits[bit >> 3] |= 1 << (bit & 7)

    def keys_count(self) -> int:
        """About how many keys were counted; the number of pieces is chosen by it."""
        return int.from_bytes(self._bits, "big").bit_count()


def _records(view: View[Any], log: EventLog, partition: int, base: Manifest | None, stop: int) -> Iterator[Record]:
    """The tail, and the record at the stop; the last record of the base is held against it on the way."""
    start, earliest = (base.offset if base is not None else 0), log.bounds(view.topic, partition).earliest
    if start < earliest:
        raise ContractError(
            f"{view.topic} {partition} is kept from {earliest} on, and a snapshot of {view.name} would need it from {start} on"
        )
    for record in log.read(view.topic, partition, max(earliest, start - 1), stop + 1):
        if record.offset >= start:
            yield record
        elif base is not None:
            hold_anchor(base, record)


def _pieces(
    view: View[Any], spool: Spool, blobs: BlobStore, old: tuple[Piece | None, ...], count: int, written: Mapping[str, object]
) -> Iterator[Callable[[], Piece] | Piece | None]:
    """The pieces of the new snapshot in the order of their buckets: as they were, or what will store them."""
    units = min(count, _GROUPS)
    parents = _Parents(blobs, old, count)
    for unit in range(units):
        touched: dict[int, _Bucket] = {}
        for group in range(unit * _GROUPS // units, (unit + 1) * _GROUPS // units):
            for key, event in spool.items(group):
                bucket = pieces.bucket_of(pieces.hash_of(key), count)
                if bucket not in touched:
                    touched[bucket] = _Bucket(view, parents.states(bucket))
                touched[bucket].fold(key, event)
        for bucket in range(unit * count // units, (unit + 1) * count // units):
            if bucket not in touched and len(old) == count:
                yield old[bucket]
                continue
            found = touched.pop(bucket, None)
            states = found.states() if found is not None else parents.states(bucket)
            yield partial(_stored, blobs, states, {**written, "bucket": bucket, "buckets": count}) if states else None


class _Bucket:
    """One bucket's states, of which those are unpacked that the tail touches."""

    def __init__(self, view: View[Any], stored: dict[str, bytes]) -> None:
        self._view = view
        self._stored = stored
        self._changed: dict[str, Any] = {}

    def fold(self, key: str, event: Any) -> None:
        if key not in self._changed:
            self._changed[key] = state_from(self._view, self._stored.get(key))
        self._changed[key] = self._view.fold(self._changed[key], event)

    def states(self) -> dict[str, bytes]:
        return self._stored | {key: canonical_json(state) for key, state in self._changed.items()}


def _stored(blobs: BlobStore, states: Mapping[str, bytes], written: Mapping[str, object]) -> Piece:
    lines = pieces.lines_of(states)
    ref = blobs.put(pieces.pack(written, lines), pieces.MEDIA_TYPE)
    return Piece(sha256=ref.sha256, size_bytes=ref.size_bytes, digest=pieces.digest(lines), keys_count=len(states))


def _all_stored(made: Iterator[Callable[[], Piece] | Piece | None]) -> Iterator[Piece | None]:
    """Pieces in their order; several are on their way to the store at once."""
    with ThreadPoolExecutor(_PUTS_AT_ONCE, thread_name_prefix="pieces") as threads:
        waiting: deque[Future[Piece] | Piece | None] = deque()
        for one in made:
            waiting.append(threads.submit(one) if callable(one) else one)
            if len(waiting) > 2 * _PUTS_AT_ONCE:
                yield _done(waiting.popleft())
        yield from map(_done, waiting)


def _done(one: "Future[Piece] | Piece | None") -> Piece | None:
    return one.result() if isinstance(one, Future) else one


class _Parents:
    """States of the base by the new buckets; a piece that is split is read once."""

    def __init__(self, blobs: BlobStore, old: tuple[Piece | None, ...], count: int) -> None:
        self._blobs, self._old, self._count = blobs, old, count
        self._at: tuple[int, dict[str, bytes]] = (-1, {})

    def states(self, bucket: int) -> dict[str, bytes]:
        parent = bucket * len(self._old) // self._count
        if self._at[0] != parent:
            piece = self._old[parent]
            self._at = (parent, pieces.states_of(self._blobs.get(piece_ref(piece))) if piece is not None else {})
        if len(self._old) == self._count:
            return dict(self._at[1])
        return {k: v for k, v in self._at[1].items() if pieces.bucket_of(pieces.hash_of(k), self._count) == bucket}
