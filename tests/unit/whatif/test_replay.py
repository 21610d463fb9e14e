"""whatif: a window through another release or other parameters, in memory, from the log to the page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from processors.emit import outgoing
from processors.infer import core as infer
from processors.lookback.releases import ReleaseHistory
from processors.rules import container_codes as rules
from processors.whatif.match import Kind
from processors.whatif.page import page
from processors.whatif.replay import FrameCompared, Question, WhatIf
from processors.whatif.tally import Tally
from schemas import ids
from schemas.codec import FixedSchemas
from schemas.errors import BlobGoneError, ContractError, StepFailedError
from schemas.events import InferenceSkipped, ReleasePromoted, ReleaseRegistered, ThresholdChanged
from schemas.types import BlobRef, EventId, ReleaseStep
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from streams.ports import Answer, BlobScope, Form
from streams.records import Outgoing, Position
from tests.given import AT_US, accepted, cause, seen_text
from tests.models_twin import Script, TwinModels, answer

OLD = (ReleaseStep(step="read", model="read", version=1, digest="old"),)
NEW = (ReleaseStep(step="read", model="read", version=2, digest="new"),)
GOOD, BAD = "CSQU3054383", "MSKU0000001"
HOUR_US = 3600_000_000


def picture(number: int) -> bytes:
    image = np.full((60, 200, 3), number * 9 % 256, np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


class RecordingLog(MemoryLog):
    """Keeps what is appended while it is watched."""

    written: list[Outgoing] | None = None

    def append_now(self, outgoing: Outgoing) -> Position:
        if self.written is not None:
            self.written.append(outgoing)
        return super().append_now(outgoing)


class RecordingBlobs(MemoryBlobStore):
    """Keeps what is stored while it is watched."""

    written: list[bytes] | None = None

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        if self.written is not None:
            self.written.append(content)
        return super().put(content, media_type)


class World:
    """A log of one device, read by `old`; `new` is registered and never promoted. A frame a second."""

    def __init__(self, old: Mapping[int, tuple[str, ...]], new: Mapping[int, tuple[str, ...]]) -> None:
        self.now_us = AT_US
        self.log = RecordingLog(lambda: self.now_us, partitions=1)
        self.blobs = RecordingBlobs()
        self.past = Past(log=self.log, schemas=FixedSchemas(), blobs=self.blobs, source="a test")
        self.models = TwinModels({"old": self.script(old, OLD), "new": self.script(new, NEW)})
        self.says: dict[bytes, int] = {}
        for offset, (release, steps) in enumerate((("r1", OLD), ("r2", NEW))):
            self.put(
                ReleaseRegistered(
                    event_id=EventId(f"{offset}"),
                    source=cause(offset, "vision.commands").position,
                    pipeline="gate",
                    release=release,
                    steps=steps,
                    parameters={"text_confidence": 0.5 + offset / 10},
                    issued_by="me",
                    reason="",
                    registered_at_us=AT_US,
                ),
                offset,
            )
        for number in range(len(old)):
            self.frame(number)

    def script(self, texts: Mapping[int, tuple[str, ...]], steps: tuple[ReleaseStep, ...]) -> Script:
        """Reads a text with the confidence 0.9; below `text_confidence` it is left out."""

        def read(image: bytes, parameters: Mapping[str, float], form: Form) -> Answer:
            said = texts[self.says[image]]
            if said == ("fail",):
                raise StepFailedError("step read (model read version 2): no", step="read")
            seen = [seen_text(t, index=i, at=(0, 30 * i)) for i, t in enumerate(said) if parameters["text_confidence"] <= 0.9]
            return answer(*seen, steps=steps, outputs={"read": "x"}, runtime={})

        return read

    def put(self, event: Any, offset: int, topic: str = "vision.commands") -> None:
        made = outgoing(
            event,
            cause=replace(cause(offset, topic), correlation_id=(getattr(event, "frame", None) and event.frame.frame_id) or "c"),
            source="infer" if topic == "vision.assessments" else "release",
            time_us=self.now_us,
            schemas=self.past.schemas,
        )
        self.log.append_now(made)

    def frame(self, number: int, *, release: str = "r1") -> None:
        self.now_us = AT_US + number * 1_000_000
        image = picture(number)
        self.says[image] = number
        event = accepted(number, passage=f"p{number // 4}")
        event = replace(event, frame=replace(event.frame, blob=self.blobs.put(image, "image/png")))
        route = infer.Route(release=release, parameters={"text_confidence": 0.5}, releases_offset=1, pins={})
        said = self.models.reader(OLD, Form(threads=1)).read(image, route.parameters)
        called = infer.Called(endpoint="e", attempts=1, started_at_us=AT_US, duration_us=1)
        outcome = infer.Answered(route=route, called=called, result_json=said.result_json, report_json=said.report_json)
        self.put(infer.decide("gate", event, outcome, cause(number, "vision.assessments")), number, "vision.assessments")

    def ask(self, question: Question, *, from_us: int = AT_US, to_us: int = AT_US + HOUR_US) -> tuple[list[FrameCompared], Tally]:
        """Ask, with every port watched for writes."""
        self.log.written, self.blobs.written = [], []
        asked = WhatIf(self.past, self.models, ReleaseHistory(self.past, "gate"), rules, question)
        frames, tally = list(asked.frames(from_us, to_us)), Tally(cases=3)
        for frame in frames:
            tally.count(frame)
        tally.finish()
        assert (self.log.written, self.blobs.written) == ([], []), "a question wrote something"
        self.log.written = self.blobs.written = None
        return frames, tally


def kinds(frames: list[FrameCompared]) -> list[list[Kind]]:
    return [[c.kind for c in f.changes] for f in frames]


def test_another_release_is_told_apart_frame_by_frame() -> None:
    """Gained, lost, changed and the same, with the proofs of both sides; and nothing is written."""
    world = World(
        {0: (GOOD,), 1: (GOOD,), 2: (GOOD,), 3: ()},
        {0: (GOOD,), 1: (BAD,), 2: (), 3: (GOOD,)},
    )
    frames, tally = world.ask(Question(release="r2"))
    assert kinds(frames) == [[Kind.SAME], [Kind.CHANGED], [Kind.LOST], [Kind.GAINED]]
    plain = tally.as_plain()
    assert plain["agreement"]["frames"]["count"] == 1
    assert plain["readings"] == {"same": 1, "moved": 0, "changed": 1, "lost": 1, "gained": 1}
    assert [plain["proofs"][s]["readings"]["count"] for s in ("recorded", "whatif")] == [3, 2]
    assert [plain["proofs"][s]["readings"]["of"] for s in ("recorded", "whatif")] == [3, 3]
    assert plain["proofs"]["whatif"]["passages"]["count"] == 1
    assert [f.found.event.frame.sequence for f in tally.worst] == [1, 2, 3], "the worst first, what got better last"
    assert frames[1].other is not None
    assert frames[1].other.result.release == "r2"


def test_another_threshold_is_given_to_the_models_that_read_then() -> None:
    """Without a release the frame's own models read again, with its own parameters but for the one in question."""
    world = World({0: (GOOD,), 1: (GOOD,)}, {})
    frames, _ = world.ask(Question(release=None, thresholds={"text_confidence": 0.95}))
    assert kinds(frames) == [[Kind.LOST], [Kind.LOST]]
    assert world.models.asked[-1][1] == {"text_confidence": 0.95}
    frames, _ = world.ask(Question(release=None, thresholds={"text_confidence": 0.8}))
    assert kinds(frames) == [[Kind.SAME], [Kind.SAME]]


