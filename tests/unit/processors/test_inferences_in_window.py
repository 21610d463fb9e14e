"""lookback: inferences by window and by frame, each once, whatever was written twice."""

from dataclasses import replace
from typing import Any

import pytest

from processors.emit import outgoing
from processors.lookback.bisect import bisect
from processors.lookback.inferences import in_window, of_frame
from schemas.catalogue import INFERENCES
from schemas.codec import FixedSchemas
from schemas.errors import ContractError
from schemas.events import InferenceCompleted
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past, Scope
from streams.records import Outgoing
from tests.given import AT_US, cause, completed, frame

SECOND_US = 1_000_000


class World:
    def __init__(self, partitions: int = 4) -> None:
        self.now_us = AT_US
        self.log = MemoryLog(lambda: self.now_us, partitions=partitions)
        self.past = Past(log=self.log, schemas=FixedSchemas(), blobs=MemoryBlobStore(), source="a test")

    def put(self, sequence: int, *, device: str = "gate-1", at_s: float) -> InferenceCompleted:
        self.now_us = AT_US + round(at_s * SECOND_US)
        event = replace(completed(sequence, "A"), frame=frame(sequence, device=device))
        why = replace(cause(sequence), correlation_id=event.frame.frame_id)
        made = outgoing(event, cause=why, source="infer", time_us=self.now_us, schemas=self.past.schemas)
        self.log.append_now(made)
        return event

    def window(self, from_s: float, to_s: float, **more: Any) -> list[tuple[str, int]]:
        found = in_window(self.past, AT_US + round(from_s * SECOND_US), AT_US + round(to_s * SECOND_US), **more)
        return [(str(f.event.frame.device_id), f.event.frame.sequence) for f in found]


def test_a_window_holds_what_the_broker_took_in_it_in_its_order() -> None:
    """From the first moment on, up to and not including the last; across partitions by time; of one device when named."""
    world = World()
    for second, device in enumerate(("gate-1", "gate-7", "gate-2", "gate-1")):
        world.put(second, device=device, at_s=second)
    assert world.window(0, 3) == [("gate-1", 0), ("gate-7", 1), ("gate-2", 2)]
    assert world.window(1, 99) == [("gate-7", 1), ("gate-2", 2), ("gate-1", 3)]
    assert world.window(0.0005, 99)[0] == ("gate-7", 1), "the first moment had passed"
    assert world.window(0, 99, device="gate-1") == [("gate-1", 0), ("gate-1", 3)]
    assert world.window(5, 99) == world.window(3, 3) == []


def test_a_repeat_is_left_out_also_when_what_it_repeats_lies_before_the_window() -> None:
    """A worker that crashed wrote again what it had written."""
    world = World()
    for at_s, sequence in ((0, 0), (1, 1), (2, 0), (3, 1), (4, 2)):
        world.put(sequence, at_s=at_s)
    assert world.window(0, 99) == [("gate-1", 0), ("gate-1", 1), ("gate-1", 2)]
    assert world.window(2, 99) == [("gate-1", 2)]


def test_records_before_the_window_come_first_when_they_are_asked_for() -> None:
    """As many of each partition as asked, and of these each once."""
    world = World()
    for second in range(6):
        world.put(second, at_s=second)
    assert world.window(4, 99, before=2) == [("gate-1", n) for n in (2, 3, 4, 5)]


def test_what_cannot_be_read_is_passed_over() -> None:
    """Anybody may write to the topic."""
    world = World()
    world.put(0, at_s=0)
    world.log.append_now(Outgoing(topic=INFERENCES, key=b"gate-1", value=b"junk", headers=()))
    world.put(1, at_s=1)
    assert world.window(0, 99) == [("gate-1", 0), ("gate-1", 1)]


@pytest.mark.parametrize("sequence", [0, 3, 7])
def test_a_frame_is_found_by_its_id(sequence: int) -> None:
    """Wherever it lies; and one that nobody asked a model about is not."""
    world = World()
    for second in range(8):
        world.put(second, device=f"gate-{second}", at_s=second)
    wanted = frame(sequence, device=f"gate-{sequence}").frame_id
    found = of_frame(world.past, wanted)
    assert found is not None
    assert found.event.frame.frame_id == wanted
    assert of_frame(world.past, frame(99).frame_id) is None


def test_a_device_that_a_bundle_leaves_out_is_refused() -> None:
    """That nothing of it is there says nothing about it."""
    world = World()
    world.put(0, device="gate-1", at_s=0)
    scope = Scope(from_us=AT_US, to_us=AT_US + SECOND_US, devices=("gate-1",), pipeline="gate")
    past = replace(world.past, scope=scope)
    assert [f.event.frame.sequence for f in in_window(past, AT_US, AT_US + SECOND_US, device="gate-1")] == [0]
    with pytest.raises(ContractError, match="made without gate-2"):
        in_window(past, AT_US, AT_US + SECOND_US, device="gate-2")
    with pytest.raises(ContractError, match="made without gate-2"):
        bisect(past, where="attempts > 1", from_us=AT_US, to_us=AT_US + SECOND_US, pipeline="gate", device="gate-2")
