"""What belongs into a bundle: the window, what led to it, what states start from, and every image that it names."""

import gzip
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from processors.lookback.at import device_at, view_at
from processors.lookback.known import known_at
from processors.repeats import Seen
from processors.snapshots import checking
from processors.snapshots import manifest as manifests
from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.manifest import Piece, fold_of, pack
from processors.snapshots.reading import Snapshots
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS
from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, INFERENCES, MONITORING, RELEASES, RESULTS
from schemas.errors import BlobGoneError, BundleError, ContractError, DecodeError, DigestError
from schemas.events import FrameCaptured, ModelRegistered, PromoteRelease, ReleaseRegistered, SnapshotTaken
from schemas.types import BlobRef, EventId, ModelFile, ReleaseStep, SourcePosition
from streams.bundle import open_bundle, verify_bundle
from streams.bundle.manifest import Manifest
from streams.bundle.segments import MOST_HEADERS, frame, items
from streams.past import Past
from streams.records import Bounds, Outgoing, Position, Record
from tests.bundles import PIPELINE, START_US, World, bundled, run_of


def held(past: Past, topic: str, partition: int = 0) -> list[int]:
    """Offsets that a bundle holds of a partition."""
    return [r.offset for r in past.log.read(topic, partition, 0, 10**9)]


def test_a_window_holds_what_was_appended_in_it(tmp_path: Path) -> None:
    """Both ends included, to the millisecond; bounds say from where on all is there."""
    world = World(partitions=1)
    for sequence in range(10):
        world.captured("gate-1", sequence)
    times = [r.appended_at_ms for r in world.log.read(FRAMES, 0, 0, 10)]
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=times[3] * 1000, to_us=times[6] * 1000)
    with open_bundle(path) as past:
        assert held(past, FRAMES) == [3, 4, 5, 6]
        assert (past.log.bounds(FRAMES, 0).earliest, past.log.bounds(FRAMES, 0).end) == (3, 7)


def test_what_caused_a_record_of_the_window_is_in_it(tmp_path: Path) -> None:
    """A frame that waited long: its result is in the window, and inference, assessment, capture and image come along."""
    world = World(partitions=1)
    frame, captured = world.captured("gate-1", 0)
    accepted = world.accepted(frame, captured)
    for sequence in range(1, 6):
        world.pass_by("gate-1", sequence)
    inferred = world.inferred(frame, accepted)
    from_us = world.now_us + 1000
    world.derived(frame, inferred)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path, from_us=from_us)
    with open_bundle(path) as past:
        assert held(past, RESULTS)[-1:] == [5]
        assert held(past, INFERENCES) == [inferred.offset]
        assert held(past, FRAMES) == [captured.offset]
        assert past.log.bounds(FRAMES, 0).earliest == 6
        assert past.log.offset_at(FRAMES, 0, 0) == 6, "what lies alone before is no part of the window"
        assert past.blobs.get(frame.blob) == b"image gate-1 0"
    assert manifest.blobs.count == 1


def test_a_dead_letter_brings_the_record_that_it_is_of(tmp_path: Path) -> None:
    """Where it lay is in its headers."""
    world = World(partitions=1)
    world.raw(Outgoing(topic=FRAMES, key=b"gate-1", value=b"rubbish", headers=()))
    from_us = world.now_us + 1000
    headers = (("hindsight_dlq_topic", FRAMES.encode()), ("hindsight_dlq_partition", b"0"), ("hindsight_dlq_offset", b"0"))
    world.raw(Outgoing(topic=DEAD_LETTERS, key=FRAMES.encode(), value=b"rubbish", headers=headers))
    wrong = (("hindsight_dlq_topic", b"x"), ("hindsight_dlq_partition", b"-1"), ("hindsight_dlq_offset", b"9" * 50))
    world.raw(Outgoing(topic=DEAD_LETTERS, key=FRAMES.encode(), value=None, headers=wrong))
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=from_us)
    with open_bundle(path) as past:
        assert held(past, DEAD_LETTERS) == [0, 1]
        assert held(past, FRAMES) == [0]


