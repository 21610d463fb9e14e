"""The states of one step's partition, as the view store keeps them beside the position that they reflect.

Guarantees: states and position move together or not at all; a store that is behind is caught up from the log, emitting
nothing; one that is ahead of the log is not believed. `partition` asks here before it decides, and stores here before
it acknowledges.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from processors.aside import ASIDE_KEY, Aside, Kept
from processors.redriven import REDRIVABLE, Redriven, redriven_of
from processors.repeats import SOURCES_KEY, Seen, Watch, refuse_reserved, told_by, writer_of
from processors.step import Ports, Step
from schemas.catalogue import COMMANDS, FRAMES
from schemas.codec import decode
from schemas.errors import ConsistencyError, ContractError, DecodeError, TransientError
from schemas.events import RedriveLetters
from schemas.plain import canonical_json, from_plain
from streams.ports import Stored
from streams.records import Record

S = TypeVar("S")
log = structlog.get_logger()
_CATCH_UP_RECORDS = 2000
_STATES_HELD = 1024


@dataclass(slots=True, kw_only=True)
class Held(Generic[S]):
    """States as they are at a position, for whoever takes the records that follow; `digest` is None when only loaded.

    States that are not stored are the step's initial one.
    """

    position: int
    states: dict[str, S]
    watch: Watch
    aside: Aside
    digest: str | None = None


class KeptStates(Generic[S]):
    """States of one partition of one step.

    What was stored last is held, so that the next batch asks the store for nothing that it has. Nobody is trusted to leave the
    store alone meanwhile: the next save goes through only if position and digest are still what the last one left.
    """

    def __init__(self, step: Step[S], ports: Ports[S], partition: int) -> None:
        self._step = step
        self._ports = ports
        self._partition = partition
        self._beside = (SOURCES_KEY, ASIDE_KEY) if step.name in REDRIVABLE.values() else (SOURCES_KEY,)
        self._held: Held[S] | None = None

    def decode(self, record: Record) -> tuple[Any, str | None]:
        """The record's event, and whose state it belongs to.

        Raises:
            ContractError: it is not an event of this topic, or claims a name that is reserved.
        """
        event = decode(record.value, record.topic, self._ports.schemas)
        key = self._step.key(event)
        refuse_reserved(key)
        return event, key

    async def take(self, keys: tuple[str, ...], offset: int) -> Held[S]:
        """States at `offset` or further, for one batch: `put` stores what it changed, and without that they are given up.

        Raises:
            ConsistencyError: as `load`, or what is stored was not written by this version.
            TransientError: as `load`.
        """
        held, self._held = self._held, None
        if held is not None and held.position == offset:
            missing = tuple(key for key in keys if key not in held.states)
            if not missing:
                return held
            stored = await self._ports.views.load(self._step.name, self._partition, missing)
            if stored.position == offset:
                held.states |= self._states(stored, missing)
                return held
        stored = await self.load(keys, offset)
        states, seen = self.unpack(stored, keys)
        return Held(position=stored.position, states=states, watch=Watch(seen), aside=self.aside(stored))

    async def put(self, held: Held[S], position: int, changed: Collection[str]) -> None:
        """Store the states of `held` that changed, and hold them.

        Raises:
            TransientError: the stored ones are not those that `held` began with, or the view store is away.
        """
        states = {key: held.states[key] for key in changed}
        held.digest = await self.save(held.position, position, states, held.watch.seen, held.aside, held.digest)
        held.position = position
        for key in list(held.states)[: max(0, len(held.states) - _STATES_HELD)]:
            del held.states[key]
        self._held = held

    async def load(self, keys: tuple[str, ...], offset: int) -> Stored:
        """The named states and the position, which is `offset` or further; caught up from the log when it was not.

        Raises:
            ConsistencyError: the position is beyond the end of the log.
            TransientError: the view store or the log is away, or another owner moved the position meanwhile.
        """
        while (
            stored := await self._ports.views.load(self._step.name, self._partition, (*keys, *self._beside))
        ).position < offset:
            earliest = (await asyncio.to_thread(self._ports.log.bounds, self._step.topic, self._partition)).earliest
            if stored.position < earliest and await self._begin_at_a_snapshot(stored.position, earliest, offset):
                continue
            start = max(stored.position, min(earliest, offset))
            await self._catch_up(stored.position, start, min(offset, start + _CATCH_UP_RECORDS))
        if stored.position > offset:
            await self._believe(stored.position)
        return stored

    def was_asked_for(self, redriven: Redriven) -> bool:
        """Whether the command that a copy names asked for it. On a topic that others write to, headers may say anything.

        What commands were is kept for ever; one that is not there is none.

        Raises:
            TransientError: the log is away.
        """
        offset, index = redriven.source.offset, redriven.source.index
        bounds = self._ports.log.bounds(COMMANDS, 0)
        if not bounds.earliest <= offset < bounds.end:
            return False
        record = next(iter(self._ports.log.read(COMMANDS, 0, offset, offset + 1)), None)
        try:
            command = None if record is None or record.offset != offset else decode(record.value, COMMANDS, self._ports.schemas)
        except ContractError:
            return False
        if not isinstance(command, RedriveLetters) or command.command_id != redriven.command_id:
            return False
        return index < len(command.letter_offsets) and command.letter_offsets[index] == redriven.letter_offset

    async def save(
        self, expected: int, position: int, states: Mapping[str, S], seen: Seen, aside: Aside, digest: str | None = None
    ) -> str:
        """Store changed states with their new position, if what is stored is still what is expected; gives the new digest.

        Raises:
            TransientError: it is not, or the view store is away.
        """
        changes = {key: canonical_json(state) for key, state in states.items()}
        changes[SOURCES_KEY] = canonical_json(seen)
        if ASIDE_KEY in self._beside:
            changes[ASIDE_KEY] = canonical_json(aside.kept)
        saved = await self._ports.views.save(
            self._step.name, self._partition, expected=expected, position=position, changes=changes, digest=digest
        )
        if saved is None:
            raise TransientError(f"{self._step.name} {self._partition}: another owner moved the position; looking again")
        return saved

    def unpack(self, stored: Stored, keys: tuple[str, ...]) -> tuple[dict[str, S], Seen]:
        """States by key, and the sources seen.

        Raises:
            ConsistencyError: what is stored was not written by this version.
        """
        states = self._states(stored, keys)
        try:
            raw = stored.states.get(SOURCES_KEY)
            return states, Seen() if raw is None else from_plain(Seen, json.loads(raw))
        except (DecodeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _states(self, stored: Stored, keys: tuple[str, ...]) -> dict[str, S]:
        cls, initial = self._step.state_type, self._step.initial
        raw = {key: stored.states.get(key) for key in keys}
        try:
            return {key: initial if text is None else from_plain(cls, json.loads(text)) for key, text in raw.items()}
        except (DecodeError, ValueError) as error:
            raise self._unreadable(error) from error

    def aside(self, stored: Stored) -> Aside:
        """What the states came past and do not hold.

        Raises:
            ConsistencyError: what is stored was not written by this version.
        """
        raw = stored.states.get(ASIDE_KEY)
        if raw is None:
            return Aside(Kept(known_from=stored.position))
        try:
            return Aside(from_plain(Kept, json.loads(raw)))
        except (DecodeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ConsistencyError:
        return ConsistencyError(
            f"{self._step.name} {self._partition}: a stored state cannot be read: {error}",
            do="empty this view in the view store; it is built anew from the log",
        )

    async def _begin_at_a_snapshot(self, position: int, earliest: int, offset: int) -> bool:
        """Records that the states have not counted are gone from the log: a snapshot of a view has counted them."""
        name = self._step.name
        base = await asyncio.to_thread(self._ports.snapshot, name, self._partition, offset)
        if base is None or base.position <= position:
            log.error("records that were never counted are gone", processor=name, partition=self._partition, kept_from=earliest)
            return False
        log.info("beginning at a snapshot", processor=name, partition=self._partition, position=base.position)
        return await self._ports.views.replace(name, self._partition, base)

    async def _catch_up(self, position: int, start: int, stop: int) -> None:
        """Fold a piece of the log, emitting nothing: what it caused is on the log already."""
        name, topic = self._step.name, self._step.topic
        log.info("catching up", processor=name, partition=self._partition, start=start, stop=stop)
        records = await asyncio.to_thread(lambda: list(self._ports.log.read(topic, self._partition, start, stop)))
        found = [(*(self._event_or_none(r) or (None, None)), r) for r in records]
        keys = tuple(sorted({k for _, k, _ in found if k is not None}))
        stored = await self._ports.views.load(name, self._partition, (*keys, *self._beside))
        if stored.position != position:
            return  # somebody else caught it up meanwhile, in part or whole
        states, seen = self.unpack(stored, keys)
        aside = self.aside(stored)
        aside.begin_at(start if start > position else 0)
        changed: set[str] = set()
        for event, key, record in found:
            told, redriven = told_by(event, record, name), redriven_of(record)
            if redriven is not None and topic == FRAMES and not await asyncio.to_thread(self.was_asked_for, redriven):
                told, redriven = (event, writer_of(record)), None
            counted = redriven is not None and aside.is_counted(redriven)
            if event is None:
                if told is not None and not counted:
                    aside.add(record.offset)
            elif told is not None and not seen.is_repeat(*told):
                seen = seen.with_event(*told)
                if key is not None and not counted:
                    states[key] = self._step.fold(states[key], event)
                    changed.add(key)
                if redriven is not None:
                    aside.count(redriven)
        await self.save(position, stop, {key: states[key] for key in changed}, seen, aside)

    async def _believe(self, position: int) -> None:
        """A position may be ahead of what comes next, but not of the log: then it belongs to another log."""
        end = (await asyncio.to_thread(self._ports.log.bounds, self._step.topic, self._partition)).end
        if position > end:
            raise ConsistencyError(
                f"{self._step.name} {self._partition}: the view store reflects {position} records, and the log holds {end}",
                do="the view store belongs to another log, or the log was cut: empty it, and it is built anew from the log",
            )

    def _event_or_none(self, record: Record) -> tuple[Any, str | None] | None:
        try:
            return self.decode(record)
        except ContractError:
            return None
