"""Erasing on real servers: nothing of the time can be read by anybody, everything else as before, and the log is whole."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from processors.lookback.gone import Orders
from schemas.catalogue import COMMANDS, ERASURES, FRAMES
from schemas.codec import decode
from schemas.errors import BlobErasedError
from schemas.events import FrameCaptured, FramesErased
from schemas.types import BlobRef, FrameRef
from streams.blob_names import name_of, sealed_as
from streams.key_tree import leaf, unpack
from streams.keyring import opened
from streams.names import Namespace
from tests.e2e import erasing_worker
from tests.e2e.deployment import Deployment, devices_on_every_partition, settings_of, until
from tests.e2e.pictures import picture
from topology import wiring
from topology.past import open_past
from topology.settings import Settings
from topology.stack.local import LocalStack

DEVICES = devices_on_every_partition()[:2]
DEVICE, OTHER = DEVICES
MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
PROCESSORS = "assess,erase,views"
FRAMES_EACH = 6


class Encrypted(Deployment):
    """A deployment whose frames are encrypted, each device and day under a key of its own.

    Args:
        pack_up_to_bytes: Frames of that size share objects.
    """

    def __init__(self, stack: LocalStack, namespace: Namespace, folder: Path, *, pack_up_to_bytes: int = 0) -> None:
        super().__init__(stack, namespace, folder)
        blobs = {"encrypt": "per_device_day", "master_key": MASTER_KEY, "pack_up_to_bytes": pack_up_to_bytes}
        self.settings = Settings(**{**settings_of(stack, namespace).model_dump(exclude={"blobs"}), "blobs": blobs})

    def environment(self) -> dict[str, str]:
        blobs = {"HINDSIGHT_BLOBS__ENCRYPT": "per_device_day", "HINDSIGHT_BLOBS__MASTER_KEY": MASTER_KEY}
        return {**super().environment(), **blobs}

    def captured(self, device: str) -> list[FrameRef]:
        """A device's frames on the log, oldest first."""
        found = []
        for partition, end in self.ends(FRAMES).items():
            for record in self.log.read(FRAMES, partition, 0, end):
                event = decode(record.value, FRAMES, self.schemas)
                if isinstance(event, FrameCaptured) and event.frame.device_id == device:
                    found.append(event.frame)
        return found

    def erased(self) -> list[FramesErased]:
        end = self.log.bounds(ERASURES, 0).end
        return [decode(r.value, ERASURES, self.schemas) for r in self.log.read(ERASURES, 0, 0, end)]

    def objects(self) -> dict[str, bytes]:
        """Every object of both buckets, as anybody with the keys of the S3 server finds them."""
        keys = {"access_key": self.settings.s3.access_key, "secret_key": self.settings.s3.secret_key.get_secret_value()}
        s3 = Minio(self.settings.s3.endpoint, secure=False, region="us-east-1", **keys)
        found = {}
        for name in (self.settings.blobs.bucket, self.settings.blobs.keys_bucket):
            bucket = self.namespace.bucket(name)
            for item in s3.list_objects(bucket, recursive=True):
                answer = s3.get_object(bucket, str(item.object_name))
                found[str(item.object_name)] = answer.read()
                answer.close()
        return found

    def erase(self, first: FrameRef, end: FrameRef, order: str, *more: str) -> "subprocess.CompletedProcess[str]":
        span = ("--device", first.device_id, "--from", rfc3339(first.captured_at_us), "--to", rfc3339(end.captured_at_us))
        return self.hindsight("erase", *span, "--order", order, "--reason", "subject request", *more)


