"""Orders to erase: exactly the time is unreadable, all that follows is told, and dying anywhere in between changes nothing."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from processors.dead_letters import dead_letter
from processors.emit import key_of
from processors.erase.core import Erased, Refused
from processors.erase.step import EraseStep
from processors.lookback.erasure import Span, derived_from, digest_of_list, ends_of
from processors.lookback.explain import explain
from processors.lookback.gone import TellingBlobs, erased_by, why_gone
from processors.lookback.tree import lines, tree
from processors.release.loader import command_record
from processors.release.step import ReleaseStep
from schemas import ids
from schemas.catalogue import COMMANDS, FRAMES, TOPIC_OF
from schemas.codec import FixedSchemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.errors import BlobErasedError, BlobGoneError, BlobStoreUnavailableError, DecodeError, TransientError
from schemas.events import (
    AlertRaised,
    EraseFrames,
    ErasureRefused,
    FrameAccepted,
    FrameCaptured,
    FramesErased,
    QualityMeasured,
    ResultCorrected,
    SnapshotTaken,
)
from schemas.types import BlobRef, Conclusion, DeviceId, EventId, FrameRef, SourcePosition
from streams.keyring import KeyRing
from streams.memory import MemoryBlobStore, MemoryLog, MemoryObjects
from streams.packing import Packer
from streams.partitioning import partition_of
from streams.past import Past
from streams.ports import ExpiryRule
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Outgoing
from streams.sealed_blobs import SealedBlobs
from tests.bundles import bundled
from tests.given import AT_US, cause
from topology.blob_check import check_blobs
from topology.past import open_past
from topology.settings import Settings

SCHEMAS = FixedSchemas()
SECOND_US = 1_000_000
ERASED_AT_US = AT_US + 3600 * SECOND_US


class Died(Exception):
    """The process, in the middle of something."""


class Mortal:
    """A store whose process dies at its n-th call that changes something, before it or after it."""

    def __init__(self, store: SealedBlobs, dies_at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, dies_at, after
        self.exists, self.get, self.put = store.exists, store.get, store.put

    def destroy_keys(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        self._risk(after=False)
        found = self._store.destroy_keys(device_id, from_us, to_us)
        self._risk(after=True)
        return found

    def discard(self, ref: BlobRef) -> None:
        self._risk(after=False)
        self._store.discard(ref)
        self._risk(after=True)

    def wipe(self, refs: Iterable[BlobRef]) -> None:
        self._risk(after=False)
        self._store.wipe(refs)
        self._risk(after=True)

    def _risk(self, *, after: bool) -> None:
        if after is self._after:
            self._left -= 1
            if self._left == 0:
                raise Died


@dataclass(slots=True)
class Bench:
    """A log, a store, and frames of two devices a second apart: gate-1 with encryption on, unless it is off."""

    encrypted: bool = True
    packed: bool = False
    log: MemoryLog = field(default_factory=lambda: MemoryLog(lambda: AT_US))
    plain: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    keys: MemoryObjects = field(default_factory=MemoryObjects)
    frames: dict[tuple[str, int], FrameRef] = field(default_factory=dict)

    def store(self, *, master_key: bytes = bytes(32)) -> SealedBlobs:
        return SealedBlobs(self.plain, self.objects, KeyRing(self.keys, master_key), seals=self.encrypted)

    async def publish(self, device: str, sequences: Iterable[int], *, image: str = "") -> None:
        store = self.store()
        packer = Packer(store, frame_bytes_max=1000) if self.packed else None
        publisher = FramePublisher(
            appender=self.log, blobs=store, schemas=SCHEMAS, clock=lambda: AT_US, channel="sdk", packer=packer
        )
        incoming = [
            IncomingFrame(
                device_id=device,
                session_id="s",
                sequence=sequence,
                captured_at_us=AT_US + sequence * SECOND_US,
                image=(image or f"{device} {sequence}").encode(),
            )
            for sequence in sequences
        ]
        for frame in await asyncio.gather(*map(publisher.store, incoming)):
            await publisher.append(frame)
            self.frames[device, frame.sequence] = frame

    def append(self, event: Any, *, partition: int | None = None) -> None:
        headers = to_headers(envelope_of(event, source="hindsight/test", time_us=AT_US, correlation_id="c", causation_id="c"))
        self.log.append_now(
            Outgoing(
                topic=TOPIC_OF[type(event)],
                key=key_of(event).encode(),
                value=encode(event, SCHEMAS),
                headers=headers,
                partition=partition,
            )
        )

    def order(self, first: int, end: int, *, order_id: str = "GDPR-17", device: str = "gate-1") -> tuple[EraseFrames, int]:
        """The command on the log, and where."""
        command = EraseFrames(
            command_id=EventId(f"command-{order_id}-{first}-{end}"),
            device_id=DeviceId(device),
            order_id=order_id,
            captured_from_us=AT_US + first * SECOND_US,
            captured_to_us=AT_US + end * SECOND_US,
            issued_by="kim",
            reason="subject request",
            issued_at_us=AT_US,
        )
        return command, self.log.append_now(command_record(command, SCHEMAS, AT_US)).offset

    def carry_out(self, ordered: tuple[EraseFrames, int], store: Any = None, *, tell: bool = True) -> Any:
        step = EraseStep(self.log, SCHEMAS, store or self.store(), lambda: ERASED_AT_US)
        command, offset = ordered
        where = cause(offset, COMMANDS)
        answer = asyncio.run(step.prepare(command, where)).answer
        (event,) = step.decide(step.initial, command, answer, where)
        if tell:
            self.append(event, partition=0)
        return event

    def readable(self, device: str = "gate-1") -> list[int]:
        """Sequences of a device whose bytes can be read."""
        store, found = self.store(), []
        for (owner, sequence), frame in self.frames.items():
            if owner == device:
                try:
                    store.get(frame.blob)
                except BlobGoneError:
                    continue
                found.append(sequence)
        return found

    def past(self) -> Past:
        told = TellingBlobs(self.store(), self.log, SCHEMAS)
        return Past(log=self.log, schemas=SCHEMAS, blobs=told, source="test")


def bench(*, encrypted: bool = True, packed: bool = False) -> Bench:
    made = Bench(encrypted=encrypted, packed=packed)
    asyncio.run(made.publish("gate-1", range(10)))
    asyncio.run(made.publish("gate-2", range(10)))
    return made


@pytest.mark.parametrize("packed", [False, True], ids=["an object each", "in segments"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_exactly_the_time_is_erased(encrypted: bool, packed: bool) -> None:
    """From the first moment up to, and not including, the last; of one device; and the event says what was done."""
    world = bench(encrypted=encrypted, packed=packed)
    assert all((frame.blob.segment is not None) == packed for frame in world.frames.values())
    event = world.carry_out(world.order(3, 7))
    assert isinstance(event, FramesErased)
    assert world.readable() == [0, 1, 2, 7, 8, 9]
    assert world.readable("gate-2") == list(range(10))
    assert (event.frames_count, event.encrypted_count, event.removed_count) == ((4, 4, 0) if encrypted else (4, 0, 4))
    assert [k.rpartition("/")[0] for k in event.key_ids] == (["gate-1/2026-09-21"] if encrypted else [])
    assert (event.order_id, event.issued_by, event.reason) == ("GDPR-17", "kim", "subject request")
    assert event.erased_at_us == ERASED_AT_US
    assert event.frames_offsets == ends_of(world.log, FRAMES)


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
@pytest.mark.parametrize("packed", [False, True], ids=["an object each", "in segments"])
@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
def test_dying_at_any_point_changes_nothing(encrypted: bool, after: bool, packed: bool) -> None:
    """Wherever it dies, nothing is said before all is unreadable; done again, it says the same as if it had not died."""
    untroubled = bench(encrypted=encrypted, packed=packed)
    expected = untroubled.carry_out(untroubled.order(3, 7))
    deaths = 0
    for dies_at in range(1, 20):
        world = bench(encrypted=encrypted, packed=packed)
        ordered = world.order(3, 7)
        try:
            world.carry_out(ordered, Mortal(world.store(), dies_at, after=after))
        except Died:
            deaths += 1
            again = world.carry_out(ordered)
            assert replace(again, key_ids=()) == replace(expected, key_ids=())
            assert len(again.key_ids) == len(expected.key_ids)
        assert world.readable() == [0, 1, 2, 7, 8, 9]
    # Keys, then four objects; or keys alone, since what is sealed in a segment needs no more; or one segment.
    assert deaths == (5 if not packed else 1 if encrypted else 2)


def test_a_key_that_is_gone_is_named_all_the_same() -> None:
    """A whole day's key is removed, so a worker that finishes the work of a dead one finds none; the log says which it was."""
    world, day_s = bench(), 24 * 3600
    named = {(f.blob.key_id or "").rpartition("/")[0] for (device, _), f in world.frames.items() if device == "gate-1"}
    ordered = world.order(-day_s, day_s)
    with pytest.raises(Died):
        world.carry_out(ordered, Mortal(world.store(), 1, after=True))
    assert not list(world.keys.list("keys/gate-1/"))
    assert set(world.carry_out(ordered).key_ids) == named


