"""Named objects in one S3 bucket, through the `minio` client: what blobs and their keys are built on.

Removing is for good: where a bucket keeps versions, every version of the name goes.
"""

import io
from collections.abc import Iterator
from typing import Any

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from schemas.errors import BlobStoreUnavailableError
from streams.ports import ExpiryRule

_GONE = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}
_BEHIND_THE_END = "InvalidRange"
_VERSIONS_KEPT = {"Enabled", "Suspended"}
_NO_RULES = {"NoSuchLifecycleConfiguration", "NotImplemented", "NoSuchBucket"}


class S3Objects:
    """Objects of one bucket.

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
        self._keeps_versions: bool | None = None

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

    def read(self, name: str, most_bytes: int, *, start: int | None = None) -> bytes | None:
        with _Translated() as translated:
            try:
                if start is None:
                    response = self._client.get_object(self.bucket, name)
                else:
                    response = self._client.get_object(self.bucket, name, offset=start, length=most_bytes)
            except S3Error as error:
                if error.code != _BEHIND_THE_END:
                    raise
                return b""
            try:
                content: bytes = response.read(most_bytes)
            finally:
                response.close()
                response.release_conn()
        return None if translated.gone else content

    def write(self, name: str, content: bytes, media_type: str) -> None:
        with _Translated() as translated:
            self._client.put_object(self.bucket, name, io.BytesIO(content), len(content), content_type=media_type)
            if self._versions_are_kept():
                self._remove_versions(name, older_only=True)
        if translated.gone:
            raise BlobStoreUnavailableError(
                f"blob store: there is no bucket {self.bucket}", do="start a worker or a gateway: they make it"
            )

    def has(self, name: str) -> bool:
        with _Translated() as translated:
            self._client.stat_object(self.bucket, name)
        return not translated.gone

    def remove(self, name: str) -> None:
        with _Translated():
            if self._versions_are_kept():
                self._remove_versions(name, older_only=False)
            else:
                self._client.remove_object(self.bucket, name)

    def list(self, prefix: str) -> Iterator[str]:
        with _Translated():
            for item in self._client.list_objects(self.bucket, prefix=prefix, recursive=True):
                yield str(item.object_name)

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        """The bucket's own rules that remove objects by their age."""
        try:
            found: Any = self._client.get_bucket_lifecycle(self.bucket)
        except S3Error as error:
            if error.code in _NO_RULES:
                return ()
            raise _unavailable(error) from error
        except (MinioException, HTTPError) as error:
            raise _unavailable(error) from error
        rules = found.rules if found is not None else ()
        return tuple(
            ExpiryRule(
                name=rule.rule_id or "without a name",
                prefix=(rule.rule_filter.prefix if rule.rule_filter is not None else "") or "",
                days=rule.expiration.days,
            )
            for rule in rules
            if rule.status == "Enabled" and rule.expiration is not None and rule.expiration.days
        )

    def _versions_are_kept(self) -> bool:
        if self._keeps_versions is None:
            try:
                self._keeps_versions = self._client.get_bucket_versioning(self.bucket).status in _VERSIONS_KEPT
            except S3Error as error:
                if error.code != "NotImplemented":
                    raise
                self._keeps_versions = False
        return self._keeps_versions

    def _remove_versions(self, name: str, *, older_only: bool) -> None:
        for item in self._client.list_objects(self.bucket, prefix=name, recursive=True, include_version=True):
            is_newest = str(item.is_latest).lower() == "true"  # the client gives the answer's text
            if item.object_name == name and not (older_only and is_newest):
                self._client.remove_object(self.bucket, name, version_id=item.version_id)


class _Translated:
    """The client's errors as ours; that something is not there is no error, and is noted."""

    def __init__(self) -> None:
        self.gone = False

    def __enter__(self) -> "_Translated":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, S3Error) and error.code in _GONE:
            self.gone = True
            return True
        if isinstance(error, (MinioException, HTTPError)):
            raise _unavailable(error) from error
        return False


def _unavailable(error: Exception) -> BlobStoreUnavailableError:
    return BlobStoreUnavailableError(f"blob store: {error}", do="check that the S3 server runs: `hindsight status`")