def test_a_release_is_asked_with_its_own_parameters_and_those_changed_by_hand_by_then() -> None:
    """As the router would have: a change by hand holds over the release's own, from its position on."""
    world = World({0: (GOOD,)}, dict.fromkeys(range(2), (GOOD,)))
    where = cause(9, "vision.commands").position
    changed = ThresholdChanged(
        event_id=EventId("t"),
        source=where,
        pipeline="gate",
        name="text_confidence",
        value=0.7,
        issued_by="me",
        reason="",
        changed_at_us=AT_US,
    )
    world.put(changed, 9)
    world.ask(Question(release="r2"))
    assert world.models.asked[-1][1] == {"text_confidence": 0.6}, "the change came later than the frame"
    history = ReleaseHistory(world.past, "gate")
    assert history.at(2).parameters == {}
    assert history.at(3).parameters == history.now().parameters == {"text_confidence": 0.7}


def test_counterfactual_alerts_are_told() -> None:
    """A release that reads no code raises the passage's alert that was not raised, and the other way round."""
    world = World(dict.fromkeys(range(4), (GOOD,)), dict.fromkeys(range(4), ()))
    _, tally = world.ask(Question(release="r2"))
    (alert,) = tally.alerts("gained")
    assert (alert.kind, alert.passage_id, tally.alerts("lost")) == ("unreadable_code", "p0", ())
    world = World(dict.fromkeys(range(4), ()), dict.fromkeys(range(4), (GOOD,)))
    _, tally = world.ask(Question(release="r2"))
    assert (len(tally.alerts("lost")), tally.alerts("gained")) == (1, ())
    world = World(dict.fromkeys(range(4), ()), dict.fromkeys(range(4), ()))
    _, tally = world.ask(Question(release="r2"))
    assert (tally.alerts_on_both, tally.alerts("lost"), tally.alerts("gained")) == (1, (), ())


