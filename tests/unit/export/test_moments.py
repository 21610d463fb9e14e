"""A window's events in append order, and each frame with what came of it."""

from dataclasses import replace

import pytest

from processors.export.moments import moments
from processors.export.said import log_line
from processors.export.stories import stories
from processors.export.window import CHAIN, Window
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.errors import ConfigurationError
from schemas.events import AlertCleared, AlertRaised, FrameCaptured, FramesErased, ReleasePromoted
from streams.partitioning import partition_of
from streams.records import Outgoing
from tests.gate import Gate
from tests.unit.export.recorded import START_US, Recorded, a_run, erased, observation

EVERYTHING = Window()


def positions(recorded: Recorded, window: Window = EVERYTHING) -> list[tuple[str, int, int]]:
    return [(m.record.topic, m.record.partition, m.record.offset) for m in moments(recorded.past, window)]


def every_record(recorded: Recorded) -> list[tuple[int, int, str, int, int]]:
    log = recorded.log
    return [
        (record.appended_at_ms, rank, topic, p, record.offset)
        for rank, topic in enumerate(CHAIN)
        for p in log.partitions(topic)
        for record in log.read(topic, p, 0, log.bounds(topic, p).end)
    ]


def test_every_record_comes_once_in_append_order() -> None:
    """The stream is all partitions' records sorted by time; nothing is lost, doubled or out of its partition's order."""
    recorded = a_run()
    expected = [(topic, p, offset) for _, _, topic, p, offset in sorted(every_record(recorded))]
    assert positions(recorded) == expected
    assert len(expected) > 30


def test_records_of_one_millisecond_come_causes_first() -> None:
    """Where the clock does not tell, the chain does."""
    recorded = Recorded(partitions=1, step_us=0)
    for n in range(3):
        recorded.frame(n)
    assert [topic for topic, _, _ in positions(recorded)] == [
        *[FRAMES] * 3,
        *[ASSESSMENTS] * 3,
        *[INFERENCES] * 3,
        *[RESULTS] * 3,
        MONITORING,
    ]


def test_a_clock_set_back_leaves_each_partitions_order() -> None:
    """A broker's clock is no reason to give a partition's records in another order than the log's."""
    recorded = Recorded(partitions=1)
    for n in range(3):
        recorded.frame(n)
    kept = recorded.log._records[FRAMES, 0]
    kept[1] = replace(kept[1], appended_at_ms=kept[1].appended_at_ms - 60_000)
    assert [offset for topic, _, offset in positions(recorded) if topic == FRAMES] == [0, 1, 2]


def test_windows_side_by_side_share_no_record_and_miss_none() -> None:
    """A window is half open: cutting it at any millisecond gives the same records in two parts."""
    recorded = a_run()
    whole = positions(recorded)
    for cut_us in range(START_US, recorded.now_us + 2000, 7000):
        before, after = Window(to_us=cut_us), Window(from_us=cut_us)
        assert positions(recorded, before) + positions(recorded, after) == whole


def test_a_window_begins_at_its_moment_and_not_before() -> None:
    """The broker knows milliseconds: what it took in the one before `from` is out, what it took in the one of `to` too."""
    recorded = Recorded(partitions=1)
    recorded.frame(0)
    first_ms = next(recorded.log.read(FRAMES, 0, 0, 1)).appended_at_ms

    def holds_the_frame(window: Window) -> bool:
        return (FRAMES, 0, 0) in positions(recorded, window)

    assert holds_the_frame(Window(from_us=first_ms * 1000))
    assert not holds_the_frame(Window(from_us=first_ms * 1000 + 1))
    assert not holds_the_frame(Window(to_us=first_ms * 1000))
    assert holds_the_frame(Window(to_us=first_ms * 1000 + 1))


def test_a_window_of_a_device_leaves_out_the_others() -> None:
    """Only the device's records and those of pipelines are in."""
    recorded = a_run()
    found = list(moments(recorded.past, Window(devices=frozenset({"gate-2"}))))
    keys = {m.record.key for m in found if m.record.topic not in ("vision.releases", "vision.commands")}
    assert keys == {b"gate-2"}
    assert sum(isinstance(m.event, FrameCaptured) for m in found) == 3
    assert sum(isinstance(m.event, ReleasePromoted) for m in found) == 2


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        Window(from_us=5, to_us=5)


