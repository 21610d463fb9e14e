"""What must be true of a world that converged. Each check gives sentences about what is not."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from processors.aside import ASIDE_KEY
from processors.emit import key_of
from processors.release.routing import CANDIDATE, share_of, unit_of
from processors.release.state import Rollout
from processors.views.catalogue import VIEWS, View
from processors.views.upkeep import check, rebuild
from schemas.catalogue import ASSESSMENTS, CANDIDATES, DEAD_LETTERS, ERASURES, FRAMES, INFERENCES, RELEASES, TOPICS
from schemas.codec import decode
from schemas.errors import ContractError
from schemas.events import (
    FrameAccepted,
    FrameCaptured,
    FrameRejected,
    FramesDropped,
    FramesErased,
    InferenceCompleted,
    InferenceSkipped,
    ReleaseRegistered,
)
from schemas.plain import from_plain
from streams.partitioning import partition_of
from streams.records import Record
from tests.simulation.edge import SESSION
from tests.simulation.serving import Following
from tests.simulation.world import PIPELINE, World


async def troubles(world: World) -> list[str]:
    """Everything that is wrong; empty when all is well."""
    if not world.settled():
        return [f"stuck: {where}" for where in _unsettled(world)] + [f"stopped: {e!r}" for e in world.failures]
    return [
        *(f"stopped: {error!r}" for error in world.failures),
        *(f"position went back: {what}" for what in world.watch.went_back),
        *_one_id_a_source(world),
        *_what_follows_lies_by_its_key(world),
        *_garbage_is_kept(world),
        *_only_what_is_pinned_reads(world),
        *_who_read_was_to_read(world),
        *_what_was_erased_is_gone(world),
        *_what_the_spool_took_arrived(world),
        *[t async for t in _views_equal_log(world)],
        *[t async for t in _states_equal_log(world)],
        *[t async for t in _each_frame_once(world)],
    ]


def digest(world: World) -> str:
    """sha256 over every record's place and value, so over every id: equal runs have equal digests."""
    out = hashlib.sha256()
    for topic in sorted(TOPICS):
        for record in _records(world, topic):
            out.update(f"{topic}/{record.partition}/{record.offset}/".encode() + (record.value or b""))
    return out.hexdigest()


async def _each_frame_once(world: World) -> Any:
    """Counted from ids alone, so that it does not rest on what it checks: the dropping of repeats by source."""
    accepted, rejected = _first_outcomes(world)
    outcomes = await _all_states(world, VIEWS["frame_outcomes"])
    results = await _all_states(world, VIEWS["results_by_frame"])
    for frame_id in sorted(world.sent.frames):
        if (frame_id in accepted) + (frame_id in rejected) != 1:
            yield f"frame {frame_id}: accepted {frame_id in accepted}, rejected {frame_id in rejected}"
        if frame_id not in outcomes or not outcomes[frame_id].status:
            yield f"frame {frame_id} has no outcome in the view"
        counted = results[frame_id].counted if frame_id in results else 0
        if counted != (frame_id in accepted):
            yield f"frame {frame_id} has {counted} counted results"
    by_device: Counter[str] = Counter(accepted.values())
    for device, state in (await _all_states(world, VIEWS["device_frames"])).items():
        if state.accepted_count != by_device[device]:
            yield f"{device}: {state.accepted_count} accepted in the view, {by_device[device]} on the log"


def _first_outcomes(world: World) -> tuple[dict[str, str], dict[str, str]]:
    """Frames by what was first said of them; the order on the log decides, as it does for every reader."""
    accepted: dict[str, str] = {}
    rejected: dict[str, str] = {}
    by_source: set[tuple[int, int]] = set()
    for _, event in _events(world, ASSESSMENTS):
        if event.source is not None:
            if (event.source.partition, event.source.offset) in by_source:
                continue
            by_source.add((event.source.partition, event.source.offset))
        frame = event.frame
        match event:
            case FrameAccepted():
                accepted[frame.frame_id] = frame.device_id
            case FrameRejected() if "repeated" not in event.reasons:
                rejected[frame.frame_id] = frame.device_id
    return accepted, rejected


