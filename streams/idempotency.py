"""What a door remembers of submissions for a while: which idempotency key stands for which task, and which tasks
were just submitted.

A reservation is made before publishing and settled after it. A crash in between leaves it unsettled, and whoever
comes again with the key publishes the same frame, with the same id, so the frame is neither lost nor doubled. The
`Intake` of the HTTP gateway acts on it; forgetting everything costs a repeat its recognition, never a frame.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.errors import ViewStoreUnavailableError
from streams.names import Namespace
from streams.records import Position

_TTL_S = 24 * 3600
_RESERVE = """
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
"""

Outcome = Literal["reserved", "published", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """One submission under a device's idempotency key.

    Args:
        fingerprint: Digest of what was submitted; the same key with another one is a mistake of the client.
        captured_at_us: What the frame carries, so that a repeat without a time of its own publishes the same frame.
        outcome: "reserved" until the log holds the frame ("published") or its refusal ("refused").
    """

    task_id: str
    fingerprint: str
    captured_at_us: int
    outcome: Outcome = "reserved"


class Submissions(Protocol):
    """Reservations by device and key, and marks of tasks that the views may not show yet. Kept for a limited time."""

    async def reserve(self, device_id: str, key: str, wanted: Reservation) -> Reservation:
        """The reservation in force: `wanted`, unless the key is taken; one atomic step.

        Raises:
            ViewStoreUnavailableError: no answer.
        """

    async def settle(self, device_id: str, key: str, reservation: Reservation) -> None:
        """Write a reservation's outcome; nothing happens when it expired."""

    async def mark_submitted(self, task_id: str, device_id: str, position: Position) -> None:
        """Remember that the log holds this task's frame."""

    async def submitted(self, task_id: str) -> str | None:
        """The device of a task that was marked, or None."""


class MemorySubmissions:
    """`Submissions` in dicts; nothing expires."""

    def __init__(self) -> None:
        self._reservations: dict[tuple[str, str], Reservation] = {}
        self._marks: dict[str, str] = {}

    async def reserve(self, device_id: str, key: str, wanted: Reservation) -> Reservation:
        return self._reservations.setdefault((device_id, key), wanted)

    async def settle(self, device_id: str, key: str, reservation: Reservation) -> None:
        if (device_id, key) in self._reservations:
            self._reservations[device_id, key] = reservation

    async def mark_submitted(self, task_id: str, device_id: str, position: Position) -> None:
        self._marks[task_id] = device_id

    async def submitted(self, task_id: str) -> str | None:
        return self._marks.get(task_id)


class RedisSubmissions:
    """`Submissions` in Redis.

    Args:
        redis: A client that gives bytes (decode_responses off).
        ttl_s: How long keys and marks are kept, in seconds.
    """

    def __init__(self, redis: Redis, namespace: Namespace = Namespace(), *, ttl_s: int = _TTL_S) -> None:
        self._redis = redis
        self._namespace = namespace
        self._ttl_s = ttl_s

    async def reserve(self, device_id: str, key: str, wanted: Reservation) -> Reservation:
        async with _translated():
            found = await self._redis.eval(_RESERVE, 1, self._key(device_id, key), _text(asdict(wanted)), self._ttl_s)
        return Reservation(**json.loads(found))

    async def settle(self, device_id: str, key: str, reservation: Reservation) -> None:
        async with _translated():
            await self._redis.set(self._key(device_id, key), _text(asdict(reservation)), xx=True, keepttl=True)

    async def mark_submitted(self, task_id: str, device_id: str, position: Position) -> None:
        mark = {"device_id": device_id, **asdict(position)}
        async with _translated():
            await self._redis.set(self._mark(task_id), _text(mark), ex=self._ttl_s)

    async def submitted(self, task_id: str) -> str | None:
        async with _translated():
            found = await self._redis.get(self._mark(task_id))
        return None if found is None else str(json.loads(found)["device_id"])

    def _key(self, device_id: str, key: str) -> str:
        # A digest, since clients choose the key and its length.
        name = hashlib.sha256(f"{device_id}\x1f{key}".encode()).hexdigest()
        return self._namespace.redis_key("submissions", "key", name)

    def _mark(self, task_id: str) -> str:
        return self._namespace.redis_key("submissions", "task", task_id)


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise ViewStoreUnavailableError(f"Redis: {error}", do="check that Redis runs: `hindsight status`") from error