def test_repeats_are_marked_even_where_the_first_lies_before_the_window() -> None:
    """A worker that died repeats; the window begins between the event and its repeat."""
    recorded = Recorded(partitions=1)
    recorded.frame(0, "CSQU3054383")
    begin_us = recorded.now_us + 500
    for record in list(recorded.log.read(INFERENCES, 0, 0, 1)):
        recorded.now_us += 1000
        recorded.log.append_now(
            Outgoing(topic=record.topic, key=record.key or b"", value=record.value, headers=record.headers, partition=0)
        )
    recorded.frame(1)
    found = [m for m in moments(recorded.past, Window(from_us=begin_us)) if m.record.topic == INFERENCES]
    assert [m.is_repeat for m in found] == [True, False]


def test_what_cannot_be_decoded_is_kept_with_the_reason() -> None:
    """A record that is none of ours neither ends the stream nor vanishes."""
    recorded = a_run()
    recorded.log.append_now(Outgoing(topic=FRAMES, key=b"gate-1", value=b"\x00\x00\x00\x00\x63nothing", headers=()))
    (bad,) = (m for m in moments(recorded.past, EVERYTHING) if m.event is None)
    assert bad.record.topic == FRAMES
    assert "schema id 99 is not known" in bad.trouble


def test_a_story_joins_a_frame_with_all_that_came_of_it() -> None:
    """Each story's parts name one another as causes, for every frame, in append order."""
    recorded = a_run()
    found = list(stories(recorded.past, EVERYTHING))
    assert [(s.frame.device_id, s.frame.sequence) for s in found] == [
        *((device, n) for n in range(3) for device in ("gate-1", "gate-2")),
        ("gate-1", 3),
    ]
    for story in found:
        assert story.assessed is not None
        assert story.inferred is not None
        assert story.result is not None
        assert {m.event.frame.frame_id for m in (story.assessed, story.inferred, story.result)} == {story.frame.frame_id}
        assert story.result.event.source.offset == story.inferred.record.offset
    kinds = {s.frame.sequence: [type(m.event) for m in s.alerts] for s in found if s.frame.device_id == "gate-1"}
    assert kinds == {0: [], 1: [], 2: [AlertRaised], 3: [AlertCleared]}
    assert [s.corrected is not None for s in found if s.frame.device_id == "gate-2"] == [False, False, True]


def test_a_story_stands_repeats_holes_and_results_that_come_much_later() -> None:
    """Repeats are dropped, a frame without assessment has none, and a late result finds its frame."""
    recorded = Recorded(partitions=1)
    refs = [recorded.ref(n, device="gate-1", image=b"x") for n in range(5)]
    captured = [recorded.capture(ref) for ref in refs]
    recorded.reject(refs[0], captured[0], "too_small")
    accepted = [recorded.accept(ref, at) for ref, at in zip(refs[1:4], captured[1:4], strict=True)]
    recorded.now_us += 3_600_000_000
    recorded.infer(refs[1], accepted[0], (observation("A"),))
    again = next(iter(recorded.log.read(ASSESSMENTS, 0, 1, 2)))
    recorded.log.append_now(Outgoing(topic=ASSESSMENTS, key=b"gate-1", value=again.value, headers=again.headers, partition=0))
    recorded.infer(refs[2], accepted[1], ())
    found = list(stories(recorded.past, EVERYTHING))
    assert [s.outcome for s in found] == ["rejected", "read", "nothing_read", "unfinished", "unfinished"]
    assert [s.assessed is not None for s in found] == [True, True, True, True, False]


def test_a_story_knows_no_more_than_was_known_by_the_windows_end() -> None:
    """What was appended after the end is left out, even of frames that are in."""
    recorded = Recorded(partitions=1)
    ref = recorded.ref(0, device="gate-1", image=b"x")
    at = recorded.accept(ref, recorded.capture(ref))
    end_us = recorded.now_us + 1000
    recorded.infer(ref, at, (observation("A"),))
    (story,) = stories(recorded.past, Window(to_us=end_us))
    assert (story.assessed is not None, story.inferred, story.outcome) == (True, None, "unfinished")


def test_brokers_whose_clocks_differ_lose_no_assessment() -> None:
    """What a frame caused may carry an earlier time than the frame, and the window begin between the two."""
    recorded = Recorded(partitions=1)
    ref = recorded.ref(0, device="gate-1", image=b"x")
    recorded.now_us += 5_000_000
    at = recorded.capture(ref)
    begin_us = recorded.now_us
    recorded.now_us -= 4_000_000
    recorded.accept(ref, at)
    (story,) = stories(recorded.past, Window(from_us=begin_us))
    assert story.assessed is not None


