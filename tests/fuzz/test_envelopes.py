"""Headers of any kind around events of any kind: whoever reads an envelope stands it, and a step goes on after it."""

import asyncio
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from processors.partition import PartitionRunner
from processors.redriven import PREFIX, redriven_of
from processors.repeats import writer_of
from processors.step import Ports
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.catalogue import DEAD_LETTERS, FRAMES
from schemas.codec import FixedSchemas, encode
from schemas.envelope import header
from streams.memory import MemoryLog, MemoryViewStore
from streams.records import Outgoing, Record
from tests.given import AT_US, captured
from tests.simulation import virtual_time

OF_CLOUD_EVENTS = ("id", "type", "source", "time", "correlationid", "causationid", "specversion")
OF_REDRIVES = ("command", "index", "attempt", "letter", "for", "id", "supersedes", "superseded_release", "counted")
NAMES = st.one_of(
    st.sampled_from([*(f"ce_{n}" for n in OF_CLOUD_EVENTS), *(f"{PREFIX}{n}" for n in OF_REDRIVES), "traceparent", ""]),
    st.text(max_size=12),
)
VALUES = st.one_of(
    st.none(),
    st.sampled_from(
        [b"", b"\xff\xfe", b"hindsight/infer", b"{", b"null", b"[]", b"{}", b"-1", b"9" * 5000, b"00-0-0-0", b"\0" * 50]
    ),
    st.binary(max_size=40),
)
_FORGED = st.tuples(
    *(st.one_of(st.sampled_from([b"0", b"1", b"7", b"device_frames", b"9" * 5000]), VALUES) for _ in OF_REDRIVES)
).map(lambda values: tuple((PREFIX + name, value) for name, value in zip(OF_REDRIVES, values, strict=True)))
HEADERS = st.one_of(st.lists(st.tuples(NAMES, VALUES), max_size=8).map(tuple), _FORGED)


@given(HEADERS)
def test_reading_an_envelope_stands_any_headers(headers: tuple[tuple[str, bytes], ...]) -> None:
    """Repeated, missing, null, no text, and those of a redrive with anything in them."""
    record = Record(topic=FRAMES, partition=0, offset=3, appended_at_ms=1, key=b"?", value=b"?", headers=headers)
    assert isinstance(header(headers, "ce_id"), str)
    writer_of(record)
    redriven_of(record)


@example([((("traceparent", b"\xff"), ("ce_correlationid", b"\xff")), False)])
@given(st.lists(st.tuples(HEADERS, st.booleans()), min_size=1, max_size=6))
def test_a_partition_goes_on_after_any_headers(sent: list[tuple[Any, bool]]) -> None:
    """Events and noise in any envelope: each is acknowledged, noise lies among the dead letters, and nothing stops."""
    schemas = FixedSchemas()

    async def whole() -> None:
        log, views, failures, acknowledged = MemoryLog(lambda: AT_US, partitions=1), MemoryViewStore(), [], []
        ports: Ports[Any] = Ports(log=log, appender=log, views=views, schemas=schemas, clock=lambda: AT_US)
        step = ViewStep(VIEWS["device_frames"])
        runner: PartitionRunner[Any] = PartitionRunner(step, ports, 0, window=8, batch=4, failed=failures.append)
        for number, (headers, is_event) in enumerate(sent):
            value = encode(captured(number), schemas) if is_event else b"\x00\x00\x00\x00\x63noise"
            log.append_now(Outgoing(topic=step.topic, key=b"gate-1", value=value, headers=headers, partition=0))
        records = list(log.read(step.topic, 0, 0, len(sent)))
        await runner.submit(records, lambda record: acknowledged.append(record.offset))
        await asyncio.sleep(5)
        await runner.stop()
        assert failures == []
        assert sorted(acknowledged) == list(range(len(sent)))
        letters = list(log.read(DEAD_LETTERS, 0, 0, 100))
        assert all(letter.value is not None for letter in letters)

    virtual_time.run(whole)
