"""The `BlobStore` on S3: content addressed, digest verified on every read. `streams/sealed_blobs.py` encrypts before it."""

from collections.abc import Iterator

from schemas.errors import BlobGoneError
from schemas.types import BlobRef
from streams.blob_names import PLAIN, digest, hold_name, object_name, verify
from streams.objects import S3Objects
from streams.ports import BlobScope

__all__ = ["S3BlobStore", "digest", "hold_name", "object_name", "verify"]


class S3BlobStore(S3Objects):
    """Frames and other bytes in one bucket, each under its digest, as they are."""

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        sha256 = digest(content)
        self.write(object_name(sha256), content, media_type)
        return BlobRef(sha256=sha256, size_bytes=len(content), media_type=media_type)

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        content = self.read(object_name(ref.sha256), ref.size_bytes + 1)  # what lies there may be anything, of any size
        if content is None:
            raise BlobGoneError(
                f"blob {ref.sha256} is not in bucket {self.bucket}", do="run `hindsight blobs check` to see what else is gone"
            )
        verify(content, ref)
        return content

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        return self.has(object_name(ref.sha256))

    def discard(self, ref: BlobRef) -> None:
        hold_name(ref)
        self.remove(object_name(ref.sha256))

    def names(self) -> Iterator[str]:
        """Digests of everything that lies plain in the bucket."""
        for name in self.list(PLAIN):
            yield name.rpartition("/")[2]