def test_bytes_that_another_frame_names_are_kept_and_said() -> None:
    """Plain bytes are one blob for all that name them: of two devices that sent the same picture, the other's order waits."""
    world = bench(encrypted=False)
    asyncio.run(world.publish("gate-1", [20], image="the same"))
    asyncio.run(world.publish("gate-2", [20], image="the same"))
    shared = world.frames["gate-1", 20].blob.sha256
    event = world.carry_out(world.order(7, 30))
    assert (event.frames_count, event.removed_count, event.kept_sha256, event.kept_count) == (4, 3, (shared,), 1)
    assert world.readable() == [0, 1, 2, 3, 4, 5, 6, 20]
    second = world.carry_out(world.order(20, 21, order_id="GDPR-18", device="gate-2"))
    assert second.kept_sha256 == (shared,), "the other device's frame names it still"


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_a_frame_that_was_sent_again_is_erased_in_both_places(encrypted: bool) -> None:
    """A gateway that died after the event is sent the frame again: two records name two segments with its bytes."""
    world = bench(encrypted=encrypted, packed=True)
    first = dict(world.frames)
    asyncio.run(world.publish("gate-1", range(10)))
    world.carry_out(world.order(3, 7))
    for frames in (first, dict(world.frames)):
        world.frames = frames
        assert world.readable() == [0, 1, 2, 7, 8, 9]