def test_causes_in_a_circle_end(tmp_path: Path) -> None:
    """Sources are what somebody wrote: two records that name each other are both brought in, once."""
    world = World(partitions=1)
    frame, _ = world.captured("gate-1", 0)
    for _ in range(2):
        world.accepted(frame, Position(topic=INFERENCES, partition=0, offset=0))
        world.inferred(frame, Position(topic=ASSESSMENTS, partition=0, offset=0))
    from_us = world.now_us + 1000
    world.derived(frame, Position(topic=INFERENCES, partition=0, offset=1))
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=from_us)
    with open_bundle(path) as past:
        assert held(past, INFERENCES) == [0, 1]


def test_a_cause_between_two_others_is_followed_too(tmp_path: Path) -> None:
    """What is found to be wanted among records that are being looked at is looked at as well."""
    world = World(partitions=1)
    frame, _ = world.captured("gate-1", 0)
    _, far = world.captured("gate-1", 1)
    accepted = world.accepted(frame, Position(topic=FRAMES, partition=0, offset=0))
    causes = {5: far, 9: Position(topic=INFERENCES, partition=0, offset=5)}
    for number in range(10):
        world.inferred(frame, causes.get(number, accepted))
    from_us = world.now_us + 1000
    for number in (1, 9):
        world.derived(frame, Position(topic=INFERENCES, partition=0, offset=number))
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=from_us)
    with open_bundle(path) as past:
        assert held(past, INFERENCES) == [1, 5, 9]
        assert held(past, FRAMES) == [0, 1]


def test_a_device_is_all_that_is_held_when_it_was_asked_for(tmp_path: Path) -> None:
    """Other devices' records leave only their places, and their images stay out."""
    world = run_of(["gate-1", "gate-2"], 5, partitions=1)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path, devices=["gate-2"])
    with open_bundle(path) as past:
        for topic in (FRAMES, ASSESSMENTS, INFERENCES, RESULTS):
            assert {r.key for r in past.log.read(topic, 0, 0, 99)} == {b"gate-2"}
            assert past.log.bounds(topic, 0) == world.log.bounds(topic, 0)
        for at_us in range(START_US, world.now_us, 500):
            for view in ("device_frames", "device_results"):
                live = view_at(world.log, world.schemas, VIEWS[view], "gate-2", at_us)
                assert view_at(past.log, past.schemas, VIEWS[view], "gate-2", at_us) == live
        with pytest.raises(ContractError, match="gate-2"):
            past.hold(device="gate-1")
    assert manifest.blobs.count == 5


def test_a_state_at_any_moment_of_the_window_is_the_live_one(tmp_path: Path) -> None:
    """With no snapshot, what came before the window is held as far as states need it."""
    world = run_of(["gate-1", "gate-2"], 12, partitions=1)
    middle_us = START_US + (world.now_us - START_US) // 2
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=middle_us, to_us=world.now_us)
    with open_bundle(path) as past:
        for at_us in range(middle_us, world.now_us + 1, 1000):
            known = [
                device_at(one.log, one.schemas, device_id="gate-1", pipeline=PIPELINE, at_us=at_us, around_s=0, scope=one.scope)
                for one in (world.past(), past)
            ]
            assert known[0] == known[1]
        assert len(held(past, INFERENCES, 0)) < len(held(past, RESULTS, 0)), "inferences are no view's, and begin at the window"


