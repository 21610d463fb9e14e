"""Objects by name, in memory and in S3: what blobs and their keys are built on. Removing is for good."""

import io
from typing import Any

import pytest
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.versioningconfig import VersioningConfig

from schemas.errors import BlobStoreUnavailableError
from streams.memory import MemoryObjects
from streams.objects import S3Objects
from streams.ports import ExpiryRule, Objects


def s3_objects(stack: Any, bucket: str) -> S3Objects:
    found = S3Objects(stack.endpoints.s3_endpoint, bucket=bucket, **s3_keys(stack))
    found.make_bucket()
    return found


def s3_keys(stack: Any) -> dict[str, str]:
    return {"access_key": stack.endpoints.s3_access_key, "secret_key": stack.endpoints.s3_secret_key}


def hands_of(stack: Any) -> Minio:
    return Minio(stack.endpoints.s3_endpoint, secure=False, region="us-east-1", **s3_keys(stack))


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest) -> Objects:
    if request.param == "memory":
        return MemoryObjects()
    return s3_objects(request.getfixturevalue("stack"), request.getfixturevalue("namespace").bucket("objects"))


def test_what_was_written_is_read(objects: Objects) -> None:
    """The newest bytes, at most as many as asked for; a name that is not there is None and no error."""
    assert objects.read("a/b", 10) is None
    assert not objects.has("a/b")
    objects.write("a/b", b"first", "text/plain")
    objects.write("a/b", b"second", "text/plain")
    assert objects.read("a/b", 100) == b"second"
    assert objects.read("a/b", 3) == b"sec"
    assert objects.has("a/b")


def test_a_stretch_is_read(objects: Objects) -> None:
    """From a place on, as much as is asked for and is there; behind the end is nothing, and of no object there is None."""
    objects.write("a", b"0123456789", "text/plain")
    assert objects.read("a", 4, start=0) == b"0123"
    assert objects.read("a", 4, start=3) == b"3456"
    assert objects.read("a", 4, start=8) == b"89"
    assert objects.read("a", 4, start=10) == b""
    assert objects.read("b", 4, start=3) is None


def test_what_was_removed_is_gone(objects: Objects) -> None:
    """Twice is fine; others stay, also those whose names begin alike."""
    for name in ("a/b", "a/bc", "d"):
        objects.write(name, b"x", "text/plain")
    objects.remove("a/b")
    objects.remove("a/b")
    assert list(objects.list("")) == ["a/bc", "d"]
    assert objects.read("a/b", 10) is None


def test_names_are_listed_by_their_beginning(objects: Objects) -> None:
    """In ascending order, through all folders."""
    names = ["k/gate-1/2026-01-01/x", "k/gate-1/2026-01-02/x", "k/gate-10/2026-01-01/x", "other"]
    for name in reversed(names):
        objects.write(name, b"x", "text/plain")
    assert list(objects.list("k/gate-1/")) == names[:2]
    assert list(objects.list("k/")) == names[:3]
    assert list(objects.list("none")) == []


def test_a_bucket_that_keeps_versions_forgets_all_the_same(stack: Any, namespace: Any) -> None:
    """Neither what was overwritten nor what was removed can be asked for by a version."""
    bucket = namespace.bucket("versions")
    s3_objects(stack, bucket)
    hands = hands_of(stack)
    hands.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    if hands.get_bucket_versioning(bucket).status != ENABLED:
        pytest.fail("this S3 server keeps no versions, so the promise is not tested")
    objects = s3_objects(stack, bucket)
    hands.put_object(bucket, "key", io.BytesIO(b"older"), 5)
    objects.write("key", b"old", "text/plain")
    objects.write("key", b"new", "text/plain")
    objects.write("key2", b"other", "text/plain")
    assert len(list(hands.list_objects(bucket, prefix="key", include_version=True))) == 2
    assert objects.read("key", 10) == b"new"
    objects.remove("key")
    left = list(hands.list_objects(bucket, recursive=True, include_version=True))
    assert [v.object_name for v in left] == ["key2"]


def test_rules_that_remove_by_age_are_known(stack: Any, namespace: Any) -> None:
    """A bucket without any has none; one with a rule names it, so that a blob's end can be explained."""
    bucket = namespace.bucket("rules")
    objects = s3_objects(stack, bucket)
    assert objects.expiry_rules() == ()
    rule = Rule(ENABLED, rule_filter=Filter(prefix="sha256/"), rule_id="frames-90d", expiration=Expiration(days=90))
    hands_of(stack).set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
    (found,) = objects.expiry_rules()
    assert (found.prefix, found.days) == ("sha256/", 90)
    assert found == ExpiryRule(name=found.name, prefix="sha256/", days=90)


def test_a_store_that_is_away_is_named_as_that() -> None:
    """Every call ends in BlobStoreUnavailableError with what to do."""
    away = S3Objects("127.0.0.1:9", access_key="a", secret_key="b" * 8, bucket="objects")
    for call in (
        lambda: away.read("a", 1),
        lambda: away.write("a", b"", ""),
        lambda: away.has("a"),
        lambda: away.remove("a"),
        lambda: list(away.list("")),
        away.make_bucket,
        away.expiry_rules,
    ):
        with pytest.raises(BlobStoreUnavailableError) as raised:
            call()
        assert raised.value.do
