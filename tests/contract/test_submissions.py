"""`Submissions`: the promises of the port, held to by the in-memory twin and by Redis."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from streams.idempotency import MemorySubmissions, RedisSubmissions, Reservation, Submissions
from streams.names import Namespace
from streams.records import Position
from topology.stack.local import LocalStack

WANTED = Reservation(task_id="t1", fingerprint="f", captured_at_us=5)
OTHER = Reservation(task_id="t2", fingerprint="g", captured_at_us=6)
Case = Callable[[Submissions], Awaitable[None]]
Run = Callable[[Case], None]


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest, namespace: Namespace) -> Run:
    """Runs a case against one implementation."""
    url = request.getfixturevalue("stack").endpoints.redis_url if request.param == "redis" else ""

    async def on_redis(case: Case) -> None:
        async with Redis.from_url(url) as redis:
            await case(RedisSubmissions(redis, namespace))

    return lambda case: asyncio.run(on_redis(case) if url else case(MemorySubmissions()))  # type: ignore[arg-type]


def test_the_first_reservation_of_a_key_stands(run: Run) -> None:
    """A key is reserved once for each device; whoever comes later gets what stands."""

    async def case(submissions: Submissions) -> None:
        assert await submissions.reserve("d", "k", WANTED) == WANTED
        assert await submissions.reserve("d", "k", OTHER) == WANTED
        assert await submissions.reserve("e", "k", OTHER) == OTHER

    run(case)


def test_many_at_once_agree_on_one(run: Run) -> None:
    """Racing reservations all get the same answer."""

    async def case(submissions: Submissions) -> None:
        wanted = [Reservation(task_id=str(n), fingerprint="f", captured_at_us=n) for n in range(20)]
        assert len(set(await asyncio.gather(*(submissions.reserve("d", "k", one) for one in wanted)))) == 1

    run(case)


def test_settling_is_seen_and_makes_nothing_new(run: Run) -> None:
    """An outcome is written to a reservation that stands, and to no other."""

    async def case(submissions: Submissions) -> None:
        settled = Reservation(task_id="t1", fingerprint="f", captured_at_us=5, outcome="published")
        await submissions.settle("d", "k", settled)
        assert await submissions.reserve("d", "k", WANTED) == WANTED
        await submissions.settle("d", "k", settled)
        assert await submissions.reserve("d", "k", OTHER) == settled

    run(case)


def test_a_mark_names_its_device(run: Run) -> None:
    """A marked task is known with its device, any other is not."""

    async def case(submissions: Submissions) -> None:
        await submissions.mark_submitted("t", "gate-1", Position(topic="vision.frames", partition=1, offset=2))
        assert await submissions.submitted("t") == "gate-1"
        assert await submissions.submitted("u") is None

    run(case)


def test_keys_and_marks_expire(stack: LocalStack, namespace: Namespace) -> None:
    """In Redis everything has a time to live, which settling keeps."""

    async def case() -> None:
        async with Redis.from_url(stack.endpoints.redis_url) as redis:
            submissions = RedisSubmissions(redis, namespace, ttl_s=100)
            await submissions.reserve("d", "k", WANTED)
            await submissions.settle("d", "k", WANTED)
            await submissions.mark_submitted("t", "d", Position(topic="vision.frames", partition=1, offset=2))
            names = [name async for name in redis.scan_iter(namespace.redis_key("submissions", "*"))]
            assert len(names) == 2
            assert all([0 < await redis.ttl(name) <= 100 for name in names])

    asyncio.run(case())