def snapshot(world: World, view: str, offset: int, *, keep: int = 3, partition: int = 0) -> BlobRef:
    """A snapshot of three pieces, of which `keep` are in the store, announced."""
    pieces = [world.blobs.put(f"{view} {offset} {n}".encode(), "x") for n in range(3)]
    named = (Piece(sha256=p.sha256, size_bytes=p.size_bytes, digest="d", keys_count=1) for p in pieces)
    manifest = manifests.Manifest(
        format=manifests.FORMAT,
        view=view,
        fold=fold_of(VIEWS[view]),
        topic=VIEWS[view].topic,
        partition=partition,
        offset=offset,
        known_from_ms=0,
        known_until_ms=1,
        last_sha256="",
        seen=Seen(),
        unreadable=0,
        keys_count=3,
        pieces=(None, *named),
        earlier=(),
        removed=(),
    )
    blob = world.blobs.put(pack(manifest), "x")
    for piece in pieces[keep:]:
        del world.blobs.contents[piece.sha256]
    taken = SnapshotTaken(
        event_id=EventId(f"{view} {offset}"),
        view=view,
        topic=VIEWS[view].topic,
        partition=partition,
        offset=offset,
        blob=blob,
        digest="d",
        keys_count=1,
        taken_at_us=world.now_us,
    )
    world.append(taken, view, 0)
    return blob


def test_states_start_from_the_newest_snapshot_that_is_whole(tmp_path: Path) -> None:
    """A topic begins at the oldest of its views' snapshots; those after the window's start or with a piece gone do not count."""
    world = World(partitions=1)
    for sequence in range(30):
        world.pass_by("gate-1", sequence)
        if sequence == 4:
            older = snapshot(world, "device_frames", 3)
        if sequence == 9:
            newest = snapshot(world, "device_frames", 8)
            other = snapshot(world, "frame_outcomes", 6)
        if sequence == 12:
            lacking = snapshot(world, "device_frames", 11, keep=1)
        if sequence == 19:
            from_us = world.now_us + 1000
    inside = snapshot(world, "device_frames", 25)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path, from_us=from_us)
    assert [(s.view, s.offset) for s in manifest.about.snapshots] == [("device_frames", 8), ("frame_outcomes", 6)]
    with open_bundle(path) as past:
        assert past.log.bounds(ASSESSMENTS, 0).earliest == 5, "and the record before it shows that it is of this log"
        assert past.log.bounds(RESULTS, 0).earliest == 0, "no snapshot is of results"
        announced = [r for r in past.log.read(MONITORING, 0, 0, 99) if r.key in (b"device_frames", b"frame_outcomes")]
        assert len(announced) == 5
        for blob in (newest, other, inside):
            content = past.blobs.get(blob)
            named = json.loads(gzip.decompress(content))["pieces"][1:]
            for piece in named:
                past.blobs.get(BlobRef(sha256=piece["sha256"], size_bytes=piece["size_bytes"], media_type="x"))
        for blob in (older, lacking):
            assert not past.blobs.exists(blob)


def test_announcements_from_before_are_held_alone(tmp_path: Path) -> None:
    """When vision.monitoring begins at a snapshot too, what announced the others lies before its earliest offset."""
    world = World(partitions=1)
    for sequence in range(6):
        world.pass_by("gate-1", sequence)
    for view in ("device_frames", "frame_outcomes", "device_results", "results_by_frame"):
        snapshot(world, view, 5)
    for _ in range(4):
        snapshot(world, "alerts", 4)
    from_us = world.now_us + 1000
    world.pass_by("gate-1", 9)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path, from_us=from_us)
    assert len(manifest.about.snapshots) == 5
    with open_bundle(path) as past:
        assert past.log.bounds(MONITORING, 0).earliest == 3
        assert held(past, MONITORING) == [0, 1, 2, 3, 4, 5, 6, 7]
        assert past.log.bounds(ASSESSMENTS, 0).earliest == 4


