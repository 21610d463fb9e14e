"""The state at T is the state that was shown at T: live views, sampled while frames flow, against looks back."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from processors.lookback.at import device_at, view_at
from processors.views.catalogue import VIEWS
from schemas.catalogue import RESULTS
from schemas.plain import canonical_json, to_plain
from streams.kafka_log import KafkaEventLog
from streams.partitioning import partition_of
from tests.e2e.conftest import Deploy
from tests.e2e.deployment import ALL, R1, R2, Deployment, devices_on_every_partition, troubles, until
from topology import wiring

DEVICES = devices_on_every_partition()[:2]
PIPELINE = "gate_reader"
# The parts of what `hindsight at` answers, and the views that they come from.
PARTS = {
    "frames": "device_frames",
    "results": "device_results",
    "features": "device_features",
    "alerts": "alerts",
    "releases": "releases",
}
MOMENTS_EACH = 12
_FRAMES_OF_A_PASSAGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a view showed of a key, the position that it reflected, and a moment at which the log held just that much."""

    part: str
    key: str
    position: int
    state: bytes | None
    at_us: int = 0


@contextmanager
def recording(deployment: Deployment, seed: int) -> Iterator[list[Shown]]:
    """Look at random views at random moments, in a thread, for as long as the block runs."""
    found: list[Shown] = []
    stop = threading.Event()

    async def look() -> None:
        rng = random.Random(seed)
        redis = wiring.redis_client(deployment.settings)
        store = wiring.view_store(deployment.settings, redis)
        while not stop.is_set():
            part = rng.choice(tuple(PARTS))
            key = PIPELINE if part == "releases" else rng.choice(DEVICES)
            partition = partition_of(key.encode(), len(deployment.log.partitions(VIEWS[PARTS[part]].topic)))
            stored = await store.load(PARTS[part], partition, (key,))
            found.append(Shown(part=part, key=key, position=stored.position, state=stored.states.get(key)))
            await asyncio.sleep(rng.uniform(0.002, 0.02))
        await redis.aclose()

    thread = threading.Thread(target=asyncio.run, args=(look(),))
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def with_moments(log: KafkaEventLog, samples: list[Shown], rng: random.Random) -> list[Shown]:
    """Distinct samples, each with a moment between the record that it reflected last and the next one."""
    dated: dict[tuple[str, str, int], Shown] = {}
    for one in samples:
        topic = VIEWS[PARTS[one.part]].topic
        partition = partition_of(one.key.encode(), len(log.partitions(topic)))
        around = list(
            log.read(topic, partition, max(0, one.position - 1), min(one.position + 1, log.bounds(topic, partition).end))
        )
        last = next((r.appended_at_ms for r in around if r.offset == one.position - 1), None)
        following = next((r.appended_at_ms for r in around if r.offset == one.position), None)
        if last is None or (one.part, one.key, one.position) in dated:
            continue
        # What nobody knows yet is refused, so the span of what was shown last ends now.
        first_us, end_us = last * 1000, following * 1000 if following is not None else time.time_ns() // 1000
        if first_us < end_us:
            # The first and the last microsecond of the span are where a look back would go wrong.
            at_us = rng.choice((first_us, end_us - 1, rng.randrange(first_us, end_us)))
            dated[one.part, one.key, one.position] = Shown(
                part=one.part, key=one.key, position=one.position, state=one.state, at_us=at_us
            )
    return list(dated.values())


def different(log: KafkaEventLog, deployment: Deployment, moments: list[Shown]) -> list[Shown]:
    """Moments at which looking back does not give the very bytes that were shown."""
    found = []
    for one in moments:
        state, read = view_at(log, deployment.schemas, VIEWS[PARTS[one.part]], one.key, one.at_us)
        shown = one.state if one.state is not None else canonical_json(VIEWS[PARTS[one.part]].initial)
        if canonical_json(state) != shown or read.offset != one.position:
            found.append(one)
    return found


class ShortByOneMillisecond(KafkaEventLog):
    """A planted bug: the moment itself is left out."""

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return super().offset_at(topic, partition, at_ms - 1)


@pytest.fixture
def recorded(deploy: Deploy) -> tuple[Deployment, list[Shown]]:
    """A run with a promotion and the death of a worker in its middle, and what was shown on the way."""
    deployment = deploy()
    first, _ = deployment.start_workers(ALL, ALL)
    with recording(deployment, seed=3) as samples:
        deployment.put_in_force(R1)
        deployment.publish(DEVICES, 14, passage=_FRAMES_OF_A_PASSAGE)
        until(lambda: deployment.appended(RESULTS) >= 6, within_s=90, what="six results")
        first.kill()
        assert not deployment.is_drained(), "the kill came when all was done"
        deployment.start_worker()
        deployment.register(R2)
        deployment.promote(R2)
        for _ in range(8):
            before = deployment.appended(RESULTS)
            deployment.publish(DEVICES, 2, passage=_FRAMES_OF_A_PASSAGE)
            until(lambda at=before: deployment.appended(RESULTS) > at, within_s=60, what="another result")  # type: ignore[misc]
        deployment.drain(within_s=120)
    assert troubles(deployment) == []
    return deployment, samples


def test_a_look_back_gives_what_was_shown_then(recorded: tuple[Deployment, list[Shown]]) -> None:
    """At random moments of a run, `hindsight at` gives each view byte for byte as it was shown at that moment."""
    deployment, samples = recorded
    rng = random.Random(11)
    dated = with_moments(deployment.log, samples, rng)
    chosen = {part: [one for one in dated if one.part == part] for part in PARTS}
    chosen = {part: rng.sample(found, min(MOMENTS_EACH, len(found))) for part, found in chosen.items()}
    moments = [one for found in chosen.values() for one in found]
    assert len(moments) >= 20
    assert all(len(found) >= 3 for found in chosen.values())

    assert different(deployment.log, deployment, moments) == []
    for one in rng.sample(moments, 10):
        device = one.key if one.key in DEVICES else DEVICES[0]
        known = device_at(deployment.log, deployment.schemas, device_id=device, pipeline=PIPELINE, at_us=one.at_us)
        assert part_of(to_plain(known), one) == one.state
    for one in rng.sample(chosen["results"], 3):
        answer = deployment.hindsight("at", rfc3339(one.at_us), "--device", one.key, "--format", "json")
        assert (answer.returncode, part_of(json.loads(answer.stdout), one)) == (0, one.state), answer.stderr

    short = ShortByOneMillisecond(wiring.bootstrap_servers(deployment.settings), deployment.namespace)
    assert different(short, deployment, moments), "a look back that is short by a millisecond was not found out"
    short.close()


def part_of(known: dict[str, object], one: Shown) -> bytes | None:
    """The part of an answer that a sample is of; None where the view had nothing of the key yet."""
    state = canonical_json(known[one.part])
    return None if one.state is None and state == canonical_json(VIEWS[PARTS[one.part]].initial) else state


def rfc3339(at_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")
