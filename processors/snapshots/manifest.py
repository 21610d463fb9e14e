"""The manifest of a snapshot: what it is of, up to where, under which fold, and the pieces that hold the states.

It also names the snapshots that are kept from before it, so that the newest one leads to all of them in one step. Its
digest is over the state and the position alone: a fold of the log to the same offset gives the same one.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from processors.repeats import Seen
from processors.snapshots.pieces import unpacked
from processors.views.catalogue import View
from schemas.errors import DecodeError
from schemas.plain import canonical_json, from_plain
from schemas.types import BlobRef

FORMAT = 1
MEDIA_TYPE = "application/json+gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One bucket's states. `digest` is over the states alone, `sha256` and `size_bytes` name the blob."""

    sha256: str
    size_bytes: int
    digest: str
    keys_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot by name: enough to choose one without reading it.

    It is the whole truth for moments from `known_from_ms` up to, and not including, `known_until_ms` (the broker's clock):
    the times of the last record that it reflects and of the next one.
    """

    offset: int
    fold: str
    known_from_ms: int
    known_until_ms: int
    sha256: str
    size_bytes: int

    def ref(self) -> BlobRef:
        return BlobRef(sha256=self.sha256, size_bytes=self.size_bytes, media_type=MEDIA_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One snapshot of a view's partition after every record before `offset`.

    Args:
        fold: Which fold made it, by `fold_of`; another one's states are not read.
        last_sha256: Digest of the value of the record before `offset`: the log that it belongs to.
        unreadable: Records that did not decode.
        pieces: One for each bucket, a power of two; None where a bucket has no key.
        earlier: Snapshots that are kept from before this one, oldest first.
        removed: Snapshots that are not kept any more; their blobs go when the next snapshot is taken.
    """

    format: int
    view: str
    fold: str
    topic: str
    partition: int
    offset: int
    known_from_ms: int
    known_until_ms: int
    last_sha256: str
    seen: Seen
    unreadable: int
    keys_count: int
    pieces: tuple[Piece | None, ...]
    earlier: tuple[Kept, ...]
    removed: tuple[Kept, ...]

    @property
    def digest(self) -> str:
        """sha256 over the position, the sources seen and every bucket's states."""
        parts = {
            "view": self.view,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "seen": {place: list(at) for place, at in self.seen.sources.items()},
            "pieces": [None if piece is None else piece.digest for piece in self.pieces],
        }
        return hashlib.sha256(canonical_json(parts)).hexdigest()


def pack(manifest: Manifest) -> bytes:
    return gzip.compress(canonical_json(manifest), mtime=0)


def unpack(content: bytes) -> Manifest:
    """The manifest back.

    Raises:
        DecodeError: it is none, or of another format.
    """
    try:
        plain = json.loads(unpacked(content))
    except (DecodeError, ValueError, RecursionError) as error:
        raise DecodeError(f"a snapshot's manifest cannot be read: {error}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise DecodeError("a snapshot's manifest is of another format")
    manifest = from_plain(Manifest, plain)
    count = len(manifest.pieces)
    if count == 0 or count & (count - 1) or manifest.offset < 1:
        raise DecodeError(f"a snapshot's manifest cannot have {count} pieces at {manifest.offset}")
    return manifest


def fold_of(view: View[Any]) -> str:
    """What a snapshot's states depend on beside the log: the view's version and the shape of its state.

    Types of events are left out of the shape: they only gain fields with defaults, and an older state reads the same.
    """
    return f"{view.version}:{hashlib.sha256(_shape(view.state_type).encode()).hexdigest()[:16]}"


def _shape(kind: Any) -> str:
    if is_dataclass(kind) and isinstance(kind, type) and not kind.__module__.startswith("schemas."):
        hints = get_type_hints(kind)
        return f"{kind.__name__}({','.join(f'{f.name}:{_shape(hints[f.name])}' for f in fields(kind))})"
    if get_origin(kind) is not None:
        origin = get_origin(kind)
        return f"{getattr(origin, '__name__', origin)}[{','.join(_shape(part) for part in get_args(kind))}]"
    return getattr(kind, "__name__", str(kind))