def test_a_missing_image_is_listed_with_the_reason(tmp_path: Path) -> None:
    """The answer about it is the store's own; one that never belonged to the bundle is told apart."""
    world = run_of(["gate-1"], 3, partitions=1)
    frame, _ = world.captured("gate-1", 7)
    changed, _ = world.captured("gate-1", 8)
    del world.blobs.contents[frame.blob.sha256]
    world.blobs.contents[changed.blob.sha256] = b"something else"
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path)
    assert (manifest.blobs.count, manifest.blobs.missing_count) == (3, 2)
    assert verify_bundle(path).whole
    with open_bundle(path) as past:
        with pytest.raises(BlobGoneError, match=f"blob {frame.blob.sha256} is not there"):
            past.blobs.get(frame.blob)
        with pytest.raises(BlobGoneError, match="were found in its place"):
            past.blobs.get(changed.blob)
        stranger = BlobRef(sha256="00" * 32, size_bytes=1, media_type="x")
        with pytest.raises(BlobGoneError, match="is not in the bundle"):
            past.blobs.get(stranger)
        with pytest.raises(DigestError):
            past.blobs.get(BlobRef(sha256="../escape", size_bytes=1, media_type="x"))
        assert [past.blobs.exists(b) for b in (frame.blob, changed.blob, stranger)] == [False, False, False]
        with pytest.raises(BundleError):
            past.blobs.put(b"x", "x")


def test_a_reference_with_a_lying_size_hides_nothing(tmp_path: Path) -> None:
    """Two frames name the same image, one with another size: the image is there, and only the true reference gets it."""
    world = World(partitions=1)
    frame, _ = world.captured("gate-1", 0)
    for size in (1, 2**62, -5):
        lying = BlobRef(sha256=frame.blob.sha256, size_bytes=size, media_type="image/jpeg")
        event = FrameCaptured(
            event_id=EventId(f"e{size}"), frame=replace(frame, blob=lying), received_at_us=world.now_us, channel="sdk"
        )
        world.append(event, "gate-1")
    path = tmp_path / "a.hsb"
    bundled(world.past(), path)
    with open_bundle(path) as past:
        assert past.blobs.get(frame.blob) == b"image gate-1 0"
        for size in (1, 2**62, -5):
            with pytest.raises(DigestError):
                past.blobs.get(BlobRef(sha256=frame.blob.sha256, size_bytes=size, media_type="x"))


def with_models(world: World) -> list[BlobRef]:
    """Two models registered, one of them pinned by a release."""
    source = SourcePosition(topic=COMMANDS, partition=0, offset=0, index=0)
    command = PromoteRelease(
        command_id=EventId("c"), pipeline=PIPELINE, release="r1", issued_by="x", reason="", issued_at_us=world.now_us
    )
    world.append(command, PIPELINE)
    refs = []
    for number, name in enumerate(("detection", "unused")):
        files = tuple(ModelFile(path=f"{n}.onnx", blob=world.blobs.put(f"weights {name} {n}".encode(), "x")) for n in range(2))
        refs += [file.blob for file in files]
        event = ModelRegistered(
            event_id=EventId(f"m{number}"),
            source=source,
            pipeline=PIPELINE,
            model=name,
            version=1,
            digest=f"digest {name}",
            files=files,
            issued_by="x",
            reason="",
            registered_at_us=world.now_us,
        )
        world.append(event, PIPELINE)
    release = ReleaseRegistered(
        event_id=EventId("r"),
        source=source,
        pipeline=PIPELINE,
        release="r1",
        steps=(ReleaseStep(step="detection", model="detection", version=1, digest="digest detection"),),
        parameters={},
        issued_by="x",
        reason="",
        registered_at_us=world.now_us,
    )
    world.append(release, PIPELINE)
    return refs


def test_models_come_along_when_they_are_asked_for(tmp_path: Path) -> None:
    """The files of the models that releases pin, though registered long before the window; else none, also of the window's."""
    world = World(partitions=1)
    refs = with_models(world)
    del world.blobs.contents[refs[1].sha256]
    from_us = world.now_us + 1000
    world.pass_by("gate-1", 0)

    def made(name: str, **how: bool) -> tuple[Manifest, list[bool]]:
        path = tmp_path / name
        manifest = bundled(world.past(), path, from_us=from_us, **how)  # type: ignore[arg-type]
        with open_bundle(path) as past:
            assert held(past, RELEASES) == [0, 1, 2]
            assert held(past, COMMANDS) == [0]
            return manifest, [past.blobs.exists(ref) for ref in refs]

    manifest, there = made("with.hsb", with_models=True)
    assert there == [True, False, False, False]
    assert [(m.model, m.files_count, m.missing_count) for m in manifest.about.models] == [("detection", 2, 1)]
    manifest, there = made("without.hsb")
    assert there == [False] * 4
    assert manifest.about.models == ()


