"""Looking back at a device whose frames lie in another partition than its key's."""

from processors.lookback.at import device_at
from schemas.catalogue import ASSESSMENTS, FRAMES
from schemas.codec import FixedSchemas, encode
from streams.memory import MemoryLog
from streams.partitioning import partition_of
from streams.records import Outgoing
from tests.given import AT_US, accepted, captured

SCHEMAS = FixedSchemas()


def test_events_around_a_moment_are_found_in_whichever_partition_the_frames_lie() -> None:
    """Frames of a plain producer, without headers, are shown beside what followed from them, each under its own name."""
    log = MemoryLog(lambda: AT_US)
    mine = partition_of(b"gate-1", 4)
    other = (mine + 1) % 4
    for topic, event, partition in ((FRAMES, captured(0), other), (FRAMES, captured(1), other), (ASSESSMENTS, accepted(0), mine)):
        log.append_now(Outgoing(topic=topic, key=b"gate-1", value=encode(event, SCHEMAS), headers=(), partition=partition))
    log.append_now(Outgoing(topic=FRAMES, key=b"gate-2", value=encode(captured(0), SCHEMAS), headers=(), partition=other))
    found = device_at(log, SCHEMAS, device_id="gate-1", pipeline="gate", at_us=AT_US)
    assert [(e.type, e.partition, e.offset) for e in found.around] == [
        ("FrameAccepted", mine, 0),
        ("FrameCaptured", other, 0),
        ("FrameCaptured", other, 1),
    ]
    assert found.frames.accepted_count == 1