def test_a_passage_that_began_before_the_window_has_its_votes_from_then() -> None:
    """The window starts in the middle of a passage: both sides know its earlier frames."""
    world = World({n: (GOOD,) if n < 2 else () for n in range(4)}, dict.fromkeys(range(4), ()))
    frames, _ = world.ask(Question(release="r2"), from_us=AT_US + 2_000_000)
    assert [f.found.event.frame.sequence for f in frames] == [2, 3]
    for side in (frames[-1].actual, frames[-1].other):
        assert side is not None
        assert side.result.conclusion is not None
        assert (side.result.conclusion.label, side.result.conclusion.frames_count) == (GOOD, 4)


def test_a_frame_whose_image_is_gone_counts_on_neither_side() -> None:
    """It is counted as not read, with the store's own words."""
    world = World(dict.fromkeys(range(3), (GOOD,)), dict.fromkeys(range(3), (GOOD,)))
    del world.blobs.contents[next(iter(world.blobs.contents))]
    frames, tally = world.ask(Question(release="r2"))
    assert [bool(f.problem) for f in frames] == [True, False, False]
    assert (tally.frames, sum(tally.problems.values())) == (2, 1)


def test_a_frame_of_a_release_that_nobody_knows_stops_no_report() -> None:
    """It is counted as not read, and the others are compared."""
    said = {0: (GOOD,), 1: (GOOD,)}
    world = World(said, said)
    said[2] = (GOOD,)
    world.frame(2, release="r9")
    frames, tally = world.ask(Question(release=None, thresholds={"text_confidence": 0.6}))
    assert ["r9" in f.problem for f in frames] == [False, False, True]
    assert (tally.frames, sum(tally.problems.values())) == (2, 1)


def test_a_step_that_fails_is_a_failed_result_and_not_an_error() -> None:
    """As it would have been live."""
    world = World({0: (GOOD,), 1: (GOOD,)}, {0: (GOOD,), 1: ("fail",)})
    frames, tally = world.ask(Question(release="r2"))
    assert frames[1].other is not None
    assert (frames[1].other.result.outcome, kinds(frames)[1]) == ("failed", [Kind.LOST])
    assert "step_failed in read" in frames[1].other.result.detail
    assert tally.worst[0].found.event.frame.sequence == 1