def test_schema_ids_that_the_registry_does_not_know_are_told(tmp_path: Path) -> None:
    """A record that could not be decoded then cannot be now, for the same reason; the bundle is whole all the same."""
    world = World(partitions=1)
    world.raw(Outgoing(topic=FRAMES, key=b"gate-1", value=b"\0\0\0\x10\x01body", headers=()))
    world.captured("gate-1", 1)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path)
    assert manifest.unknown_schema_ids.ids == (4097,)
    assert verify_bundle(path).whole
    with open_bundle(path) as past, pytest.raises(DecodeError, match="4097"):
        past.schemas.schema_of(4097)


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    """Evidence is never written over; a failed attempt leaves nothing behind."""
    world = run_of(["gate-1"], 1)
    path = tmp_path / "a.hsb"
    path.write_bytes(b"mine")
    with pytest.raises(ContractError, match="is there already"):
        bundled(world.past(), path)
    assert path.read_bytes() == b"mine"

    class Failing(type(world.blobs)):  # type: ignore[misc]
        def get(self, ref: BlobRef) -> bytes:
            raise RuntimeError("the store fell over")

    with pytest.raises(RuntimeError):
        bundled(Past(log=world.log, schemas=world.schemas, blobs=Failing(), source="x"), tmp_path / "b.hsb")
    assert [p.name for p in tmp_path.iterdir()] == ["a.hsb"]


def test_the_same_past_makes_the_same_file(tmp_path: Path) -> None:
    """Byte for byte, so two people can compare theirs."""
    world = run_of(["gate-1", "gate-2"], 4)
    for name in ("a.hsb", "b.hsb"):
        bundled(world.past(), tmp_path / name)
    assert (tmp_path / "a.hsb").read_bytes() == (tmp_path / "b.hsb").read_bytes()
    with tarfile.open(tmp_path / "a.hsb") as opened:
        assert len(opened.getnames()) == len(set(opened.getnames()))


def test_a_window_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    """With a sentence, and no file."""
    with pytest.raises(ContractError, match="ends before"):
        bundled(World().past(), tmp_path / "a.hsb", from_us=5, to_us=4)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_made_of_the_live_log_only(tmp_path: Path) -> None:
    """A bundle made of one would claim to know what was left out of the first."""
    bundled(run_of(["gate-1"], 1).past(), tmp_path / "a.hsb")
    with open_bundle(tmp_path / "a.hsb") as past, pytest.raises(ContractError, match="is a bundle already"):
        bundled(past, tmp_path / "b.hsb")


def test_a_log_that_is_cut_meanwhile_is_found_out(tmp_path: Path) -> None:
    """Retention removed records between the two readings: no bundle, rather than one that claims to have them."""
    world = run_of(["gate-1"], 3, partitions=1)

    class Cut:
        def __init__(self) -> None:
            self.reads = 0

        def __getattr__(self, name: str) -> object:
            return getattr(world.log, name)

        def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
            self.reads += topic == RESULTS
            return world.log.read(topic, partition, max(start, 1) if self.reads > 1 else start, stop)

        def bounds(self, topic: str, partition: int) -> Bounds:
            found = world.log.bounds(topic, partition)
            return Bounds(earliest=1, end=found.end) if self.reads > 1 and topic == RESULTS else found

    past = Past(log=Cut(), schemas=world.schemas, blobs=world.blobs, source="x")  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="were removed while"):
        bundled(past, tmp_path / "a.hsb")
    assert list(tmp_path.iterdir()) == []


