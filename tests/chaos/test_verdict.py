"""Each claim of the verdict finds the fault that is planted for it, names the frames, and is silent otherwise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import ids
from schemas.events import FrameRejected, ResultDerived
from schemas.types import EventId, FrameId
from tests.chaos.edge import read_journal
from tests.chaos.memory import BOUND_BYTES, Life
from tests.chaos.verdict import Logged, Shown, judge, late, swollen, waits_s
from tests.given import AT_US, accepted, captured, cause, frame

COUNT = 5
SENT = tuple(frame(n).frame_id for n in range(COUNT))


def result(sequence: int, *, offset: int | None = None, outcome: str = "read") -> ResultDerived:
    """A frame's result, caused by the inference at an offset."""
    where = cause(sequence if offset is None else offset, "vision.inferences").position
    return ResultDerived(
        event_id=ids.event_id(where, "ResultDerived"),
        source=where,
        frame=frame(sequence),
        inference_id=EventId(f"inference-{sequence}"),
        pipeline="gate",
        release="r1",
        outcome=outcome,
        readings=(),
        rules="rules@1",
        detail="",
        derived_at_us=AT_US,
    )


def rejected(sequence: int, reason: str) -> FrameRejected:
    where = cause(50 + sequence).position
    return FrameRejected(
        event_id=ids.event_id(where, "FrameRejected"),
        source=where,
        frame=frame(sequence),
        blob_stored=True,
        reasons=(reason,),
        detail="",
        assessed_at_us=AT_US,
    )


def logged(*without: object) -> Logged:
    """A log on which each frame was captured, accepted and read once, but for some events."""
    counted = Logged()
    for n in range(COUNT):
        for event in (captured(n), accepted(n, offset=n), result(n)):
            if event not in without:
                counted.note(event, 1000 * n)
    return counted


def shown() -> Shown:
    return Shown(results=dict.fromkeys(SENT, 1), outcomes_of_device={"gate-1": COUNT})


def shown_without(frame_id: FrameId) -> Shown:
    """What views show when a frame has no outcome."""
    return Shown(results=dict.fromkeys([f for f in SENT if f != frame_id], 1), outcomes_of_device={"gate-1": COUNT - 1})


def broken(log: Logged, views: Shown) -> set[str]:
    return {violation.claim for violation in judge(SENT, log, views)}


def test_what_is_right_breaks_no_claim() -> None:
    """Each frame captured, accepted, read and counted once."""
    assert judge(SENT, logged(), shown()) == ()


def test_what_redelivery_leaves_behind_is_no_doubled_frame() -> None:
    """An event that was written twice has one id, and a frame that was sent twice is rejected as repeated."""
    log = logged()
    for again in (captured(1), accepted(1, offset=1), result(1), rejected(1, "repeated")):
        log.note(again, 9000)
    assert judge(SENT, log, shown()) == ()
    assert log.written["results"] == COUNT + 1


def test_a_frame_that_was_acknowledged_and_is_not_on_the_log_is_named() -> None:
    """Planted: a gateway that answers before the broker has the frame, and dies."""
    found = judge(SENT, logged(captured(2), accepted(2, offset=2), result(2)), shown_without(SENT[2]))
    assert [(v.claim, v.frames) for v in found] == [("acknowledged is on the log", (SENT[2],))]


def test_a_frame_without_an_outcome_is_named() -> None:
    """Planted: a worker that acknowledges a record before what it causes is on the broker, and dies."""
    found = judge(SENT, logged(result(3)), shown_without(SENT[3]))
    assert [(v.claim, v.frames) for v in found] == [("exactly one outcome", (SENT[3],))]


@pytest.mark.parametrize(
    ("plant", "claim"),
    [
        (lambda log: log.note(result(2, offset=77), 9000), "exactly one outcome"),
        (lambda log: log.note(rejected(2, "blob_gone"), 9000), "exactly one outcome"),
        (lambda log: log.note(accepted(2, offset=77), 9000), "no frame is doubled"),
        (lambda log: log.note(result(99), 9000), "no frame is made up"),
    ],
    ids=["read twice", "read and rejected", "accepted twice", "of no frame"],
)
def test_a_frame_that_counts_twice_or_out_of_nothing_is_named(plant: Callable[[Logged], None], claim: str) -> None:
    """Planted: a worker that takes a redelivered record for a new one, under another id."""
    log = logged()
    plant(log)
    assert claim in broken(log, shown())


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_fault_that_costs_a_reading_is_found(outcome: str) -> None:
    """Planted: a worker that gives a frame up as failed where it had to wait for what was away."""
    log = logged(result(4))
    log.note(result(4, outcome=outcome), 9000)
    (found,) = judge(SENT, log, shown())
    assert (found.claim, found.frames) == ("no frame is given up", (SENT[4],))