def test_a_stretch_that_another_frame_lies_in_is_kept() -> None:
    """A record of the time may name a place that reaches into another frame's bytes: these are not wiped with it."""
    world = bench(encrypted=False, packed=True)
    mine, other = world.frames["gate-1", 3], world.frames["gate-1", 8]
    assert other.blob.segment is not None
    reaching = replace(other.blob.segment, offset=other.blob.segment.offset - 1)
    forged = replace(mine, blob=replace(other.blob, segment=reaching))
    world.append(FrameCaptured(event_id=EventId("forged"), frame=forged, received_at_us=AT_US, channel="mine"))
    world.carry_out(world.order(3, 4))
    assert world.readable() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_a_check_and_a_bundle_know_segments(encrypted: bool, tmp_path: Path) -> None:
    """Before and after an order: what is there, what is missing or changed, what nothing names; and a bundle has what is left."""
    world = bench(encrypted=encrypted, packed=True)
    before = check_blobs(world.log, world.store(), SCHEMAS, read=True)
    assert (before.checked, before.missing, before.changed, before.unreferenced) == (20, (), (), 0)
    event = world.carry_out(world.order(3, 7))
    for read in (True, False):
        after = check_blobs(world.log, world.store(), SCHEMAS, read=read)
        assert (after.missing, after.changed, after.erased, after.not_erased) == ((), (), {event.order_id: 4}, ())
    bundled(world.past(), tmp_path / "a.hsb")
    with open_past(Settings(), tmp_path / "a.hsb") as past:
        assert past.blobs.get(world.frames["gate-1", 8].blob) == b"gate-1 8"
        with pytest.raises(BlobErasedError):
            past.blobs.get(world.frames["gate-1", 4].blob)
    damaged = world.frames["gate-1", 0].blob.segment
    assert damaged is not None
    content = bytearray(world.objects.contents[damaged.object])
    content[damaged.offset + damaged.length - 1] ^= 1
    world.objects.contents[damaged.object] = bytes(content)
    assert check_blobs(world.log, world.store(), SCHEMAS, read=True).changed == (world.frames["gate-1", 0].blob.sha256,)
    del world.objects.contents[damaged.object]
    world.objects.contents[f"segments/2026-09-21/{'ab' * 16}"] = b"left over"
    last = check_blobs(world.log, world.store(), SCHEMAS, read=False)
    assert (len(last.missing), last.unreferenced) == (6, 1)


