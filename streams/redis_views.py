"""The `ViewStore` on Redis: for each view and partition one hash of states, one position and one digest, moved together.

The three keys share a hash tag, so they live on one node of a cluster, and a script writes all or none.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.errors import ViewStoreUnavailableError
from streams.names import Namespace
from streams.ports import Standing, Stored
from streams.view_digest import EMPTY, digest_of

_SAVE = """
local words, digest = {}, redis.call('GET', KEYS[3])
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) then return false end
if ARGV[3] ~= '' and ARGV[3] ~= digest then return false end
for i = 1, 5 do words[i] = digest and tonumber(string.sub(digest, i * 8 - 7, i * 8), 16) or 0 end
local function toggle(key, state)
  local item = redis.sha1hex(#key .. ':' .. key .. state)
  for i = 1, 5 do words[i] = bit.bxor(words[i], tonumber(string.sub(item, i * 8 - 7, i * 8), 16)) end
end
for i = 4, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[i])
  if before then toggle(ARGV[i], before) end
  toggle(ARGV[i], ARGV[i + 1])
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = 1, 5 do words[i] = bit.tohex(words[i]) end
digest = table.concat(words)
redis.call('SET', KEYS[3], digest)
redis.call('SET', KEYS[2], ARGV[2])
return digest
"""
_SWAP = """
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('RENAME', KEYS[4], KEYS[1])
  redis.call('PERSIST', KEYS[1])
end
redis.call('SET', KEYS[3], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""
_SHADOW_BATCH = 1000
_SHADOW_LIVES_S = 600


class RedisViewStore:
    """Views of one namespace in one Redis.

    Args:
        redis: A client that gives bytes (decode_responses off).
    """

    def __init__(self, redis: Redis, namespace: Namespace = Namespace()) -> None:
        self._redis = redis
        self._namespace = namespace

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        async with _Translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._position_key(view, partition))
            if keys:
                pipe.hmget(self._states_key(view, partition), list(keys))
            answers = await pipe.execute()
        found = zip(keys, answers[1] if keys else (), strict=True)
        return Stored(position=int(answers[0] or 0), states={k: v for k, v in found if v is not None})

    async def standing(self, view: str, partition: int) -> Standing:
        async with _Translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._position_key(view, partition))
            pipe.get(self._digest_key(view, partition))
            pipe.hlen(self._states_key(view, partition))
            position, digest, keys_count = await pipe.execute()
        return Standing(position=int(position or 0), digest=digest.decode() if digest else EMPTY, keys_count=keys_count)

    async def load_all(self, view: str, partition: int) -> Stored:
        async with _Translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._position_key(view, partition))
            pipe.hgetall(self._states_key(view, partition))
            position, states = await pipe.execute()
        return Stored(position=int(position or 0), states={k.decode(): v for k, v in states.items()})

    async def save(
        self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes], digest: str | None = None
    ) -> str | None:
        pairs = [part for key in sorted(changes) for part in (key, changes[key])]
        keys = (self._states_key(view, partition), self._position_key(view, partition), self._digest_key(view, partition))
        async with _Translated():
            answer = await self._redis.eval(_SAVE, len(keys), *keys, expected, position, digest or "", *pairs)
            return None if answer is None else answer.decode()

    async def replace(self, view: str, partition: int, stored: Stored) -> bool:
        live = self._states_key(view, partition)
        position, digest = self._position_key(view, partition), self._digest_key(view, partition)
        shadow = f"{live}:shadow:{uuid.uuid4().hex}"  # its own, since two may rebuild at once
        names = sorted(stored.states)
        async with _Translated():
            for start in range(0, len(names), _SHADOW_BATCH):
                batch = {k: stored.states[k] for k in names[start : start + _SHADOW_BATCH]}
                await self._redis.hset(shadow, mapping=batch)  # type: ignore[arg-type]
                await self._redis.expire(shadow, _SHADOW_LIVES_S)
            swapped = await self._redis.eval(_SWAP, 4, live, position, digest, shadow, stored.position, digest_of(stored.states))
            await self._redis.delete(shadow)
        return bool(swapped)

    def _states_key(self, view: str, partition: int) -> str:
        return self._namespace.redis_key(f"{{{view}.{partition}}}", "states")

    def _position_key(self, view: str, partition: int) -> str:
        return self._namespace.redis_key(f"{{{view}.{partition}}}", "position")

    def _digest_key(self, view: str, partition: int) -> str:
        return self._namespace.redis_key(f"{{{view}.{partition}}}", "digest")


class _Translated:
    """Redis' errors as ours."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (RedisError, OSError)):
            raise ViewStoreUnavailableError(f"Redis: {error}", do="check that Redis runs: `hindsight status`") from error
