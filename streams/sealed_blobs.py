"""The `BlobStore` that encrypts what devices send, each frame under a key of its device and microsecond.

A frame's bytes lie under `enc/<key_id>/<sha256>`, where the sha256 is of the plain bytes and `key_id` (in the reference)
says which leaf of which data key opens them: `<device>/<day>/<id>/<microsecond of the day>`. Whoever holds a reference
reads it as any other. Frames that are put together share a segment (`streams/segments.py`), each under its own key still.
What has no scope, and what was written before encryption was on, lies plain in the store beneath. A reference to an
encrypted blob, or into a segment, is also answered by plain bytes of that digest, where an imported bundle put them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from schemas.errors import BlobGoneError, DigestError, HindsightError
from schemas.types import BlobRef
from streams.blob_names import (
    AROUND_SEALED_BYTES,
    SEALED,
    as_plain,
    digest,
    hold_key,
    hold_name,
    hold_segment,
    name_of,
    place_of,
    sealed_as,
    verify,
)
from streams.keyring import KeyRing, opened, sealed_bytes
from streams.ports import BlobScope, BlobStore, ExpiryRule, Objects
from streams.segments import Segments


class PlainBlobs(BlobStore, Protocol):
    """The store beneath."""

    def discard(self, ref: BlobRef) -> None: ...
    def names(self) -> Iterator[str]: ...
    def expiry_rules(self) -> tuple[ExpiryRule, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes that are to be put together with others."""

    content: bytes = field(repr=False)
    media_type: str
    scope: BlobScope


class SealedBlobs:
    """`BlobStore` and `Erasing`.

    Args:
        plain: Where everything lies that is not encrypted.
        objects: Where the encrypted bytes lie; may be the same bucket.
        seals: Whether what has a scope is encrypted from now on; what is encrypted is read in any case.
    """

    def __init__(self, plain: PlainBlobs, objects: Objects, keys: KeyRing, *, seals: bool) -> None:
        self._plain = plain
        self._objects = objects
        self._keys = keys
        self._seals = seals
        self._segments = Segments(objects)

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        if scope is None or not self._seals:
            return self._plain.put(content, media_type)
        ref, sealed = self._sealed(content, media_type, scope)
        self._objects.write(name_of(ref), sealed, "application/octet-stream")
        return ref

    def put_together(self, parts: Sequence[Part]) -> tuple[BlobRef | HindsightError, ...]:
        """Store all in one segment; what cannot be encrypted has its error in its place, and the others are stored.

        Raises:
            BlobStoreUnavailableError: none is stored.
        """
        made = [self._made(part) for part in parts]
        stored = [one for one in made if not isinstance(one, HindsightError)]
        where = iter(self._segments.write([content for _, content in stored]) if stored else ())
        return tuple(one if isinstance(one, HindsightError) else replace(one[0], segment=next(where)) for one in made)

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        if ref.key_id is None and ref.segment is None:
            return self._plain.get(ref)
        key = None if ref.key_id is None else self._key(ref)
        if key is None and ref.key_id is not None:
            return self._imported(ref, "its key was destroyed")
        stored = self._stored(ref)
        if stored is None:
            return self._imported(ref, "it is not in the blob store")
        content = stored if key is None else opened(key, stored, sealed_as(ref).encode())
        if content is None:
            raise DigestError(f"blob {ref.sha256}: what lies in its place was not sealed by its key")
        verify(content, ref)
        return content

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        if ref.key_id is None and ref.segment is None:
            return self._plain.exists(ref)
        has_key = ref.key_id is None or self._key(ref) is not None
        if has_key and (self._objects.has(name_of(ref)) if ref.segment is None else self._segments.is_kept(hold_segment(ref))):
            return True
        return self._plain.exists(as_plain(ref))

    def destroy_keys(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        return self._keys.destroy(device_id, from_us, to_us)

    def discard(self, ref: BlobRef) -> None:
        hold_name(ref)
        if ref.key_id is not None:
            hold_key(ref)
        if ref.segment is not None:
            self._segments.wipe((hold_segment(ref),))
        elif ref.key_id is None:
            self._plain.discard(ref)
        else:
            self._objects.remove(name_of(ref))

    def wipe(self, refs: Iterable[BlobRef]) -> None:
        self._segments.wipe(map(hold_segment, refs))

    def names(self) -> Iterator[str]:
        """Digests of everything that lies plain."""
        return self._plain.names()

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        """The store's own rules that remove blobs by their age."""
        return self._plain.expiry_rules()

    def sealed_names(self) -> Iterator[tuple[str, str]]:
        """`key_id` and digest of everything that lies encrypted, whether its key is left or not."""
        for name in self._objects.list(SEALED):
            key_id, _, sha256 = name.removeprefix(SEALED).rpartition("/")
            yield key_id, sha256

    def segment_names(self) -> Iterator[str]:
        """Every segment."""
        return self._segments.names()

    def _made(self, part: Part) -> tuple[BlobRef, bytes] | HindsightError:
        if not self._seals:
            ref = BlobRef(sha256=digest(part.content), size_bytes=len(part.content), media_type=part.media_type)
            return ref, part.content
        try:
            return self._sealed(part.content, part.media_type, part.scope)
        except HindsightError as error:
            return error

    def _sealed(self, content: bytes, media_type: str, scope: BlobScope) -> tuple[BlobRef, bytes]:
        place = place_of(scope.device_id, scope.captured_at_us)
        key_id, key = self._keys.to_write(place)
        ref = BlobRef(sha256=digest(content), size_bytes=len(content), media_type=media_type, key_id=f"{key_id}/{place.leaf}")
        return ref, sealed_bytes(key, content, sealed_as(ref).encode())

    def _stored(self, ref: BlobRef) -> bytes | None:
        """What lies where the reference says, at most a byte too much."""
        if ref.segment is None:
            return self._objects.read(name_of(ref), ref.size_bytes + AROUND_SEALED_BYTES + 1)
        return self._segments.read(hold_segment(ref))

    def _key(self, ref: BlobRef) -> bytes | None:
        data_key, leaf = hold_key(ref)
        return self._keys.to_read(data_key, leaf)

    def _imported(self, ref: BlobRef, why: str) -> bytes:
        try:
            return self._plain.get(as_plain(ref))
        except BlobGoneError as error:
            raise BlobGoneError(f"blob {ref.sha256}: {why}", do="run `hindsight blobs check` to see what else is gone") from error
