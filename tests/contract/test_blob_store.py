"""The `BlobStore` port: bytes by their content, verified, and honest when they are gone."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from schemas.errors import BlobGoneError, BlobStoreUnavailableError, DigestError
from schemas.types import BlobRef
from streams.blobs import S3BlobStore, object_name
from streams.keyring import KeyRing
from streams.memory import MemoryBlobStore, MemoryObjects
from streams.objects import S3Objects
from streams.ports import BlobScope, Objects
from streams.sealed_blobs import SealedBlobs
from tests.given import AT_US

SCOPE = BlobScope(device_id="gate-1", captured_at_us=AT_US)
MASTER_KEY = bytes(range(32))


class _Hands:
    """A blob store, with hands on where the bytes of a reference really lie.

    Args:
        scope: What is put under; None where nothing is encrypted.
    """

    def __init__(self, store: Any, objects: Objects, scope: BlobScope | None) -> None:
        self.store, self.objects, self._scope = store, objects, scope
        self.get, self.exists, self.discard = store.get, store.exists, store.discard

    def put(self, content: bytes, media_type: str) -> BlobRef:
        ref: BlobRef = self.store.put(content, media_type, scope=self._scope)
        return ref

    def overwrite(self, ref: BlobRef, content: bytes) -> None:
        self.objects.write(self._name(ref), content, "")

    def remove(self, ref: BlobRef) -> None:
        self.objects.remove(self._name(ref))

    @staticmethod
    def _name(ref: BlobRef) -> str:
        return object_name(ref.sha256) if ref.key_id is None else f"enc/{ref.key_id}/{ref.sha256}"


class _MemoryHands(_Hands):
    """The twin keeps digests, and no names."""

    def overwrite(self, ref: BlobRef, content: bytes) -> None:
        self.store.contents[ref.sha256] = content

    def remove(self, ref: BlobRef) -> None:
        del self.store.contents[ref.sha256]


def s3_keys(stack: Any) -> dict[str, str]:
    return {"access_key": stack.endpoints.s3_access_key, "secret_key": stack.endpoints.s3_secret_key}


def s3_store(stack: Any, bucket: str) -> S3BlobStore:
    store = S3BlobStore(stack.endpoints.s3_endpoint, bucket=bucket, **s3_keys(stack))
    store.make_bucket()
    return store


@pytest.fixture(params=["memory", "s3", "sealed in memory", "sealed in s3"])
def blobs(request: pytest.FixtureRequest) -> _Hands:
    if request.param == "memory":
        return _MemoryHands(MemoryBlobStore(), MemoryObjects(), None)
    if request.param == "sealed in memory":
        objects = MemoryObjects()
        return _Hands(SealedBlobs(MemoryBlobStore(), objects, KeyRing(MemoryObjects(), MASTER_KEY), seals=True), objects, SCOPE)
    stack, namespace = request.getfixturevalue("stack"), request.getfixturevalue("namespace")
    plain = s3_store(stack, namespace.bucket("frames"))
    if request.param == "s3":
        return _Hands(plain, plain, SCOPE)
    keys = S3Objects(stack.endpoints.s3_endpoint, bucket=namespace.bucket("keys"), **s3_keys(stack))
    keys.make_bucket()
    return _Hands(SealedBlobs(plain, plain, KeyRing(keys, MASTER_KEY), seals=True), plain, SCOPE)


def test_what_was_put_is_got(blobs: Any) -> None:
    """The reference holds digest, size and media type; the bytes come back, even when there are none."""
    for content in (b"jpeg bytes", b"", bytes(range(256)) * 4000):
        ref = blobs.put(content, "image/jpeg")
        expected = BlobRef(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), media_type="image/jpeg")
        assert replace(ref, key_id=None) == expected
        assert blobs.get(ref) == content
        assert blobs.exists(ref)


def test_what_was_removed_is_gone(blobs: Any) -> None:
    """It is gone for every reader; removing it again changes nothing; other blobs stay; it can be stored again."""
    ref, other = blobs.put(b"one", "image/png"), blobs.put(b"two", "image/png")
    for _ in range(2):
        blobs.discard(ref)
        assert not blobs.exists(ref)
        with pytest.raises(BlobGoneError, match=ref.sha256):
            blobs.get(ref)
    assert blobs.get(other) == b"two"
    assert blobs.get(blobs.put(b"one", "image/png")) == b"one"
    with pytest.raises(DigestError):
        blobs.discard(replace(ref, sha256="../two"))


def test_the_same_bytes_are_one_blob(blobs: Any) -> None:
    """Storing them again, also at once from several threads, changes nothing."""
    with ThreadPoolExecutor(4) as threads:
        refs = list(threads.map(lambda _: blobs.put(b"same", "image/png"), range(8)))
    assert len(set(refs)) == 1
    assert blobs.get(refs[0]) == b"same"


@pytest.mark.parametrize("other", [b"XXXX", b"", b"truth and more", b"trut"])
def test_something_else_under_the_name_is_found_out(blobs: Any, other: bytes) -> None:
    """Same length, shorter or longer: reading verifies, and never hands out other bytes."""
    ref = blobs.put(b"true", "image/png")
    blobs.overwrite(ref, other)
    with pytest.raises(DigestError, match=ref.sha256):
        blobs.get(ref)


def test_a_reference_with_another_size_is_found_out(blobs: Any) -> None:
    """The size is part of what is verified."""
    ref = blobs.put(b"true", "image/png")
    with pytest.raises(DigestError):
        blobs.get(replace(ref, size_bytes=3))


def test_discarded_is_gone(blobs: Any) -> None:
    """Discarding it twice is fine, and touches no other."""
    kept, ref = blobs.put(b"kept", "image/png"), blobs.put(b"discarded", "image/png")
    for _ in range(2):
        blobs.discard(ref)
        assert not blobs.exists(ref)
        with pytest.raises(BlobGoneError):
            blobs.get(ref)
    assert blobs.get(kept) == b"kept"


def test_gone_is_gone_and_not_an_outage(blobs: Any) -> None:
    """A blob that was removed, or never there, says so by its own error."""
    ref = blobs.put(b"soon gone", "image/png")
    blobs.remove(ref)
    assert not blobs.exists(ref)
    for missing in (ref, replace(ref, sha256="00" * 32)):
        with pytest.raises(BlobGoneError, match=missing.sha256):
            blobs.get(missing)


@pytest.mark.parametrize("name", ["", "../escape", "AB" * 32, "ab" * 31, "ab" * 32 + "\n", "\U0001f600", "x" * 5000])
def test_a_reference_that_names_no_digest_is_refused(blobs: Any, name: str) -> None:
    """It came from a record that anybody wrote, and never reaches the store's paths."""
    ref = BlobRef(sha256=name, size_bytes=1, media_type="image/jpeg")
    with pytest.raises(DigestError, match="is not a sha256"):
        blobs.get(ref)
    with pytest.raises(DigestError, match="is not a sha256"):
        blobs.exists(ref)


