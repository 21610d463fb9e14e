"""A view is a function of a prefix of its log: in parts or whole, with repeats or without, now or at any moment."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.emit import key_of
from processors.lookback.at import view_at
from processors.views.catalogue import VIEWS, View
from processors.views.replay import Folded, as_stored, digest, fold_log, fold_records, stored_log
from schemas import ids
from schemas.catalogue import TOPIC_OF
from schemas.codec import FixedSchemas, encode
from schemas.types import DeviceId, EventId, SourcePosition
from streams.memory import MemoryLog
from streams.records import Outgoing, Record
from tests.events import any_of_topic

SCHEMAS = FixedSchemas()
WRITER = ("ce_source", b"hindsight/test")
EVERY_VIEW = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


def _placed(drawn: tuple[Any, int], offset: int) -> Any:
    """The event with few names, so that states meet, and with the source that a processor would have given it."""
    event, number = drawn
    changes: dict[str, Any] = {}
    device = DeviceId(f"gate-{number % 2}")
    names = {"device_id": device, "subject": device, "pipeline": "gate", "release": f"r{number % 3}"}
    names |= {"alert_id": EventId(f"alert-{number % 3}")}
    changes |= {name: value for name, value in names.items() if hasattr(event, name)}
    if hasattr(event, "frame"):
        frame_id = ids.frame_id(device, "s", number)
        changes["frame"] = replace(event.frame, device_id=device, frame_id=frame_id)
    if getattr(event, "source", None) is not None:
        changes["source"] = SourcePosition(topic="source", partition=0, offset=offset, index=0)
    return replace(event, **changes)


@st.composite
def histories(draw: st.DrawFn, topic: str) -> list[Any]:
    """Events of a topic in the order of their sources; some come from outside and have none."""
    drawn = draw(st.lists(st.tuples(any_of_topic(topic), st.integers(0, 5)), max_size=12))
    return [_placed(one, offset) for offset, one in enumerate(drawn)]


def as_log(events: list[Any], garbage_at: int | None = None) -> MemoryLog:
    """The events on one partition, a millisecond apart."""
    now_us = 1_000_000
    log = MemoryLog(lambda: now_us, partitions=1)
    for number, event in enumerate(events):
        now_us += 1000
        if number == garbage_at:
            log.append_now(Outgoing(topic=TOPIC_OF[type(event)], key=b"?", value=b"?", headers=(), partition=0))
        value = encode(event, SCHEMAS)
        key = key_of(event).encode()
        log.append_now(Outgoing(topic=TOPIC_OF[type(event)], key=key, value=value, headers=(WRITER,), partition=0))
    return log


def records_of(log: MemoryLog, view: View[Any]) -> list[Record]:
    return list(log.read(view.topic, 0, 0, log.bounds(view.topic, 0).end))


def whole(view: View[Any], records: list[Record]) -> Folded:
    return fold_records(view, records, SCHEMAS, position=len(records))


@EVERY_VIEW
def test_two_parts_equal_the_whole_at_every_cut(view: View[Any]) -> None:
    """A snapshot and a tail give what the whole log gives, wherever the cut is, garbage included."""

    @given(histories(view.topic), st.integers(0, 12))
    def holds(events: list[Any], garbage_at: int) -> None:
        records = records_of(as_log(events, garbage_at), view)
        expected = whole(view, records)
        for cut in range(len(records) + 1):
            first = fold_records(view, records[:cut], SCHEMAS, position=cut)
            assert fold_records(view, records[cut:], SCHEMAS, position=len(records), onto=first) == expected

    holds()


@EVERY_VIEW
def test_redelivery_of_any_tail_changes_nothing(view: View[Any]) -> None:
    """A processor that crashed writes its last events again, perhaps several times: every state stays the same."""

    @given(histories(view.topic), st.data())
    def holds(events: list[Any], data: st.DataObject) -> None:
        again: list[Any] = []
        for number, event in enumerate(events):
            again.append(event)
            if data.draw(st.booleans()):
                back = data.draw(st.integers(0, number))
                again += [e for e in events[back : number + 1] if getattr(e, "source", None) is not None]
        once, more = whole(view, records_of(as_log(events), view)), whole(view, records_of(as_log(again), view))
        assert (more.states, more.seen) == (once.states, once.seen)

    holds()


@EVERY_VIEW
def test_the_state_at_a_moment_is_the_fold_of_the_prefix(view: View[Any]) -> None:
    """What was known at T is what the records appended up to T give, T's own millisecond included, and no more."""

    @given(histories(view.topic), st.integers(0, 14))
    def holds(events: list[Any], after_ms: int) -> None:
        log = as_log(events)
        at_us = (1000 + after_ms) * 1000
        records = records_of(log, view)
        known = [r for r in records if r.appended_at_ms * 1000 <= at_us]
        for key in sorted({r.key.decode() for r in records if r.key}):
            found, up_to = view_at(log, SCHEMAS, view, key, at_us)
            mine = whole(view, [r for r in known if r.key == key.encode()])
            assert found == mine.states.get(key, view.initial)
            assert up_to.offset == len(known)

    holds()


@EVERY_VIEW
def test_a_fold_in_little_memory_is_the_same(view: View[Any]) -> None:
    """However few states are kept at hand, the bytes for the view store are those of the plain fold."""

    @given(histories(view.topic), st.integers(0, 4))
    def holds(events: list[Any], hot: int) -> None:
        log = as_log(events, garbage_at=2)
        end = log.bounds(view.topic, 0).end
        assert stored_log(view, log, SCHEMAS, 0, end, hot=hot) == as_stored(fold_log(view, log, SCHEMAS, 0, end))

    holds()


@EVERY_VIEW
def test_equal_logs_have_equal_digests_and_others_do_not(view: View[Any]) -> None:
    """The digest of a rebuilt view is the live one's, and it changes with the position and with any state."""

    @given(histories(view.topic))
    def holds(events: list[Any]) -> None:
        log = as_log(events)
        stored = as_stored(fold_log(view, log, SCHEMAS, 0, len(events)))
        assert digest(stored) == digest(as_stored(whole(view, records_of(log, view))))
        assert digest(replace(stored, position=len(events) + 1)) != digest(stored)
        for key in stored.states:
            assert digest(replace(stored, states={**stored.states, key: b"{}x"})) != digest(stored)

    holds()