def rfc3339(at_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")


@pytest.fixture
def deployment(request: pytest.FixtureRequest, stack: LocalStack, namespace: Namespace, tmp_path: Path) -> Iterator[Encrypted]:
    packs = getattr(request, "param", 0)
    with closing(Encrypted(stack, namespace, tmp_path, pack_up_to_bytes=packs)) as made:
        yield made
        print(made.last_lines())


def reading(deployment: Encrypted, ref: BlobRef) -> bytes | BlobErasedError:
    """What anybody gets who reads a blob."""
    with open_past(deployment.settings, None) as past:
        try:
            return past.blobs.get(ref)
        except BlobErasedError as error:
            return error


def opens(objects: dict[str, bytes], ref: BlobRef) -> bool:
    """Whether the master key and everything that lies in both buckets open a blob, by trying every key there is."""
    lies = objects.get(name_of(ref))
    if lies is None:
        return False
    where = ref.segment
    sealed = lies if where is None else lies[where.offset : where.offset + where.length]
    master, at = base64.b64decode(MASTER_KEY), int((ref.key_id or "").rpartition("/")[2])
    for name, content in objects.items():
        if name.startswith("keys/") and (packed := opened(master, content, name.encode())) is not None:
            nodes = unpack(packed)
            tries = [n.key for n in nodes] + ([key] if (key := leaf(nodes, at)) is not None else [])
            if any(opened(key, sealed, sealed_as(ref).encode()) is not None for key in tries):
                return True
    return opened(master, sealed, sealed_as(ref).encode()) is not None


@pytest.mark.timeout(400)
@pytest.mark.parametrize("deployment", [0, pytest.param(2**18, marks=pytest.mark.long)], indirect=True, ids=["each", "packed"])
def test_an_order_erases_its_time_and_nothing_else(deployment: Encrypted) -> None:
    """From the command line to the buckets: who reads is told, the rest is read, views equal the log, and checks agree."""
    deployment.start_workers(PROCESSORS)
    deployment.publish(DEVICES, FRAMES_EACH)
    frames, others = deployment.captured(DEVICE), deployment.captured(OTHER)
    assert all((f.blob.segment is not None) == bool(deployment.settings.blobs.pack_up_to_bytes) for f in frames)
    until(lambda: len(deployment.states("frame_outcomes")) == 2 * FRAMES_EACH, within_s=60, what="assessed")
    before = deployment.objects()
    assert all(picture(n)[:64] not in content for n in range(FRAMES_EACH) for content in before.values())
    assert all(opens(before, f.blob) for f in frames)

    dry = deployment.erase(frames[1], frames[4], "GDPR-17", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "3 frames: 3 encrypted under 1 keys, 0 plain" in dry.stdout
    assert "       3  FrameAccepted" in dry.stdout
    assert deployment.objects() == before
    assert deployment.erase(frames[1], frames[4], "GDPR-17").returncode == 2, "nobody is there to be asked"

    done = deployment.erase(frames[1], frames[4], "GDPR-17", "--yes")
    assert done.returncode == 0, done.stderr
    assert "erased by order GDPR-17 at " in done.stdout
    (event,) = deployment.erased()
    assert (event.frames_count, event.encrypted_count, dict(event.derived_counts)) == (3, 3, {"FrameAccepted": 3})

    after = deployment.objects()
    for number, frame in enumerate(frames):
        got = reading(deployment, frame.blob)
        if 1 <= number < 4:
            assert isinstance(got, BlobErasedError)
            assert "was erased by order GDPR-17 at " in str(got)
            # Somebody kept a copy of the ciphertext: with all that is left, and the master key, it does not open.
            assert not opens({**after, name_of(frame.blob): before[name_of(frame.blob)]}, frame.blob)
            assert opens(before, frame.blob)
        else:
            assert got == picture(number)
    assert [reading(deployment, f.blob) for f in others] == [picture(n) for n in range(FRAMES_EACH)]

    # The log is whole: every frame is on it still, and every view is the fold of it.
    assert len(deployment.captured(DEVICE)) == FRAMES_EACH
    assert all(c.equal for c in deployment.checked())
    check = deployment.hindsight("blobs", "check", "--digests")
    assert check.returncode == 0, check.stderr
    assert "12 blobs read and verified: 0 missing, 0 changed\n3 erased by order GDPR-17\n" in check.stdout
    shown = deployment.hindsight("at", "now", "--device", DEVICE)
    assert "erased by order" not in shown.stdout, "the last frame is not of that time"

    again = deployment.erase(frames[1], frames[4], "GDPR-17", "--yes", "--format", "json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["event"]["frames_count"] == 3
    other_time = deployment.erase(frames[0], frames[4], "GDPR-17", "--yes")
    assert other_time.returncode == 1
    assert "refused (other_order)" in other_time.stderr
    last = deployment.hindsight(
        "erase", "--device", DEVICE, "--from", rfc3339(frames[5].captured_at_us), "--to", "now", "--order", "GDPR-18", "--yes"
    )
    assert last.returncode == 0, last.stderr
    assert "erased by order GDPR-18 at " in deployment.hindsight("at", "now", "--device", DEVICE).stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", ["keys", "bytes", "unsaid", "said"])
def test_a_worker_that_dies_in_the_middle(deployment: Encrypted, point: str) -> None:
    """Until it is said, whoever reads is told that it is under way; the next worker finishes it, and it is said once."""
    deployment.publish((DEVICE,), FRAMES_EACH)
    frames = deployment.captured(DEVICE)
    dying = deployment.start_worker("erase", launcher=(erasing_worker.__file__, point))
    until(dying.is_ready, within_s=60, what="ready")
    command = [sys.executable, "-m", "topology.cli", "erase", "--device", DEVICE, "--order", "GDPR-19", "--yes"]
    command += ["--from", rfc3339(frames[1].captured_at_us), "--to", rfc3339(frames[4].captured_at_us)]
    asking = subprocess.Popen(
        command, cwd=deployment.folder, env=deployment.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: dying.process.poll() is not None, within_s=60, what="dead")
        assert deployment.log.bounds(COMMANDS, 0).end == 1
        if point != "said":
            assert deployment.erased() == []
            (order,) = Orders(deployment.log, deployment.schemas).all()
            assert order.erased_at_us is None
            got = reading(deployment, frames[1].blob)
            assert isinstance(got, BlobErasedError)
            assert "being erased by order GDPR-19" in str(got)
        deployment.start_workers("erase")
        out, err = asking.communicate(timeout=120)
    finally:
        asking.kill()
    assert asking.returncode == 0, err
    assert "erased by order GDPR-19 at " in out
    until(lambda: deployment.positions("erase", COMMANDS) == {0: 1}, within_s=60, what="the command is done")
    said = {e.event_id for e in deployment.erased()}
    assert len(said) == 1
    objects = deployment.objects()
    assert [opens(objects, f.blob) for f in frames] == [True, False, False, False, True, True]
    assert [isinstance(reading(deployment, f.blob), bytes) for f in frames] == [True, False, False, False, True, True]


@pytest.mark.timeout(400)
def test_what_was_plain_before_is_removed(stack: LocalStack, namespace: Namespace, tmp_path: Path) -> None:
    """Frames from before encryption: their bytes are gone from the bucket, but those that another device's frame names."""
    with closing(Deployment(stack, namespace, tmp_path)) as plain:
        plain.start_workers("erase")
        plain.publish((DEVICE,), 3)
        plain.publish((OTHER,), 1)
        span: tuple[Any, ...] = ("--device", DEVICE, "--from", "1 hour ago", "--to", "now", "--order", "T-1", "--yes")
        done = plain.hindsight("erase", *span)
        assert done.returncode == 1, done.stderr
        assert "3 frames, 0 by 0 keys, 2 removed" in done.stdout
        assert "kept: 1 blobs that frames outside this time name too" in done.stdout
        assert len(set(wiring.blob_store(plain.settings).names())) == 1
        check = plain.hindsight("blobs", "check", "--digests")
        assert check.returncode == 0, check.stdout
        assert "2 erased by order T-1" in check.stdout