def test_a_frame_that_no_release_read_is_read_by_the_one_in_question() -> None:
    """Skipped for want of a release: another release would have read it; without one it stays skipped."""
    world = World({0: (GOOD,)}, {0: (GOOD,), 1: (GOOD,)})
    image = picture(1)
    world.says[image] = 1
    frame = replace(accepted(1).frame, blob=world.blobs.put(image, "image/png"))
    where = cause(1, "vision.assessments").position
    skipped = InferenceSkipped(
        event_id=ids.event_id(where, "InferenceSkipped"),
        source=where,
        frame=frame,
        pipeline="gate",
        releases_offset=0,
        reason="no_release_in_force",
        skipped_at_us=AT_US,
    )
    world.put(skipped, 1, "vision.assessments")
    assert kinds(world.ask(Question(release="r2"))[0])[1] == [Kind.GAINED]
    (_, still) = world.ask(Question(release=None, thresholds={"text_confidence": 0.6}))[0]
    assert still.other is not None
    assert still.other.result.outcome == "skipped"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(release="r9"), "release r9 was never registered"),
        (Question(release="r2", thresholds={"text": 0.5}), "text is no parameter of r2"),
        (Question(release=None, thresholds={"text": 0.5}), "text is no parameter of r1"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(question: Question, said: str) -> None:
    """An unknown release, and a parameter that the release does not have."""
    with pytest.raises(ContractError, match=said):
        World({0: (GOOD,)}, {0: (GOOD,)}).ask(question)


def test_a_release_whose_models_are_gone_is_refused_before_any_frame_is_read() -> None:
    """Better at once than after an hour."""
    world = World({0: (GOOD,)}, {0: (GOOD,)})
    world.models = TwinModels({"old": world.script({0: (GOOD,)}, OLD)})
    with pytest.raises(BlobGoneError, match="read:2 is gone"):
        world.ask(Question(release="r2"))


def test_equal_pictures_are_read_once() -> None:
    """By content, release and parameters; the count of calls says so."""
    world = World(dict.fromkeys(range(3), (GOOD,)), dict.fromkeys(range(3), (GOOD,)))
    before = len(world.models.asked)
    asked = WhatIf(world.past, world.models, ReleaseHistory(world.past, "gate"), rules, Question(release="r2"))
    for _ in range(2):
        assert len(list(asked.frames(AT_US, AT_US + HOUR_US))) == 3
    assert asked.read == len(world.models.asked) - before == 3


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def report(tally: Tally, release: str) -> dict[str, Any]:
    return {
        "source": "<b>bundle</b>",
        "from": "a",
        "to": "b",
        "runner": "in a test",
        "took_s": 1,
        "question": {"release": release, "thresholds": {}},
        "alerts_listed": {"gained": [], "lost": []},
        **tally.as_plain(),
    }


def test_hostile_labels_are_text_on_the_page() -> None:
    """Whatever a camera reads: no element, attribute or script comes from a label; pictures are on both sides."""
    hostile = '</li><script>alert(1)</script><img src=x onerror="alert(1)">'
    world = World({0: (hostile,), 1: (GOOD,)}, {0: (), 1: (GOOD,)})
    _, tally = world.ask(Question(release="r2"))
    written = page(report(tally, "<script>"), tally.worst, world.blobs)
    found = _Tags()
    found.feed(written.decode())
    names = {tag for tag, _ in found.tags}
    assert "script" not in names
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    images = [attributes["src"] or "" for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 2
    assert all(src.startswith("data:image/jpeg;base64,") for src in images)
    assert "&lt;script&gt;" in written.decode()
    assert json.dumps(report(tally, "r2"))


def test_a_case_whose_image_went_away_meanwhile_has_words_in_its_place() -> None:
    """The page is made all the same."""
    world = World({0: (GOOD,)}, {0: ()})
    _, tally = world.ask(Question(release="r2"))
    world.blobs.contents.clear()
    assert b"is not there" in page(report(tally, "r2"), tally.worst, world.blobs)


def test_the_kept_cases_are_bounded_and_the_worst() -> None:
    """Of many, those that lost a proof stay."""
    world = World({n: (GOOD if n % 4 == 3 else "TEXT",) for n in range(16)}, dict.fromkeys(range(16), ()))
    _, tally = world.ask(Question(release="r2"))
    assert [f.found.event.frame.sequence for f in tally.worst] == [3, 7, 11]


def test_promotions_do_not_disturb_the_history() -> None:
    """Every state by position, whatever kind of event lies there."""
    world = World({0: (GOOD,)}, {0: (GOOD,)})
    promoted = ReleasePromoted(
        event_id=EventId("p"),
        source=cause(5, "vision.commands").position,
        pipeline="gate",
        release="r1",
        issued_by="me",
        reason="",
        promoted_at_us=AT_US,
    )
    world.put(promoted, 5)
    history = ReleaseHistory(world.past, "gate")
    assert [history.at(n).in_force for n in range(4)] == [None, None, None, "r1"]
    assert [len(history.at(n).releases) for n in range(4)] == [0, 1, 2, 2]


def test_a_failure_is_no_agreement_with_nothing() -> None:
    """Neither side has a reading, and only one of them looked."""
    world = World({0: (), 1: (), 2: (GOOD,)}, {0: ("fail",), 1: (), 2: (GOOD,)})
    frames, tally = world.ask(Question(release="r2"))
    assert [f.changes for f in frames[:2]] == [(), ()]
    assert (tally.agreeing, tally.frames) == (2, 3)