def test_what_a_record_names_of_another_device_stays() -> None:
    """Whoever writes to the log may name any bytes: an order about his frame takes nothing from the one whose bytes they are."""
    world = bench()
    theirs = world.frames["gate-2", 5]
    forged = replace(world.frames["gate-1", 4], frame_id=ids.frame_id("gate-1", "forged", 0), blob=theirs.blob)
    world.append(FrameCaptured(event_id=EventId("forged"), frame=forged, received_at_us=AT_US, channel="sdk"))
    event = world.carry_out(world.order(3, 7))
    assert world.readable() == [0, 1, 2, 7, 8, 9]
    assert world.readable("gate-2") == list(range(10))
    assert (event.frames_count, event.kept_sha256) == (5, (theirs.blob.sha256,))
    assert [k.split("/")[0] for k in event.key_ids] == ["gate-1"]


def test_kept_bytes_that_are_lost_later_are_missing() -> None:
    """The order did not remove what another frame names: that it is gone is for somebody to look into."""
    world = bench(encrypted=False)
    asyncio.run(world.publish("gate-1", [20], image="the same"))
    asyncio.run(world.publish("gate-2", [20], image="the same"))
    shared = world.frames["gate-2", 20].blob
    world.carry_out(world.order(7, 30))
    checked = check_blobs(world.log, world.store(), SCHEMAS, read=True)
    assert (checked.missing, checked.erased, checked.not_erased) == ((), {"GDPR-17": 3}, ())
    world.store().discard(shared)
    checked = check_blobs(world.log, world.store(), SCHEMAS, read=True)
    assert (checked.missing, checked.erased) == ((shared.sha256,), {"GDPR-17": 3})


def test_encrypted_and_plain_together() -> None:
    """Encryption was turned on in the middle of the time; a plain copy that an import brought goes too."""
    world = bench(encrypted=False)
    world.encrypted = True
    asyncio.run(world.publish("gate-1", range(10, 15)))
    world.plain.put(b"gate-1 12", "image/jpeg")
    event = world.carry_out(world.order(8, 14))
    assert (event.encrypted_count, event.removed_count) == (4, 2)
    assert world.readable() == [0, 1, 2, 3, 4, 5, 6, 7, 14]