def test_a_frame_that_is_rejected_though_it_can_be_read_is_found() -> None:
    """Planted: an image that was acknowledged and that the blob store lost."""
    log = logged(accepted(4, offset=4), result(4))
    log.note(rejected(4, "blob_gone"), 9000)
    (found,) = judge(SENT, log, shown_without(SENT[4]))
    assert (found.claim, found.words) == ("no frame is given up", "1 are rejected: blob_gone")


@pytest.mark.parametrize(
    "views",
    [
        Shown(results={**dict.fromkeys(SENT, 1), SENT[0]: 2}, outcomes_of_device={"gate-1": COUNT}),
        Shown(results=dict.fromkeys(SENT[1:], 1), outcomes_of_device={"gate-1": COUNT}),
        Shown(results={**dict.fromkeys(SENT, 1), FrameId("strange"): 1}, outcomes_of_device={"gate-1": COUNT}),
        Shown(results=dict.fromkeys(SENT, 1), outcomes_of_device={"gate-1": COUNT + 1}),
        Shown(results=dict.fromkeys(SENT, 1), outcomes_of_device={"gate-1": COUNT, "gate-2": 1}),
    ],
    ids=["counted twice", "not counted", "not on the log", "device counts more", "device of nobody"],
)
def test_views_that_count_otherwise_than_the_log_by_ids_are_found(views: Shown) -> None:
    """Planted: a fold, or a way to tell repeats, that is wrong both live and in the check, so that both agree."""
    assert broken(logged(), views) == {"each outcome is counted once"}


@pytest.mark.parametrize(
    "views",
    [replace(shown(), different=("device_frames 0 in gate-1",)), replace(shown(), alarms=("view_differs of device_frames",))],
    ids=["it differs", "it was mended"],
)
def test_a_view_that_is_not_its_log_is_found_also_when_a_worker_mended_it(views: Shown) -> None:
    """Planted: a live fold that miscounts; the worker's own check would repair it and hide it."""
    assert broken(logged(), views) == {"views equal the log"}


def test_a_frame_that_waits_longer_than_the_bound_is_named_the_longest_first() -> None:
    """From the acknowledgement to the first copy of its outcome."""
    log = logged()
    acknowledged_at_us = {SENT[0]: 0, SENT[3]: 500_000, SENT[4]: 500_000}
    waited = waits_s(acknowledged_at_us, log)
    assert waited == {SENT[0]: 0.0, SENT[3]: 2.5, SENT[4]: 3.5}
    (found,) = late(waited, 2.0)
    assert found.frames == (SENT[4], SENT[3])
    assert late(waited, 4.0) == ()


def test_an_outcome_that_was_there_before_the_acknowledgement_waited_for_nothing() -> None:
    """The gateway died between publishing and answering: the frame was read before its repeat was acknowledged."""
    assert waits_s({SENT[1]: 60_000_000}, logged()) == {SENT[1]: 0.0}


def test_memory_beyond_the_bound_of_its_kind_is_found() -> None:
    """A program is of the kind that its name begins with."""
    bound = BOUND_BYTES["worker"]
    assert swollen({"worker-0": bound, "redis": 1}, BOUND_BYTES) == ()
    (found,) = swollen({"worker-0": bound, "worker-1": bound + 1}, BOUND_BYTES)
    assert found.claim == "memory stays bounded"
    assert "worker-1" in found.words


def test_growth_is_that_of_a_life_after_it_has_settled() -> None:
    """What a program takes for its imports is no growth."""
    assert Life(samples=[1, 50, *[100] * 100]).growth_bytes == 0
    assert Life(samples=[0] * 10 + list(range(100))).growth_bytes == 90


def test_a_journal_is_read_back_with_the_first_acknowledgement_of_each_frame(tmp_path: Path) -> None:
    """A frame that is acknowledged again was acknowledged before; refusals of the disk are counted."""
    (tmp_path / "journal").write_text("o 0 10\na 0 20\nf 1 25\no 1 30\na 0 40\nr 1 50\n")
    told = read_journal(tmp_path, "gate-1")
    assert (told.offered, told.acknowledged, told.refused, told.not_taken) == ({0: 10, 1: 30}, {0: 20}, {1: 50}, 1)
    assert told.frame_id(0) == ids.frame_id("gate-1", "chaos", 0)
