"""Explaining: the whole lineage of a frame, by any of its ids, with what is missing said."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from processors.emit import outgoing
from processors.lookback.explain import Explanation, explain
from processors.lookback.gone import TellingBlobs
from processors.lookback.page import page, pictures_of
from processors.lookback.tree import lines, tree
from processors.rules import container_codes
from processors.step import Cause
from processors.views.alarms import Alarms
from processors.views.checking import Difference
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.errors import ContractError
from schemas.events import AlertRaised, FramesErased, ReleasePromoted, ReleaseRolledBack, RolloutJudged
from schemas.plain import to_plain
from schemas.types import EventId, SourcePosition
from streams.partitioning import partition_of
from streams.past import Past
from streams.ports import Standing
from streams.records import Bounds, Record
from tests.gate import PIPELINE, Gate

CODE, OTHER = "MSCU1234566", "CSQU3054383"


@pytest.fixture
def gate() -> Gate:
    """A passage of three frames read by r1 under a threshold that somebody changed; the second read another code."""
    made = Gate()
    made.put_in_force("r1")
    made.threshold(0.6, by="mr", reason="too much noise")
    for text in (CODE, OTHER, CODE):
        made.capture((text, 0.9), ("22G1", 0.55), passage="truck-7")
    made.process()
    return made


def explained(gate: Gate, target: str, past: Past | None = None) -> Explanation:
    return explain(past or gate.past, target, rules=container_codes)


def text(e: Explanation) -> str:
    return "\n".join(lines(tree(e, str)))


def record(gate: Gate, topic: str, offset: int) -> Record:
    partition = next(p for p in gate.log.partitions(topic) if gate.log.bounds(topic, p).end)
    return next(iter(gate.log.read(topic, partition, offset, offset + 1)))


def header(of: Record, name: str) -> str:
    return next(v.decode() for k, v in of.headers if k == name)


def test_every_event_of_a_frame_leads_to_the_same_explanation(gate: Gate) -> None:
    """By the frame's id, by the id or the position of any event on its way, the same lineage is told."""
    frame_id = header(record(gate, FRAMES, 2), "ce_correlationid")
    whole = explained(gate, frame_id)
    assert [n.event for n in (whole.frame, whole.assessment, whole.inference, whole.result) if n is not None] == [
        "FrameCaptured",
        "FrameAccepted",
        "InferenceCompleted",
        "ResultDerived",
    ]
    for topic in (FRAMES, ASSESSMENTS, INFERENCES, RESULTS):
        one = record(gate, topic, 2)
        for target in (header(one, "ce_id"), f"{topic}/{one.partition}/{one.offset}"):
            same = explained(gate, target)
            asked = {"target": whole.target, "asked_event": whole.asked_event, "asked_position": whole.asked_position}
            assert replace(same, **asked) == whole  # type: ignore[arg-type]  # three fields of three types


def test_thresholds_name_who_set_them(gate: Gate) -> None:
    """A candidate names the threshold that it fell short of, its value then, and who had set it, when and why."""
    gate.threshold(0.1, by="later", reason="must not be told")
    (left_out,) = explained(gate, header(record(gate, RESULTS, 0), "ce_id")).left_out
    assert (left_out.candidate.label, left_out.score) == ("22G1", 0.55)
    assert left_out.threshold is not None
    assert left_out.threshold.set_by is not None
    assert (left_out.threshold.in_force, left_out.threshold.sent) == (0.6, 0.6)
    assert (left_out.threshold.set_by.by, left_out.threshold.set_by.event) == ("mr", "ThresholdChanged")


def test_a_release_names_who_promoted_it_and_on_what_verdict() -> None:
    """Of two promotions and a verdict between them, the ones in force when the frame was routed are told."""
    gate = Gate()
    gate.put_in_force("r1")
    gate.register("r2", by="cy")
    position = SourcePosition(topic="vision.commands", partition=0, offset=99, index=0)
    verdict = RolloutJudged(
        event_id=position.topic,  # type: ignore[arg-type]  # any id will do
        source=position,
        pipeline=PIPELINE,
        release="r2",
        verdict="successful",
        measures={"agreement": 0.98},
        judged_at_us=gate.now_us,
    )
    cause = Cause(position=position, event_id="c", correlation_id="c", traceparent="", now_us=gate.now_us)
    gate.log.append_now(outgoing(verdict, cause=cause, source="monitor", time_us=gate.now_us, schemas=gate.schemas))
    gate.promote("r2", by="dee", reason="better at night")
    gate.loaded("r2")
    frame = gate.capture((CODE, 0.9))
    gate.process()
    release = explained(gate, frame.frame_id).release
    assert release is not None
    assert release.decided is not None
    assert release.verdict is not None
    assert release.registered is not None
    assert (release.release, release.how, release.previous) == ("r2", "promoted", "r1")
    assert (release.decided.by, release.decided.reason, release.registered.by) == ("dee", "better at night", "cy")
    assert release.verdict.content["verdict"] == "successful"
    assert [(p.model, p.version) for p in release.pins] == [("recognizer", 2)]