def test_an_order_is_done_again_for_what_came_late() -> None:
    """A frame that a spool held back is read until the order is given again."""
    world = bench()
    first = world.carry_out(world.order(0, 30))
    asyncio.run(world.publish("gate-1", [20]))
    assert world.readable() == [20]
    assert erased_by(world.past(), world.frames["gate-1", 20]) == "", "it came after the order, and can be read"
    again = world.carry_out(world.order(0, 30))
    assert world.readable() == []
    assert (first.frames_count, again.frames_count) == (10, 11)
    assert first.event_id != again.event_id


def test_frames_that_another_partitioner_placed_are_found() -> None:
    """Whoever sends frames may hash otherwise, and may even key them otherwise: what is theirs is erased wherever it lies."""
    world = bench()
    home = partition_of(b"gate-1", len(world.log.partitions(FRAMES)))
    (record,) = world.log.read(FRAMES, home, 5, 6)
    away = next(p for p in world.log.partitions(FRAMES) if p != home)
    asyncio.run(world.publish("gate-1", [30]))
    elsewhere = world.log._records[FRAMES, home].pop()
    world.log.append_now(Outgoing(topic=FRAMES, key=b"?", value=elsewhere.value, headers=record.headers, partition=away))
    event = world.carry_out(world.order(30, 31))
    assert event.frames_count == 1
    assert world.readable() == list(range(10))


@pytest.mark.parametrize(
    ("first", "end", "order_id", "device", "refusal"),
    [(5, 5, "A", "gate-1", "empty_time"), (6, 5, "A", "gate-1", "empty_time"), (0, 5, "", "gate-1", "empty_time")]
    + [(0, 5, "GDPR-17", "gate-2", "other_order"), (3, 8, "GDPR-17", "gate-1", "other_order")],
)
def test_what_cannot_be_is_refused(first: int, end: int, order_id: str, device: str, refusal: str) -> None:
    """A time that is none, and a number that names another order: nothing is done, and the event says why."""
    world = bench()
    world.carry_out(world.order(3, 7))
    before = (world.readable(), world.readable("gate-2"))
    event = world.carry_out(world.order(first, end, order_id=order_id, device=device))
    assert isinstance(event, ErasureRefused)
    assert event.refusal == refusal
    assert (world.readable(), world.readable("gate-2")) == before


def test_without_the_master_key_it_says_so() -> None:
    """A worker that cannot open the keys does not say that it erased."""
    world = bench()
    event = world.carry_out(world.order(3, 7), world.store(master_key=b""))
    assert isinstance(event, ErasureRefused)
    assert event.refusal == "no_key"


def test_it_is_not_said_while_anything_can_be_read() -> None:
    """A store that takes the order and does nothing: tried again, and never confirmed."""
    world = bench(encrypted=False)

    class Lazy(Mortal):
        def discard(self, ref: BlobRef) -> None: ...

    with pytest.raises(BlobStoreUnavailableError, match="4 blobs can still be read"):
        world.carry_out(world.order(3, 7), Lazy(world.store(), 0, after=True))
    assert issubclass(BlobStoreUnavailableError, TransientError), "so the shell tries again"