def test_a_store_that_is_away_is_named_as_that() -> None:
    """Every call ends in BlobStoreUnavailableError with what to do; nothing of the client's gets through."""
    away = S3BlobStore("127.0.0.1:9", access_key="a", secret_key="b" * 8, bucket="frames")
    ref = BlobRef(sha256="00" * 32, size_bytes=0, media_type="image/png")
    for call in (
        lambda: away.put(b"x", "image/png"),
        lambda: away.get(ref),
        lambda: away.exists(ref),
        away.make_bucket,
        lambda: list(away.names()),
        lambda: away.discard(ref),
        away.expiry_rules,
    ):
        with pytest.raises(BlobStoreUnavailableError) as raised:
            call()
        assert raised.value.do


def test_wrong_keys_are_an_outage_that_says_so(stack: Any, namespace: Any) -> None:
    """A refusal of the server is translated, and keeps its reason."""
    closed = S3BlobStore(stack.endpoints.s3_endpoint, access_key="nobody", secret_key="wrong-secret", bucket="frames")
    with pytest.raises(BlobStoreUnavailableError):
        closed.put(b"x", "image/png")


def test_the_names_of_everything_there(stack: Any, namespace: Any) -> None:
    """What `hindsight blobs check` goes by: every digest once."""
    store = s3_store(stack, namespace.bucket("frames"))
    refs = [store.put(str(n).encode(), "image/png") for n in range(5)]
    assert sorted(store.names()) == sorted(r.sha256 for r in refs)
