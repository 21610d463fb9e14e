"""The `ViewStore` port: states and position move together, or not at all."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.errors import ViewStoreUnavailableError
from streams.memory import MemoryViewStore
from streams.ports import Standing, Stored, ViewStore
from streams.redis_views import RedisViewStore
from streams.view_digest import EMPTY, digest_of

Check = Callable[[ViewStore], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
def holds(request: pytest.FixtureRequest) -> Callable[[Check], None]:
    """Runs a check on a fresh view store, inside an event loop of its own."""
    memory = MemoryViewStore()
    stack = request.getfixturevalue("stack") if request.param == "redis" else None
    namespace = request.getfixturevalue("namespace") if request.param == "redis" else None

    @asynccontextmanager
    async def opened() -> Any:
        if stack is None:
            yield memory
            return
        redis = Redis.from_url(stack.endpoints.redis_url)
        yield RedisViewStore(redis, namespace)
        await redis.aclose()

    async def run(check: Check) -> None:
        async with opened() as store:
            await check(store)

    return lambda check: asyncio.run(run(check))


def test_a_new_view_is_empty_and_stands_at_zero(holds: Callable[[Check], None]) -> None:
    """Nothing stored: position 0 and no states, for named keys and for all."""

    async def check(store: ViewStore) -> None:
        assert await store.load("v", 0, ("a",)) == Stored(position=0, states={})
        assert await store.load("v", 0, ()) == Stored(position=0, states={})
        assert await store.load_all("v", 0) == Stored(position=0, states={})
        assert await store.standing("v", 0) == Standing(position=0, digest=EMPTY, keys_count=0)

    holds(check)


def test_states_and_position_are_stored_together(holds: Callable[[Check], None]) -> None:
    """A save changes the named keys and keeps the others; loading names only what was asked for and is there."""

    async def check(store: ViewStore) -> None:
        assert await store.save("v", 0, expected=0, position=3, changes={"a": b"1", "b": b"\x00\xff"})
        assert await store.save("v", 0, expected=3, position=4, changes={"b": b"2", "gâte": b""})
        assert await store.load("v", 0, ("a", "b", "c")) == Stored(position=4, states={"a": b"1", "b": b"2"})
        assert await store.load_all("v", 0) == Stored(position=4, states={"a": b"1", "b": b"2", "gâte": b""})
        assert await store.save("v", 0, expected=4, position=9, changes={})
        assert (await store.load("v", 0, ())).position == 9

    holds(check)


def test_views_and_partitions_are_apart(holds: Callable[[Check], None]) -> None:
    """The same key in another partition or view is another state."""

    async def check(store: ViewStore) -> None:
        assert await store.save("v", 0, expected=0, position=1, changes={"a": b"1"})
        assert await store.save("v", 1, expected=0, position=2, changes={"a": b"2"})
        assert await store.save("w", 0, expected=0, position=3, changes={"a": b"3"})
        found = [await store.load(view, partition, ("a",)) for view, partition in (("v", 0), ("v", 1), ("w", 0))]
        assert [(f.position, f.states["a"]) for f in found] == [(1, b"1"), (2, b"2"), (3, b"3")]

    holds(check)


@pytest.mark.parametrize("expected", [0, 2, 4, 10])
def test_a_save_on_a_wrong_position_writes_nothing(holds: Callable[[Check], None], expected: int) -> None:
    """Whoever was overtaken is refused, states and position untouched."""

    async def check(store: ViewStore) -> None:
        assert await store.save("v", 0, expected=0, position=3, changes={"a": b"1"})
        assert not await store.save("v", 0, expected=expected, position=11, changes={"a": b"2", "b": b"2"})
        assert await store.load_all("v", 0) == Stored(position=3, states={"a": b"1"})

    holds(check)


def test_a_save_on_other_states_writes_nothing(holds: Callable[[Check], None]) -> None:
    """Whoever goes on from what a save left is refused when that was replaced meanwhile, though the position is the same."""

    async def check(store: ViewStore) -> None:
        first = await store.save("v", 0, expected=0, position=3, changes={"a": b"1"})
        assert first == (await store.standing("v", 0)).digest
        second = await store.save("v", 0, expected=3, position=4, changes={"a": b"2"}, digest=first)
        assert second == (await store.standing("v", 0)).digest
        assert await store.replace("v", 0, Stored(position=4, states={"a": b"9"}))
        assert await store.save("v", 0, expected=4, position=5, changes={"a": b"3"}, digest=second) is None
        assert await store.load_all("v", 0) == Stored(position=4, states={"a": b"9"})

    holds(check)


def test_of_two_owners_at_once_one_is_refused(holds: Callable[[Check], None]) -> None:
    """Twenty try to move the same position; one does, and its states are what stands."""

    async def check(store: ViewStore) -> None:
        tries = [store.save("v", 0, expected=0, position=1, changes={"a": str(n).encode()}) for n in range(20)]
        (winner,) = (n for n, digest in enumerate(await asyncio.gather(*tries)) if digest)
        assert (await store.load_all("v", 0)).states == {"a": str(winner).encode()}

    holds(check)


def test_a_rebuilt_view_replaces_everything(holds: Callable[[Check], None]) -> None:
    """Keys that are no more are gone; an equal position is enough, an empty view goes too."""

    async def check(store: ViewStore) -> None:
        assert await store.save("v", 0, expected=0, position=3, changes={"a": b"1", "old": b"1"})
        states = {f"k{n}": str(n).encode() for n in range(2500)}
        assert await store.replace("v", 0, Stored(position=3, states=states))
        assert await store.load_all("v", 0) == Stored(position=3, states=states)
        assert await store.replace("v", 0, Stored(position=5, states={}))
        assert await store.load_all("v", 0) == Stored(position=5, states={})

    holds(check)


def test_the_running_digest_is_the_digest_of_what_is_held(holds: Callable[[Check], None]) -> None:
    """After any run of saves, refused saves and swaps it equals the digest made from nothing, whatever keys and states are."""

    async def check(store: ViewStore) -> None:
        rng, position = random.Random(5), 0
        keys = ("", "a", "a:b", "gâte", "1:a", "@sources", "\n", "x" * 300)
        for _ in range(60):
            states = {rng.choice(keys): rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(4))}
            if rng.random() < 0.1:
                await store.save("v", 0, expected=position + 1, position=position + 9, changes=states)
            elif rng.random() < 0.2:
                position += 1
                assert await store.replace("v", 0, Stored(position=position, states=states))
            else:
                assert await store.save("v", 0, expected=position, position=position + 1, changes=states)
                position += 1
            held = await store.load_all("v", 0)
            expected = Standing(position=position, digest=digest_of(held.states), keys_count=len(held.states))
            assert await store.standing("v", 0) == expected

    holds(check)


def test_the_digest_tells_views_apart() -> None:
    """A changed state, a missing key, an extra key and two states that changed places give other digests; order does not."""
    states = {"a": b"1", "b": b"2"}
    others: list[dict[str, bytes]] = [{"a": b"1", "b": b"3"}, {"a": b"1"}, {**states, "c": b""}, {"a": b"2", "b": b"1"}, {}]
    others += [{"a1": b"", "b": b"2"}, {"": b"a1", "b": b"2"}]
    assert digest_of({"b": b"2", "a": b"1"}) == digest_of(states)
    assert len({digest_of(other) for other in [states, *others]}) == 1 + len(others)


def test_what_happens_behind_the_stores_back_leaves_the_digest(stack: Any, namespace: Any) -> None:
    """Whoever changes Redis by hand is found out: the digest still tells what was written, and saving goes on over rubbish."""

    async def check() -> None:
        redis = Redis.from_url(stack.endpoints.redis_url)
        store = RedisViewStore(redis, namespace)
        states = namespace.redis_key("{v.0}", "states")
        assert await store.save("v", 0, expected=0, position=1, changes={"a": b"1"})
        before = await store.standing("v", 0)
        await redis.hset(states, "a", "2")
        assert await store.standing("v", 0) == before
        assert digest_of((await store.load_all("v", 0)).states) != before.digest
        await redis.set(namespace.redis_key("{v.0}", "digest"), "rubbish")
        assert await store.save("v", 0, expected=1, position=2, changes={"b": b"1"})
        assert (await store.standing("v", 0)).digest != digest_of((await store.load_all("v", 0)).states)
        await redis.aclose()

    asyncio.run(check())


def test_a_rebuilt_view_that_is_behind_is_refused(holds: Callable[[Check], None]) -> None:
    """The live one went on meanwhile: it stays as it is, and goes on."""

    async def check(store: ViewStore) -> None:
        assert await store.save("v", 0, expected=0, position=3, changes={"a": b"1"})
        assert not await store.replace("v", 0, Stored(position=2, states={"a": b"0"}))
        assert await store.load_all("v", 0) == Stored(position=3, states={"a": b"1"})
        assert await store.save("v", 0, expected=3, position=4, changes={"a": b"2"})

    holds(check)


def test_two_who_rebuild_at_once_do_not_mix(holds: Callable[[Check], None]) -> None:
    """Each swaps in its own whole view; what stands is one of the two, never parts of both."""

    async def check(store: ViewStore) -> None:
        wholes = [Stored(position=7, states={f"{who}{n}": b"x" for n in range(3000)}) for who in ("a", "b", "c")]
        await asyncio.gather(*(store.replace("v", 0, whole) for whole in wholes))
        assert await store.load_all("v", 0) in wholes

    holds(check)


def test_a_swapped_view_does_not_expire(stack: Any, namespace: Any) -> None:
    """What is left of a rebuild that died goes by itself; what was swapped in stays, and no shadow is left."""

    async def check() -> None:
        redis = Redis.from_url(stack.endpoints.redis_url)
        store = RedisViewStore(redis, namespace)
        assert await store.replace("v", 0, Stored(position=1, states={"a": b"1"}))
        keys = [key async for key in redis.scan_iter(match=f"hindsight.{namespace.prefix}*")]
        assert len(keys) == 3
        assert [await redis.ttl(key) for key in keys] == [-1, -1, -1]
        await redis.aclose()

    asyncio.run(check())


def test_a_store_that_is_away_is_named_as_that() -> None:
    """Every call ends in ViewStoreUnavailableError with what to do."""

    async def check() -> None:
        redis = Redis.from_url("redis://127.0.0.1:9/0", socket_timeout=1)
        store = RedisViewStore(redis)
        stored = Stored(position=1, states={"a": b"1"})
        for call in (
            lambda: store.standing("v", 0),
            lambda: store.load("v", 0, ("a",)),
            lambda: store.load_all("v", 0),
            lambda: store.save("v", 0, expected=0, position=1, changes={}),
            lambda: store.replace("v", 0, stored),
        ):
            with pytest.raises(ViewStoreUnavailableError) as raised:
                await call()
            assert raised.value.do
        await redis.aclose()

    asyncio.run(check())