async def _views_equal_log(world: World) -> Any:
    for view in (view for name, view in VIEWS.items() if name in world.groups):
        async for trouble in _equal(world, view):
            yield trouble


async def _states_equal_log(world: World) -> Any:
    """What the deciding steps keep is a fold of their input too."""
    for (name, partition), owners in sorted(world.owners.items()):
        step = owners[0].step
        if name not in VIEWS and partition == 0:
            view = View(name=name, topic=step.topic, initial=step.initial, key=step.key, fold=step.fold)
            async for trouble in _equal(world, view):
                yield trouble


async def _equal(world: World, view: View[Any]) -> Any:
    for partition in world.log.partitions(view.topic):
        end = world.log.bounds(view.topic, partition).end
        found = await check(view, world.log, world.views, world.schemas, partition)
        if found.equal and found.position < end and world.watch.flushes:  # no record since: `hindsight views rebuild`
            await rebuild(view, world.log, world.views, world.schemas, partition)
            found = await check(view, world.log, world.views, world.schemas, partition)
        # What a step came past without counting it lies beside its states; a fold of the log has no such thing.
        if not found.equal and set(found.different_keys) != {ASIDE_KEY}:
            yield f"{view.name} {partition} is not the fold of its log: {found.different_keys}"
        if found.position != end:
            yield f"{view.name} {partition} stands at {found.position} of {end}"