def test_a_passage_is_told_vote_by_vote(gate: Gate) -> None:
    """Each vote has its place in the order and on the log, and the sum is what was recorded then, not what came later."""
    second = explained(gate, header(record(gate, RESULTS, 1), "ce_id")).passage
    last = explained(gate, header(record(gate, RESULTS, 2), "ce_id")).passage
    assert second is not None
    assert last is not None
    assert [(v.number, v.label, v.position.offset, v.is_asked) for v in second.votes] == [
        (1, CODE, 0, False),
        (2, OTHER, 1, True),
    ]
    assert [(t.label, t.frames) for t in last.tally] == [(CODE, 2), (OTHER, 1)]
    assert (second.agrees, last.agrees) == (True, True)


def test_votes_that_do_not_add_up_are_said(gate: Gate) -> None:
    """Rules that vote otherwise than was recorded are noticed, and rules of another version are not asked."""

    class Silent:
        NAME, VERSION = container_codes.NAME, container_codes.VERSION
        read, passage_of, alerts = container_codes.read, container_codes.passage_of, container_codes.alerts

        @staticmethod
        def ballot(readings: object) -> None:
            return None

    class Newer(Silent):
        VERSION = 2

    target = header(record(gate, RESULTS, 2), "ce_id")
    otherwise = explain(gate.past, target, rules=Silent()).passage  # type: ignore[arg-type]  # a class stands for a module
    newer = explain(gate.past, target, rules=Newer()).passage  # type: ignore[arg-type]  # likewise
    assert otherwise is not None
    assert newer is not None
    assert otherwise.agrees is False
    assert newer.agrees is None
    assert "container_codes@1" in newer.note


@pytest.mark.parametrize("step", ["assess", "infer", "derive"])
def test_of_an_event_written_twice_the_first_counts(gate: Gate, step: str) -> None:
    """A worker that died and did its last records again leaves copies; they are named as repeats and count for nothing."""
    before = explained(gate, header(record(gate, RESULTS, 1), "ce_id"))
    gate.pass_time()
    gate.again(step, back=2)
    after = explained(gate, header(record(gate, RESULTS, 1), "ce_id"))
    part = {"assess": "assessment", "infer": "inference", "derive": "result"}[step]
    first, now = getattr(before, part), getattr(after, part)
    assert (first.position, len(first.repeats), len(now.repeats)) == (now.position, 0, 1)
    assert "does not count" in text(after)
    copy = now.repeats[0]
    assert getattr(explained(gate, str(copy)), part).position == first.position
    assert after.passage == before.passage


def test_a_frame_that_was_sent_again_is_told_by_its_first_copy(gate: Gate) -> None:
    """The device was cut off and sent its frame once more: the first copy was accepted, the other is named."""
    frame = gate.capture((CODE, 0.8), sequence=3, passage="truck-7")
    asyncio.run(gate.publisher().append(frame))
    gate.process()
    found = explained(gate, frame.frame_id)
    assert found.frame is not None
    assert found.assessment is not None
    assert (found.assessment.event, len(found.frame.repeats)) == ("FrameAccepted", 1)
    again = explained(gate, str(found.frame.repeats[0]))
    assert again.assessment == found.assessment
    assert again.result == found.result
    rejected = next(e for e in found.assessment.repeats if e.offset > found.assessment.position.offset)
    by_rejection = explained(gate, str(rejected))
    assert (by_rejection.assessment, by_rejection.result) == (found.assessment, found.result)