def test_the_first_frame_of_a_window_is_not_given_what_others_caused() -> None:
    """What came of frames before the window is appended in it, and is nobody's there."""
    recorded = Recorded(partitions=1)
    early = [recorded.ref(n, device="gate-1", image=b"x") for n in range(3)]
    captured = [recorded.capture(ref) for ref in early]
    begin_us = recorded.now_us + 1000
    last = recorded.capture(recorded.ref(3, device="gate-1", image=b"x"))
    for ref, at in zip(early, captured, strict=True):
        recorded.accept(ref, at)
    recorded.reject(recorded.ref(3, device="gate-1", image=b"x"), last, "too_small")
    (story,) = stories(recorded.past, Window(from_us=begin_us))
    assert (story.outcome, story.frame.sequence) == ("rejected", 3)


def test_an_alert_that_was_written_twice_is_one() -> None:
    """The repeat follows its first at once, as after a crash."""
    recorded = Recorded(partitions=1)
    for n in range(3):
        recorded.frame(n)
    (raised,) = recorded.log.read(MONITORING, 0, 0, 1)
    recorded.log.append_now(Outgoing(topic=MONITORING, key=b"gate-1", value=raised.value, headers=raised.headers, partition=0))
    *_, last = stories(recorded.past, EVERYTHING)
    assert len(last.alerts) == 1


def test_a_frame_that_was_sent_twice_is_known_for_it() -> None:
    recorded = Recorded(partitions=1)
    ref = recorded.frame(0)
    recorded.reject(ref, recorded.capture(ref), "repeated")
    assert [s.is_repeated for s in stories(recorded.past, EVERYTHING)] == [False, True]


def test_a_story_of_a_device_is_the_same_alone() -> None:
    """Leaving other devices out of a partition changes nothing of this one's stories."""
    recorded = Recorded(partitions=1)
    for n in range(4):
        recorded.frame(n, "CSQU3054383")
        recorded.frame(n, device="gate-2")
    alone = list(stories(recorded.past, Window(devices=frozenset({"gate-2"}))))
    assert alone == [s for s in stories(recorded.past, EVERYTHING) if s.frame.device_id == "gate-2"]
    assert len(alone) == 4


def test_sources_of_other_topics_are_none_of_a_frames() -> None:
    """An alert that something else raised at the same offset is not the frame's."""
    recorded = Recorded(partitions=1)
    for n in range(3):
        recorded.frame(n)
    *_, last = stories(recorded.past, EVERYTHING)
    (raised,) = last.alerts
    other = replace(raised.event, source=replace(raised.event.source, topic=FRAMES, offset=raised.event.source.offset))
    recorded.append(other, writer="monitor", partition=0)
    *_, last = stories(recorded.past, EVERYTHING)
    assert last.alerts == (raised,)


def test_a_frame_that_another_partitioner_placed_has_its_story() -> None:
    """What follows lies by its key: it is found there, and never taken for that of another partition's frame."""
    gate = Gate(partitions=4)
    gate.put_in_force()
    own = partition_of(b"gate-1", 4)
    for displaced in (None, (own + 1) % 4, None, (own + 2) % 4):
        gate.displaced = displaced
        gate.capture(("MSCU1234566", 0.9), device="gate-1", passage="p")
        gate.process()
    found = list(stories(gate.past, EVERYTHING))
    assert [s.captured.record.partition for s in found] == [own, (own + 1) % 4, own, (own + 2) % 4]
    assert [s.outcome for s in found] == ["read"] * 4
    for story in found:
        parts = [m for m in (story.assessed, story.inferred, story.result) if m is not None]
        assert [(m.event.frame.frame_id, m.record.partition) for m in parts] == [(story.frame.frame_id, own)] * 3


def test_an_alert_about_a_view_is_no_frames() -> None:
    """A check names the last record that its view reflected as the source, as a frame's own alert does."""
    recorded = Recorded(partitions=1)
    for n in range(3):
        recorded.frame(n)
    *_, last = stories(recorded.past, EVERYTHING)
    (raised,) = last.alerts
    about_a_view = replace(raised.event, source=replace(raised.event.source, index=7), subject="view/device_results/0")
    recorded.append(about_a_view, writer="checks/device_results", partition=0)
    *_, last = stories(recorded.past, EVERYTHING)
    assert [m.event.subject for m in last.alerts] == ["gate-1"]


def test_erasures_are_in() -> None:
    """A window in which pictures are missing has the orders by which they were erased, its device's only."""
    recorded = a_run()
    for device in ("gate-1", "gate-2"):
        recorded.append(erased(device), writer="erase")
    found = [m.event for m in moments(recorded.past, Window(devices=frozenset({"gate-1"}))) if isinstance(m.event, FramesErased)]
    assert [event.device_id for event in found] == ["gate-1"]
    line = log_line(found[0])
    assert line is not None
    assert (line.name, line.message) == ("gate-1", "1 frames erased by order GDPR-17, asked by kim")
