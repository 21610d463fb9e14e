"""What goes into a bundle comes out of it, byte for byte, and it answers as the log that it was made of."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import DEAD_LETTERS, FRAMES, MONITORING, RELEASES, RESULTS, TOPICS
from streams.bundle import open_bundle, verify_bundle
from streams.records import Outgoing
from tests.bundles import START_US, World, bundled, everything

_BYTES = st.one_of(st.none(), st.binary(max_size=300))
_HEADERS = st.lists(st.tuples(st.text(max_size=8), _BYTES), max_size=4).map(tuple)
_KEYS = st.one_of(st.sampled_from([b"gate-1", b"gate-2", b""]), st.binary(max_size=12))
_RECORDS = st.lists(
    st.tuples(st.sampled_from([FRAMES, RESULTS, RELEASES, MONITORING, DEAD_LETTERS]), _KEYS, _BYTES, _HEADERS, st.integers(0, 3)),
    max_size=40,
)


def world_of(records: list[tuple[str, bytes, bytes | None, tuple[tuple[str, bytes], ...], int]]) -> World:
    world = World()
    for topic, key, value, headers, pause_ms in records:
        world.now_us += pause_ms * 1000 - 1000  # some of one millisecond
        world.raw(Outgoing(topic=topic, key=key, value=value, headers=headers))
    return world


@given(_RECORDS)
def test_what_goes_in_comes_out(records: list[tuple[str, bytes, bytes | None, tuple[tuple[str, bytes], ...], int]]) -> None:
    """Any records at all: topic, partition, offset, append time, key, value and headers, and what is not there stays so."""
    world = world_of(records)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.hsb"
        bundled(world.past(), path)
        assert verify_bundle(path).whole
        with open_bundle(path) as past:
            assert everything(past.log) == everything(world.log)


@given(_RECORDS, st.integers(-2, 60), st.integers(0, 60))
def test_a_window_of_one_device_answers_as_the_log(
    records: list[tuple[str, bytes, bytes | None, tuple[tuple[str, bytes], ...], int]], first_ms: int, length_ms: int
) -> None:
    """Whatever the window: which offset a time has is the log's own answer also where other devices' records are left out."""
    world = world_of(records)
    start_ms = START_US // 1000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.hsb"
        from_ms, to_ms = start_ms + first_ms, start_ms + first_ms + length_ms
        bundled(world.past(), path, from_us=from_ms * 1000, to_us=to_ms * 1000, devices=["gate-1"])
        assert verify_bundle(path).whole
        with open_bundle(path) as past:
            for topic in TOPICS:
                assert past.log.partitions(topic) == world.log.partitions(topic)
                for partition in past.log.partitions(topic):
                    for at_ms in range(from_ms, to_ms + 2):
                        live = world.log.offset_at(topic, partition, at_ms)
                        assert past.log.offset_at(topic, partition, at_ms) == live
                    held = list(past.log.read(topic, partition, 0, 2**60))
                    wanted = {r.offset: r for r in world.log.read(topic, partition, 0, 10**6)}
                    assert all(wanted[r.offset] == r for r in held)
                    inside = [r for r in wanted.values() if from_ms <= r.appended_at_ms <= to_ms and r.key == b"gate-1"]
                    assert [r for r in held if r.key == b"gate-1" and r.appended_at_ms >= from_ms] == inside