@pytest.mark.parametrize("packed", [False, True], ids=["an object each", "in segments"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_whoever_reads_is_told_which_order(encrypted: bool, packed: bool) -> None:
    """While it is carried out, and when it is done; and of what nobody ordered, nothing of the kind is said."""
    world = bench(encrypted=encrypted, packed=packed)
    frame, other = world.frames["gate-1", 4], world.frames["gate-1", 8]
    assert why_gone(world.past(), frame) == ""
    ordered = world.order(3, 7)
    world.carry_out(ordered, tell=False)
    with pytest.raises(BlobErasedError, match=r"being erased by order GDPR-17 \(asked by kim: subject request\)"):
        world.past().blobs.get(frame.blob)
    world.carry_out(ordered)
    told = r"was erased by order GDPR-17 at 2026-09-21T15:13:20.000000Z \(asked by kim: subject request\)"
    with pytest.raises(BlobErasedError, match=told) as raised:
        world.past().blobs.get(frame.blob)
    assert (raised.value.order_id, raised.value.erased_at_us) == ("GDPR-17", ERASED_AT_US)
    assert why_gone(world.past(), frame).startswith("erased by order GDPR-17 at 2026-09-21T15:13:20")
    assert erased_by(world.past(), frame).startswith("erased by order GDPR-17")
    assert erased_by(world.past(), other) == ""
    explained = explain(world.past(), frame.frame_id)
    assert "erased by order GDPR-17" in explained.blob_gone
    assert any("blob gone: " in line and "erased by order GDPR-17" in line for line in lines(tree(explained, str)))
    world.store().discard(other.blob)
    assert why_gone(world.past(), other) == "not in the blob store, and nothing on the log says why"
    with pytest.raises(BlobGoneError) as gone:
        world.past().blobs.get(other.blob)
    assert not isinstance(gone.value, BlobErasedError)


def test_a_bundle_gives_nothing_that_was_erased(tmp_path: Path) -> None:
    """It knows bytes by their digest: the same picture of another device is in it, and is no answer for the erased frame."""
    world = bench()
    asyncio.run(world.publish("gate-1", [20, 21], image="the same"))
    asyncio.run(world.publish("gate-2", [20], image="the same"))
    world.carry_out(world.order(20, 21))
    bundled(world.past(), tmp_path / "a.hsb")
    with open_past(Settings(), tmp_path / "a.hsb") as past:
        erased = world.frames["gate-1", 20]
        with pytest.raises(BlobErasedError, match="was erased by order GDPR-17"):
            past.blobs.get(erased.blob)
        assert why_gone(past, erased).startswith("erased by order GDPR-17")
        for frame in (world.frames["gate-1", 21], world.frames["gate-2", 20]):
            assert past.blobs.get(frame.blob) == b"the same"


def test_a_refused_order_explains_nothing() -> None:
    """What is gone under it is gone for another reason."""
    world = bench(encrypted=False)
    world.carry_out(world.order(3, 7))
    world.carry_out(world.order(7, 9, order_id="GDPR-17"))
    world.carry_out(world.order(8, 8, order_id="GDPR-18"))
    world.encrypted = True
    asyncio.run(world.publish("gate-1", [12]))
    refused = world.carry_out(world.order(11, 13, order_id="GDPR-19"), world.store(master_key=b""))
    assert isinstance(refused, ErasureRefused)
    world.store().discard(world.frames["gate-1", 12].blob)
    assert "nothing on the log says why" in why_gone(world.past(), world.frames["gate-1", 12])
    world.store().discard(world.frames["gate-1", 8].blob)
    assert "nothing on the log says why" in why_gone(world.past(), world.frames["gate-1", 8])


def test_a_rule_of_the_store_is_named() -> None:
    """Bytes that the bucket's own rule removed say so, with its name and age."""
    world = bench(encrypted=False)
    frame = world.frames["gate-1", 1]
    world.store().discard(frame.blob)
    rules = (ExpiryRule(name="enc-only", prefix="enc/", days=1), ExpiryRule(name="frames-90d", prefix="sha256/", days=90))
    told = TellingBlobs(world.store(), world.log, SCHEMAS, lambda: rules)
    with pytest.raises(BlobGoneError, match=r"expired by rule frames-90d \(90 days\)"):
        told.get(frame.blob)
    past = replace(world.past(), blobs=told)
    assert why_gone(past, frame) == "expired by rule frames-90d (90 days)"


def test_what_derived_from_it_is_listed() -> None:
    """Assessments, corrections, alerts, measures, snapshots, dead letters of the frames; nothing of others, and no captures."""
    world = bench()
    partition = partition_of(b"gate-1", len(world.log.partitions(FRAMES)))
    source = SourcePosition(topic=FRAMES, partition=partition, offset=4, index=0)

    def accepted(device: str, sequence: int) -> FrameAccepted:
        return FrameAccepted(
            event_id=ids.event_id(source, f"{device} {sequence}"),
            source=source,
            frame=world.frames[device, sequence],
            width_px=1,
            height_px=1,
            measures={},
            warnings=(),
            missing_before=0,
            assessed_at_us=AT_US,
        )

    for sequence in (2, 4, 5, 8):
        world.append(accepted("gate-1", sequence), partition=partition)
    world.append(accepted("gate-2", 4))
    said = Conclusion(passage_id="p", frames_count=1, kind="code", confidence=1.0, votes_for=1, votes_total=1)
    corrected = ResultCorrected(
        event_id=EventId("e"), source=source, device_id=DeviceId("gate-1"), pipeline="p", rules="r", derived_at_us=AT_US,
        frame_id=world.frames["gate-1", 5].frame_id, previous=said, conclusion=said,
    )  # fmt: skip
    world.append(corrected, partition=partition)
    world.append(replace(corrected, frame_id=world.frames["gate-1", 8].frame_id), partition=partition)
    alert = AlertRaised(
        event_id=EventId("a"), source=source, alert_id=EventId("a"), subject="gate-1", kind="k", severity="warning", message="m",
        frame_id=world.frames["gate-1", 6].frame_id, evidence={}, raised_at_us=AT_US,
    )  # fmt: skip
    world.append(alert, partition=partition)
    world.append(replace(alert, frame_id=None), partition=partition)
    blob = BlobRef(sha256="ab" * 32, size_bytes=1, media_type="application/json")
    for offset in (1, 3):
        taken = SnapshotTaken(
            event_id=EventId("s"), view="device_frames", topic="vision.assessments", partition=partition, offset=offset,
            blob=blob, digest="d", keys_count=1, taken_at_us=AT_US,
        )  # fmt: skip
        world.append(taken)
    for window in (0, 8):
        measured = QualityMeasured(
            event_id=EventId("q"), source=source, subject="gate-1", pipeline="p", samples_count=1, measures={},
            window_from_us=AT_US + window * SECOND_US, window_to_us=AT_US + (window + 4) * SECOND_US,
        )  # fmt: skip
        world.append(measured, partition=partition)
    for offset in (4, 8):
        (record,) = world.log.read(FRAMES, partition, offset, offset + 1)
        world.log.append_now(dead_letter(record, DecodeError("x"), "assess", AT_US))

    span = Span(device_id="gate-1", from_us=AT_US + 3 * SECOND_US, to_us=AT_US + 7 * SECOND_US)
    found = list(derived_from(world.log, SCHEMAS, span))
    assert [(a.type, a.offset) for a in found if a.type not in ("SnapshotTaken",)] == [
        ("FrameAccepted", 1), ("FrameAccepted", 2), ("ResultCorrected", 0), ("AlertRaised", 0), ("QualityMeasured", 2),
        ("dead letter", 0),
    ]  # fmt: skip
    assert [a.what for a in found if a.type == "SnapshotTaken"] == ["of view device_frames, which counted a frame"]
    counts, digest = digest_of_list(found)
    event = world.carry_out(world.order(3, 7))
    assert (event.derived_counts, event.derived_digest) == (counts, digest)
    assert list(derived_from(world.log, SCHEMAS, replace(span, device_id="gate-9"))) == []


def test_the_release_processor_leaves_orders_alone() -> None:
    """Both read vision.commands; an order is no command to it, and no dead letter."""
    world = bench()
    command, offset = world.order(3, 7)
    step = ReleaseStep()
    assert step.key(command) is None
    assert step.decide(step.initial, command, None, cause(offset, COMMANDS)) == ()


def test_the_outcomes_are_two() -> None:
    """Whoever adds one decides what event it makes."""
    assert {Erased, Refused} == set(EraseStep.carry_out.__annotations__["return"].__args__)