async def _all_states(world: World, view: View[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for partition in world.log.partitions(view.topic):
        stored = await world.views.load_all(view.name, partition)
        out |= {k: from_plain(view.state_type, json.loads(v)) for k, v in stored.states.items() if not k.startswith("@")}
    return out


def _one_id_a_source(world: World) -> Iterator[str]:
    ids: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    for topic in TOPICS:
        for _, event in _events(world, topic):
            if getattr(event, "source", None) is not None:
                ids[topic, type(event).__name__, event.source].add(event.event_id)
    yield from (f"{source} has {len(found)} ids" for source, found in ids.items() if len(found) > 1)


def _what_follows_lies_by_its_key(world: World) -> Iterator[str]:
    for topic in (name for name, one in TOPICS.items() if one.chained and name != FRAMES):
        count = len(world.log.partitions(topic))
        for record, event in _events(world, topic):
            if record.partition != partition_of(key_of(event).encode(), count):
                yield f"{topic}/{record.partition}/{record.offset} lies where its key does not say"


def _garbage_is_kept(world: World) -> Iterator[str]:
    kept = {record.value for record in _records(world, DEAD_LETTERS)}
    yield from (f"{value!r} is not among the dead letters" for value in world.sent.garbage if value not in kept)


def _only_what_is_pinned_reads(world: World) -> Iterator[str]:
    registered = [event for _, event in _events(world, RELEASES) if isinstance(event, ReleaseRegistered)]
    pinned = {(event.release, step.step, step.digest) for event in registered for step in event.steps}
    for record, event in _events(world, INFERENCES):
        read = [(event.release, s.step, s.digest) for s in event.steps] if isinstance(event, InferenceCompleted) else []
        if not pinned.issuperset(read):
            yield f"inferences/{record.partition}/{record.offset} was read by what its release does not pin"


def _who_read_was_to_read(world: World) -> Iterator[str]:
    """Each answer is by the release that vision.releases had in force at the offset that the answer names, or had on trial."""
    follow = Following(world.log, world.schemas, PIPELINE)
    starts = [record.appended_at_ms for record in _records(world, RELEASES)]
    for topic in (INFERENCES, CANDIDATES):
        for record, event in _events(world, topic):
            place, offset = f"{topic}/{record.partition}/{record.offset}", event.releases_offset
            if offset > len(starts) or (offset and starts[offset - 1] > record.appended_at_ms):
                yield f"{place} rests on releases that were not yet known"
                continue
            state = follow.at(offset)
            if topic == CANDIDATES:
                wrong = not _is_of_trial(state.rollout, event)
            elif isinstance(event, InferenceSkipped):  # nobody read it, and whose turn it would have been is not said
                wrong = event.release not in (state.in_force, state.rollout.release if state.rollout is not None else None)
            elif event.rollout is not None and event.rollout.arm == CANDIDATE:
                wrong = not _is_of_trial(state.rollout, event) or not _is_of_share(state.rollout, event)
            else:
                wrong = event.release != state.in_force
            if wrong:
                yield f"{place} was read by {event.release}, which was not to read it"


def _what_the_spool_took_arrived(world: World) -> Iterator[str]:
    """Every number that the spool gave out is on the log: as a frame, or told to be given up, and not both."""
    if world.edge is None:
        return
    captured: set[int] = set()
    dropped: set[int] = set()
    for _, event in _events(world, FRAMES):
        if isinstance(event, FrameCaptured) and event.frame.session_id == SESSION:
            captured.add(event.frame.sequence)
        elif isinstance(event, FramesDropped) and event.session_id == SESSION:
            dropped |= set(range(event.first_sequence, event.last_sequence + 1))
    for sequence in range(world.edge.offered):
        if (sequence in captured) + (sequence in dropped) != 1:
            yield f"frame {sequence} of the spool: on the log {sequence in captured}, told to be given up {sequence in dropped}"


def _is_of_trial(rollout: Rollout | None, event: Any) -> bool:
    return rollout is not None and (rollout.rollout_id, rollout.release) == (event.rollout.rollout_id, event.release)


def _is_of_share(rollout: Rollout | None, event: Any) -> bool:
    return rollout is not None and share_of(rollout.rollout_id, unit_of(rollout, event.frame)) < rollout.percent


def _what_was_erased_is_gone(world: World) -> Iterator[str]:
    """No bytes of frames that an order covered can be read, but those that a frame beside or after it names as well."""
    frames = [(record, event.frame) for record, event in _events(world, FRAMES) if isinstance(event, FrameCaptured)]
    for _, order in _events(world, ERASURES):
        if not isinstance(order, FramesErased):
            continue
        stops = order.frames_offsets
        covered, named = set(), set(order.kept_sha256)
        for record, frame in frames:
            in_span = order.captured_from_us <= frame.captured_at_us < order.captured_to_us
            is_covered = frame.device_id == order.device_id and in_span and record.offset < stops[record.partition]
            (covered if is_covered else named).add(frame.blob.sha256)
        yield from (
            f"{sha256} was erased and can be read" for sha256 in sorted(covered - named) if sha256 in world.blobs.contents
        )


def _events(world: World, topic: str) -> list[tuple[Record, Any]]:
    """All that can be decoded of a topic, decoded once a world: nothing is appended any more."""
    if topic not in world.decoded:
        world.decoded[topic] = list(_decoded(world, topic))
    return world.decoded[topic]


def _decoded(world: World, topic: str) -> Iterator[tuple[Record, Any]]:
    for record in _records(world, topic):
        try:
            yield record, decode(record.value, topic, world.schemas)
        except ContractError:
            continue


def _records(world: World, topic: str) -> Iterator[Record]:
    for partition in world.log.partitions(topic):
        yield from world.log.read(topic, partition, 0, world.log.bounds(topic, partition).end)


def _unsettled(world: World) -> Iterator[str]:
    for (name, partition), owners in sorted(world.owners.items()):
        end = world.log.bounds(owners[0].step.topic, partition).end if owners else "?"
        committed = world.groups[name].committed[partition]
        if committed != end:
            yield f"{name} {partition} at {committed} of {end}"