def test_an_alert_is_explained_with_what_cleared_it() -> None:
    """By its own id and by its event's: the frame that raised it, and the later event that cleared it."""
    gate = Gate()
    gate.put_in_force()
    for _ in range(3):
        gate.capture(passage="p")
    gate.process()
    raised = record(gate, MONITORING, 0)
    gate.capture((CODE, 0.9), passage="p")
    gate.process()
    by_event = explained(gate, header(raised, "ce_id"))
    alert_id = by_event.alerts[0].content["alert_id"]
    by_alert = explain(gate.past, alert_id, device="gate-1", at_us=gate.now_us)
    assert [n.event for n in by_event.alerts] == ["AlertRaised", "AlertCleared"]
    assert by_event.frame_ref.sequence == 2
    assert by_alert.alerts == by_event.alerts or by_alert.frame_ref.sequence == 3
    assert AlertRaised.__name__ in text(by_event)


class Trimmed:
    """A log of which the first records of one topic are gone, as retention or a bundle's window leave it."""

    def __init__(self, gate: Gate, topic: str, earliest: int, holes: frozenset[int] = frozenset()) -> None:
        self._log, self._topic, self._earliest, self._holes = gate.log, topic, earliest, holes

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def bounds(self, topic: str, partition: int) -> Bounds:
        found = self._log.bounds(topic, partition)
        return Bounds(earliest=min(self._earliest, found.end), end=found.end) if topic == self._topic else found

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        for one in self._log.read(topic, partition, start, stop):
            if topic != self._topic or (one.offset >= self._earliest and one.offset not in self._holes):
                yield one


@pytest.mark.parametrize(
    ("topic", "part"), [(FRAMES, "frame"), (ASSESSMENTS, "assessment"), (INFERENCES, "inference"), (RESULTS, "result")]
)
@pytest.mark.parametrize("hole", [False, True])
def test_what_is_not_kept_is_said_in_its_place(gate: Gate, topic: str, part: str, hole: bool) -> None:
    """Where a topic's records are gone, by retention or as a hole in a bundle, the rest is told and the part named."""
    target = header(record(gate, RESULTS if topic != RESULTS else INFERENCES, 2), "ce_id")
    log = Trimmed(gate, topic, 0 if hole else 3, frozenset({2}) if hole else frozenset())
    found = explained(gate, target, replace(gate.past, log=log, source="incident.hsb"))  # type: ignore[arg-type]  # a wrapper
    assert getattr(found, part) is None
    (why,) = [m.why for m in found.missing if m.part == part]
    assert ("is kept from offset 3 on" in why) is not hole
    assert found.frame_ref.sequence == 2
    assert "missing" in text(found)
    others = {"frame", "assessment", "inference", "result"} - {part}
    assert all(getattr(found, o) is not None for o in others if o != "assessment" or part != "inference")


def test_a_frame_that_waits_says_how_far_it_came() -> None:
    """Accepted and not yet inferred is something else than not kept."""
    gate = Gate()
    frame = gate.capture((CODE, 0.9))
    gate.process("assess")
    found = explained(gate, frame.frame_id)
    assert found.assessment is not None
    assert [m.part for m in found.missing] == ["inference"]
    assert "up to its end" in found.missing[0].why


def test_refused_rejected_skipped_and_failed_frames_are_explained() -> None:
    """Whatever became of a frame, its lineage ends with the event that says why."""
    gate = Gate()
    skipped = gate.capture((CODE, 0.9))
    gate.process()
    gate.put_in_force()
    refused = gate.refuse("too_large")
    rejected = gate.capture(image=b"not an image")
    failed = gate.capture((CODE, 0.9))
    gate.reader.broken.add(gate.blobs.get(failed.blob))
    gate.process()
    from schemas import ids

    refused_id = ids.frame_id(refused.device_id, refused.session_id, refused.sequence)
    assert "refused: too_large" in text(explained(gate, refused_id))
    assert "rejected: not_an_image" in text(explained(gate, rejected.frame_id))
    assert "skipped: no_release_in_force" in text(explained(gate, skipped.frame_id))
    told = explained(gate, failed.frame_id)
    assert "failed: step_failed in recognizer: out of memory" in text(told)
    assert [d.processor for d in told.dead_letters] == ["infer"]


def test_an_unknown_id_is_refused_with_what_was_looked_at(gate: Gate) -> None:
    """No guess: an id that is nowhere, a position that is not kept, and a record of no frame each get a clear answer."""
    with pytest.raises(ContractError, match="was not found"):
        explained(gate, "no-such-id")
    with pytest.raises(ContractError, match="keeps offsets"):
        explained(gate, "vision.results/0/4711")
    with pytest.raises(ContractError, match="belongs to no frame"):
        explained(gate, "vision.releases/0/0")


