"""What the SDK's producer does not send: everything that another door would refuse, refused before anything is stored."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import cv2
import numpy as np
import pytest

from schemas.catalogue import FRAMES
from schemas.codec import FixedSchemas
from schemas.errors import ConfigurationError, FrameRefusedError
from streams.memory import MemoryBlobStore, MemoryLog
from streams.publishing import FramePublisher
from streams.records import system_clock
from streams.sdk import FrameProducer

BAD_NAMES = ("", "-x", "a b", "gâte", "x" * 129, "@sources", "gate-1\n", "\ud800")
IMAGE = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()


class Bench:
    """A publisher on in-memory twins, and what got through it."""

    def __init__(self) -> None:
        self.log, self.blobs = MemoryLog(system_clock), MemoryBlobStore()
        self.publisher = FramePublisher(
            appender=self.log, blobs=self.blobs, schemas=FixedSchemas(), clock=system_clock, channel="sdk"
        )

    def frames(self) -> int:
        return sum(self.log.bounds(FRAMES, p).end for p in self.log.partitions(FRAMES))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Nothing may have got through at the end, neither onto the log nor into the blob store."""
    made = Bench()
    yield made
    assert (made.frames(), made.blobs.contents) == (0, {})


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        *(({"device_id": name}, "invalid_device") for name in BAD_NAMES),
        ({"captured_at": datetime(9999, 12, 31, 23, tzinfo=UTC)}, "invalid_captured_at"),
        ({"captured_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))}, "invalid_captured_at"),
        ({"captured_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "invalid_captured_at"),
        ({"captured_at": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)}, "invalid_captured_at"),
        ({"labels": {"lane": "\ud800"}}, "invalid_labels"),
        ({"labels": {"\udfff": "2"}}, "invalid_labels"),
        ({"labels": {str(n): "" for n in range(33)}}, "invalid_labels"),
        ({"passage_id": "\ud83d"}, "invalid_labels"),
        ({"passage_id": "x" * 257}, "invalid_labels"),
    ],
)
def test_what_no_door_lets_in_is_refused_and_nothing_is_sent(bench: Bench, how: dict[str, Any], reason: str) -> None:
    """A bad device, time, label or passage raises at once, waiting or not, and uses up no sequence."""
    with FrameProducer(bench.publisher) as producer:
        for hand_over in (producer.send, producer.submit):
            with pytest.raises(FrameRefusedError) as refused:
                hand_over(IMAGE, **{"device_id": "gate-1", **how})
            assert refused.value.reason == reason
        assert producer.flush(5) == 0


@pytest.mark.parametrize("session_id", BAD_NAMES)
def test_a_session_that_no_door_lets_in_makes_no_producer(bench: Bench, session_id: str) -> None:
    """The setting is named, before any server is asked."""
    with pytest.raises(ConfigurationError) as refused:
        FrameProducer(bench.publisher, session_id=session_id)
    assert refused.value.setting == "session_id"
    nowhere: dict[str, Any] = {
        "bootstrap_servers": "127.0.0.1:1",
        "registry_url": "http://127.0.0.1:1",
        "s3_endpoint": "127.0.0.1:1",
    }
    with pytest.raises(ConfigurationError):
        FrameProducer.connect(**nowhere, s3_access_key="a", s3_secret_key="b", session_id=session_id)


def test_a_session_may_be_given_or_is_drawn() -> None:
    """A given one stands in every frame; without one each producer has its own."""
    made = Bench()
    with FrameProducer(made.publisher, session_id="run:1") as producer:
        frame = producer.send(IMAGE, device_id="gate-1").frame
        assert (frame.session_id, frame.sequence) == ("run:1", 0)
    with FrameProducer(made.publisher) as one, FrameProducer(made.publisher) as other:
        assert one.session_id != other.session_id
    assert made.frames() == 1