def test_states_start_from_a_snapshot_that_can_be_read(tmp_path: Path) -> None:
    """One that another version of the view made, or of which a piece is damaged, is passed over, as a look back does."""
    world = run_of(["gate-1"], 20, partitions=1)
    view, rules = VIEWS["device_frames"], Rules(every_events=5, every_ms=10**9, policy=Policy())
    ports = Ports(log=world.log, schemas=world.schemas, blobs=world.blobs, append=world.raw, clock=lambda: world.now_us)
    made = Keeper(view, 0, ports, rules).take_now()
    for sequence in range(20, 30):
        world.pass_by("gate-1", sequence)
    damaged = Keeper(view, 0, ports, rules).take_now()
    for sequence in range(30, 40):
        world.pass_by("gate-1", sequence)
    assert Keeper(replace(view, version=view.version + 1), 0, ports, rules).take_now() is not None
    assert made is not None
    assert damaged is not None
    assert damaged.pieces[0] is not None
    world.blobs.contents[damaged.pieces[0].sha256] = b"something else"
    world.pass_by("gate-1", 40)
    from_us = world.now_us + 1000
    world.pass_by("gate-1", 41)
    path = tmp_path / "a.hsb"
    manifest = bundled(world.past(), path, from_us=from_us, to_us=world.now_us)
    assert [(s.view, s.offset) for s in manifest.about.snapshots] == [("device_frames", made.offset)]
    with open_bundle(path) as past:
        reading = Snapshots(past.log, past.schemas, past.blobs)
        known = known_at(past.log, past.schemas, view, "gate-1", world.now_us, snapshots=reading)
        assert known.state == known_at(world.log, world.schemas, view, "gate-1", world.now_us).state


@pytest.mark.parametrize("devices", [None, ["gate-1"]], ids=["all", "one"])
def test_snapshots_in_a_bundle_are_sound(tmp_path: Path, devices: list[str] | None) -> None:
    """Those that were kept beside and are not in it are not called damaged, nor those different that count other devices."""
    world = World(partitions=1)
    ports = Ports(log=world.log, schemas=world.schemas, blobs=world.blobs, append=world.raw, clock=lambda: world.now_us)
    view, from_us = VIEWS["device_frames"], 0
    for sequence in range(40):
        world.pass_by("gate-1", sequence)
        world.pass_by("gate-2", sequence)
        if sequence % 8 == 7:
            keeper = Keeper(view, 0, ports, Rules(every_events=10, every_ms=10**9, policy=Policy()))
            while keeper.step() is not None:
                pass
        from_us = world.now_us if sequence == 20 else from_us
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=from_us, to_us=world.now_us, devices=devices)
    with open_bundle(path) as past:
        found = list(checking.check(view, past.log, past.schemas, past.blobs, 0, scope=past.scope))
    assert len(found) > 2
    assert all(one.is_good for one in found)
    assert (found[-1].verdict == checking.EQUAL) is (devices is None)


def test_headers_without_end_are_left_out_and_refused(tmp_path: Path) -> None:
    """Empty headers cost eight bytes that compress to nothing, and half a gigabyte once they are objects."""
    world = World(partitions=1)
    world.raw(Outgoing(topic=FRAMES, key=b"gate-1", value=b"x", headers=()))
    (record,) = world.log._records[FRAMES, 0]
    many = replace(record, headers=(("", b""),) * (MOST_HEADERS + 1))
    world.log._records[FRAMES, 0] = [replace(many, headers=many.headers[1:]), replace(many, offset=1)]
    path = tmp_path / "a.hsb"
    assert bundled(world.past(), path).about.too_long_count == 1
    with open_bundle(path) as past:
        assert held(past, FRAMES) == [0]
    with pytest.raises(BundleError, match="a record with 65537 headers"):
        list(items(frame(many), FRAMES, 0, "a segment"))