def test_text_of_others_cannot_steer_a_terminal() -> None:
    """Escape sequences and signs that turn the writing direction are written out."""
    gate = Gate()
    gate.put_in_force()
    frame = gate.capture(("\x1b[2J\u202eEVIL", 0.9), labels={"\x1b]0;x\x07": "\r\nforged line"})
    gate.process()
    told = text(explained(gate, frame.frame_id))
    assert not {"\x1b", "\u202e", "\x07", "\r"} & set(told)
    assert "\\x1b[2J\\u202eEVIL" in told
    assert not any(line.startswith("forged") for line in told.splitlines())


def test_the_json_shape_holds(gate: Gate) -> None:
    """The names that programs rely on; one that goes breaks them."""
    plain = to_plain(explained(gate, header(record(gate, RESULTS, 0), "ce_id")))
    assert list(plain) == [
        "source", "target", "asked_event", "asked_position", "frame_ref", "trace_ids", "frame", "assessment", "inference",
        "release", "steps", "left_out", "result", "passage", "corrections", "alerts", "dead_letters", "missing",
        "blob_gone",
    ]  # fmt: skip
    node = ["event", "event_id", "position", "written_by", "trace_id", "repeats", "content"]
    assert [list(plain[part]) for part in ("frame", "assessment", "inference", "result")] == [node] * 4
    assert list(plain["result"]["position"]) == ["topic", "partition", "offset", "appended_at_us"]
    assert list(plain["passage"]) == ["passage_id", "rules", "recorded", "votes", "tally", "agrees", "note"]
    assert list(plain["left_out"][0]["threshold"]) == ["name", "sent", "in_force", "set_by"]
    assert list(plain["steps"][0]) == ["ran", "pinned", "as_pinned"]


def test_a_frame_that_another_partitioner_placed_is_followed() -> None:
    """A sender with another hash puts frames elsewhere; what follows lies by its key, and both ways are found."""
    gate = Gate(partitions=4)
    gate.put_in_force()
    elsewhere = next(p for p in range(4) if p != partition_of(b"gate-1", 4))
    gate.displaced = elsewhere
    frame = gate.capture((CODE, 0.9), passage="p")
    gate.process()
    found = explained(gate, frame.frame_id)
    assert found.frame is not None
    assert found.result is not None
    assert (found.frame.position.partition, found.result.position.partition) == (elsewhere, partition_of(b"gate-1", 4))
    assert found.missing == ()
    for target in (str(found.frame.position), found.result.event_id):
        assert explain(gate.past, target, rules=container_codes, device="gate-1").result == found.result


@pytest.mark.parametrize("topic", [FRAMES, ASSESSMENTS, INFERENCES])
def test_a_record_that_cannot_be_read_stops_nothing(topic: str) -> None:
    """Its place in the tree and on the page says why; the rest is told."""
    gate = Gate(partitions=1)
    gate.put_in_force()
    gate.capture((CODE, 0.9), passage="p")
    gate.process()
    damaged = Damaged(gate.log, topic)
    past = replace(gate.past, log=damaged)  # type: ignore[arg-type]  # it is a log by its methods
    found = explained(gate, "vision.results/0/0", past)
    assert "cannot be read: schema id" in text(found)
    assert "Cannot be read" in page(found, pictures_of(past, found), str)


class Damaged:
    """A log in which every value of one topic is garbage."""

    def __init__(self, log: Any, topic: str) -> None:
        self._log = log
        self._topic = topic

    def read(self, topic: str, *span: int) -> Iterator[Record]:
        for one in self._log.read(topic, *span):
            yield replace(one, value=b"\0garbage") if topic == self._topic else one

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_an_alert_that_no_frame_raised_is_not_told_as_one_of_a_frame(gate: Gate) -> None:
    """A check of a view names the last record that the view reflected: that frame has nothing to do with it."""
    alarms = Alarms(log=gate.log, appender=gate, schemas=gate.schemas, clock=lambda: gate.now_us)
    held, wanted = (Standing(position=2, digest=digest * 16, keys_count=1) for digest in ("ab", "cd"))
    difference = Difference(
        view="device_results", partition=partition_of(b"gate-1", 2), held=held, wanted=wanted, keys=("gate-1",), what="state"
    )
    raised = asyncio.run(alarms.raise_alert(difference, INFERENCES, "the view differs", severity="critical"))
    asyncio.run(alarms.clear(raised, "device_results", "rebuilt"))
    partition = partition_of(raised.subject.encode(), 2)
    cleared_at = gate.log.bounds(MONITORING, partition).end - 1
    for offset, said in ((cleared_at - 1, "the view differs"), (cleared_at, "view_differs cleared: rebuilt")):
        with pytest.raises(ContractError, match=f"view/device_results/.*no frame raised: {said}"):
            explained(gate, f"{MONITORING}/{partition}/{offset}")
    with pytest.raises(ContractError, match="no frame raised"):
        explained(gate, raised.alert_id)


