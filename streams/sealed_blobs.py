"""The `BlobStore` that encrypts what devices send, each frame under a key of its device and microsecond.

A frame's bytes lie under `enc/<key_id>/<sha256>`, where the sha256 is of the plain bytes and `key_id` (in the reference)
says which leaf of which data key opens them: `<device>/<day>/<id>/<microsecond of the day>`. Whoever holds a reference
reads it as any other. What has no scope, and what was written before encryption was on, lies plain in the store
beneath. A reference to an encrypted blob is also answered by plain bytes of that digest, where an imported bundle put
them.
"""

from collections.abc import Iterator
from typing import Protocol

from schemas.errors import BlobGoneError, DigestError
from schemas.types import BlobRef
from streams.blob_names import SEALED, as_plain, digest, hold_key, hold_name, name_of, place_of, verify
from streams.keyring import KeyRing, opened, sealed_bytes
from streams.ports import BlobScope, BlobStore, ExpiryRule, Objects

_AROUND_BYTES = 1 + 12 + 16


class PlainBlobs(BlobStore, Protocol):
    """The store beneath."""

    def discard(self, ref: BlobRef) -> None: ...
    def names(self) -> Iterator[str]: ...
    def expiry_rules(self) -> tuple[ExpiryRule, ...]: ...


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

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        if scope is None or not self._seals:
            return self._plain.put(content, media_type)
        place = place_of(scope.device_id, scope.captured_at_us)
        key_id, key = self._keys.to_write(place)
        ref = BlobRef(sha256=digest(content), size_bytes=len(content), media_type=media_type, key_id=f"{key_id}/{place.leaf}")
        name = name_of(ref)
        self._objects.write(name, sealed_bytes(key, content, name.encode()), "application/octet-stream")
        return ref

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        if ref.key_id is None:
            return self._plain.get(ref)
        key = self._key(ref)
        sealed = None if key is None else self._objects.read(name_of(ref), ref.size_bytes + _AROUND_BYTES + 1)
        if key is None or sealed is None:
            return self._imported(ref, "its key was destroyed" if key is None else "it is not in the blob store")
        content = opened(key, sealed, name_of(ref).encode())
        if content is None:
            raise DigestError(f"blob {ref.sha256}: what lies in its place was not sealed by its key")
        verify(content, ref)
        return content

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        if ref.key_id is not None and self._key(ref) is not None and self._objects.has(name_of(ref)):
            return True
        return self._plain.exists(as_plain(ref))

    def destroy_keys(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        return self._keys.destroy(device_id, from_us, to_us)

    def discard(self, ref: BlobRef) -> None:
        hold_name(ref)
        if ref.key_id is None:
            self._plain.discard(ref)
        else:
            hold_key(ref)
            self._objects.remove(name_of(ref))

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

    def _key(self, ref: BlobRef) -> bytes | None:
        data_key, leaf = hold_key(ref)
        return self._keys.to_read(data_key, leaf)

    def _imported(self, ref: BlobRef, why: str) -> bytes:
        try:
            return self._plain.get(as_plain(ref))
        except BlobGoneError as error:
            raise BlobGoneError(f"blob {ref.sha256}: {why}", do="run `hindsight blobs check` to see what else is gone") from error
