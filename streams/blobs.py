"""The `BlobStore` on S3, through the `minio` client: content addressed, digest verified on every read."""

import hashlib
import io
import re
from collections.abc import Iterator

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from schemas.errors import BlobGoneError, BlobStoreUnavailableError, DigestError
from schemas.types import BlobRef

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GONE = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}


def digest(content: bytes) -> str:
    """sha256, 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def object_name(sha256: str) -> str:
    """Where bytes of that digest lie in the bucket."""
    return f"sha256/{sha256[:2]}/{sha256}"


class S3BlobStore:
    """Frames and other bytes in one bucket, each under its digest.

    Args:
        endpoint: host:port of the S3 server.
        secure: Whether it speaks TLS.
        bucket: Made when it is not there.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool = False,
        region: str = "us-east-1",
        timeout_s: float = 10.0,
    ) -> None:
        pool = PoolManager(
            maxsize=32,
            timeout=Timeout(connect=min(2.0, timeout_s), read=timeout_s),
            retries=Retry(total=3, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504]),
        )
        self._client = Minio(
            endpoint, access_key=access_key, secret_key=secret_key, secure=secure, region=region, http_client=pool
        )
        self.bucket = bucket

    def make_bucket(self) -> None:
        """Make the bucket if it is not there; doing it twice, or at once from two places, is fine."""
        try:
            if not self._client.bucket_exists(self.bucket):
                self._client.make_bucket(self.bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise _unavailable(error) from error
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error

    def put(self, content: bytes, media_type: str) -> BlobRef:
        sha256 = digest(content)
        try:
            self._client.put_object(self.bucket, object_name(sha256), io.BytesIO(content), len(content), content_type=media_type)
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error
        return BlobRef(sha256=sha256, size_bytes=len(content), media_type=media_type)

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        try:
            response = self._client.get_object(self.bucket, object_name(ref.sha256))
            try:
                content: bytes = response.read(ref.size_bytes + 1)  # what lies there may be anything, of any size
            finally:
                response.close()
                response.release_conn()
        except S3Error as error:
            if error.code in _GONE:
                raise BlobGoneError(
                    f"blob {ref.sha256} is not in bucket {self.bucket}", do="run `hindsight blobs check` to see what else is gone"
                ) from error
            raise _unavailable(error) from error
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error
        verify(content, ref)
        return content

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        try:
            self._client.stat_object(self.bucket, object_name(ref.sha256))
        except S3Error as error:
            if error.code in _GONE:
                return False
            raise _unavailable(error) from error
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error
        return True

    def remove(self, ref: BlobRef) -> None:
        hold_name(ref)
        try:
            self._client.remove_object(self.bucket, object_name(ref.sha256))
        except S3Error as error:
            if error.code not in _GONE:
                raise _unavailable(error) from error
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error

    def names(self) -> Iterator[str]:
        """Digests of everything in the bucket."""
        try:
            for item in self._client.list_objects(self.bucket, prefix="sha256/", recursive=True):
                yield str(item.object_name).rpartition("/")[2]
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error


def hold_name(ref: BlobRef) -> None:
    """Names come from the log, where anybody may have written them; S3 is asked for digests only.

    Raises:
        DigestError: it is none.
    """
    if not _SHA256.fullmatch(ref.sha256):
        raise DigestError(f"{ref.sha256[:80]!r} is not a sha256 of 64 lower-case hex digits")


def verify(content: bytes, ref: BlobRef) -> None:
    """Hold bytes against the reference that names them.

    Raises:
        DigestError: they are something else.
    """
    if len(content) != ref.size_bytes or digest(content) != ref.sha256:
        raise DigestError(f"blob {ref.sha256}: {len(content)} bytes with digest {digest(content)} were found in its place")


def _unavailable(error: Exception) -> BlobStoreUnavailableError:
    return BlobStoreUnavailableError(f"blob store: {error}", do="check that the S3 server runs: `hindsight status`")