def test_a_frame_whose_bytes_were_erased_names_the_order(gate: Gate) -> None:
    """In the tree and in JSON, and not only where the page's picture would be."""
    frame = gate.capture((CODE, 0.9))
    gate.process()
    source = SourcePosition(topic="vision.commands", partition=0, offset=0, index=0)
    erased = FramesErased(
        event_id=EventId("erased"),
        source=source,
        order_id="GDPR-17",
        device_id=frame.device_id,
        captured_from_us=frame.captured_at_us,
        captured_to_us=frame.captured_at_us + 1,
        frames_count=1,
        frames_offsets=(9, 9),
        key_ids=(),
        encrypted_count=0,
        kept_sha256=(),
        kept_count=0,
        derived_counts={},
        derived_digest="",
        ordered_at_us=gate.now_us,
        removed_count=1,
        issued_by="kim",
        reason="subject request",
        erased_at_us=gate.now_us,
    )
    cause = Cause(position=source, event_id="c", correlation_id="c", traceparent="", now_us=gate.now_us)
    gate.log.append_now(outgoing(erased, cause=cause, source="erase", time_us=gate.now_us, schemas=gate.schemas))
    gate.blobs.discard(frame.blob)
    past = replace(gate.past, blobs=TellingBlobs(gate.blobs, gate.log, gate.schemas))
    found = explained(gate, frame.frame_id, past)
    assert "erased by order GDPR-17" in found.blob_gone
    assert "blob gone:" in text(found)
    assert explained(gate, header(record(gate, RESULTS, 0), "ce_id"), past).blob_gone == ""


def test_a_rollback_rests_on_the_verdict_about_what_was_rolled_back() -> None:
    """An older verdict about the release that came back was another decision's, and a promotion by hand has none."""
    gate = Gate()
    gate.put_in_force("r1")
    judge(gate, "r1", "successful", 90)
    gate.register("r2")
    for release in ("r2", "r1", "r2"):
        gate.promote(release)
        gate.loaded(release)
    judge(gate, "r2", "failed", 91)
    back = ReleaseRolledBack(**decided(92), release="r1", previous_release="r2", rolled_back_at_us=gate.now_us)
    append(gate, back)
    frame = gate.capture((CODE, 0.9))
    gate.process()
    release = explained(gate, frame.frame_id).release
    assert release is not None
    assert (release.how, release.release) == ("rolled_back", "r1")
    assert release.verdict is not None
    assert (release.verdict.content["release"], release.verdict.content["verdict"]) == ("r2", "failed")
    append(gate, ReleasePromoted(**decided(93), release="r2", previous_release="r1", promoted_at_us=gate.now_us))
    frame = gate.capture((OTHER, 0.9))
    gate.process()
    assert "on no recorded verdict" in text(explained(gate, frame.frame_id))


def decided(offset: int) -> dict[str, Any]:
    position = SourcePosition(topic="vision.commands", partition=0, offset=offset, index=0)
    who = {"issued_by": "ana", "reason": "by hand"}
    return {"event_id": EventId(str(offset)), "source": position, "pipeline": PIPELINE, **who}


def judge(gate: Gate, release: str, verdict: str, offset: int) -> None:
    fields = {name: value for name, value in decided(offset).items() if name not in ("issued_by", "reason")}
    append(
        gate, RolloutJudged(**fields, release=release, verdict=verdict, measures={}, judged_at_us=gate.now_us), writer="monitor"
    )


def append(gate: Gate, event: Any, *, writer: str = "release") -> None:
    cause = Cause(position=event.source, event_id="c", correlation_id="c", traceparent="", now_us=gate.now_us)
    gate.log.append_now(outgoing(event, cause=cause, source=writer, time_us=gate.now_us, schemas=gate.schemas))
