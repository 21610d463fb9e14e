"""Carries out what is asked about dead letters: looks at each letter, puts the records onto their topics again, then says so.

The command on vision.commands is what makes it last: it is acknowledged only when an event for each of its letters is on the
log, so a worker that dies at any point does all of it again. What it said or wrote before it died stands: its own events and
copies are looked for first, and nothing is decided or written twice. A copy that was still under way then is a repeat that
the reader drops, since both name the same command and place. Else it decides by what earlier commands did, and by what the
processor made of the record; a processor that has not come past it yet is waited for, since it may still make something of
it. After a while such a letter is refused, so that it does not hold up what others ask. One command is carried out at a time,
its letters in the order in which they are named.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from processors.letters import Letter, again
from processors.redrive import core
from processors.redrive.looking import Answer, Said, answers, copies, keys_of, letter_at, said
from processors.redriven import REDRIVABLE, redriven_of
from processors.step import NOTHING, Cause, Prepared
from processors.views.letters import LetterState
from schemas.catalogue import COMMANDS, DEAD_LETTERS
from schemas.codec import Schemas, decode
from schemas.errors import ContractError, TransientError
from schemas.events import DiscardLetters, InferenceFailed, RedriveLetters
from schemas.types import EventId, SourcePosition, Superseded
from streams.ports import Appender, EventLog, ViewStore
from streams.records import Outgoing, Record, hold_size

log = structlog.get_logger()
_WAIT_MOST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoState:
    """A command rests on the log alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToWrite:
    """A copy to be written, or that lies there already."""

    letter: Letter
    out: Outgoing
    lies_at: int | None
    supersedes: EventId | None


class RedriveStep:
    """Reads vision.commands, and of it what is asked about dead letters.

    Args:
        views: Asked how far each processor has come.
        attempts_max: How often a record may be redriven.
    """

    name = "redrive"
    topic = COMMANDS
    state_type = NoState
    initial = NoState()

    def __init__(self, event_log: EventLog, appender: Appender, views: ViewStore, schemas: Schemas, *, attempts_max: int) -> None:
        self._log = event_log
        self._views = views
        self._appender = appender
        self._schemas = schemas
        self._attempts_max = attempts_max
        self._waited_since: dict[str, float] = {}

    def key(self, event: Any) -> str | None:
        return None

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if not isinstance(event, RedriveLetters | DiscardLetters):
            return NOTHING
        letters = await asyncio.to_thread(lambda: {offset: letter_at(self._log, offset) for offset in event.letter_offsets})
        behind = frozenset[int]()
        if isinstance(event, RedriveLetters):
            behind = await self._behind(event.command_id, [letter for letter in letters.values() if letter is not None])
        planned = await asyncio.to_thread(lambda: tuple(self._planned(event, cause, letters, behind)))
        waiting = {
            index: self._appender.append(one.out)
            for index, one in enumerate(planned)
            if isinstance(one, _ToWrite) and one.lies_at is None
        }
        positions = dict(zip(waiting, await asyncio.gather(*waiting.values()), strict=True))
        outcomes: list[core.Redone | core.Put | core.Refused] = []
        for index, one in enumerate(planned):
            if isinstance(one, _ToWrite):
                offset = positions[index].offset if one.lies_at is None else one.lies_at
                outcomes.append(core.Redone(letter=one.letter, copy_offset=offset, supersedes=one.supersedes))
            else:
                outcomes.append(one)
        log.info("letters", command=event.command_id, named=len(planned), written=len(waiting), by=event.issued_by)
        return Prepared(answer=tuple(outcomes))

    def decide(self, state: NoState, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return core.decide(event, answer, cause) if isinstance(event, RedriveLetters | DiscardLetters) else ()

    def fold(self, state: NoState, event: Any) -> NoState:
        return state

    async def _behind(self, command_id: str, letters: list[Letter]) -> frozenset[int]:
        """Letters whose processor has not come past their record: it may still make something of it, and is waited for a while.

        Raises:
            TransientError: one has not; to be asked again.
        """
        behind = {letter.offset: letter for letter in letters if await self._is_behind(letter)}
        now_s = asyncio.get_running_loop().time()
        if behind and now_s < self._waited_since.setdefault(command_id, now_s) + _WAIT_MOST_S:
            letter = next(iter(behind.values()))
            raise TransientError(f"{letter.processor} has not come past {letter.of} yet")
        self._waited_since.pop(command_id, None)
        return frozenset(behind)

    async def _is_behind(self, letter: Letter) -> bool:
        if REDRIVABLE.get(letter.topic) != letter.processor or letter.partition not in self._log.partitions(letter.topic):
            return False
        position = (await self._views.load(letter.processor, letter.partition, ())).position
        return position <= letter.of_offset < (await asyncio.to_thread(self._log.bounds, letter.topic, letter.partition)).end

    def _planned(
        self,
        command: RedriveLetters | DiscardLetters,
        cause: Cause,
        letters: Mapping[int, Letter | None],
        behind: frozenset[int],
    ) -> Iterator[_ToWrite | core.Redone | core.Put | core.Refused]:
        """What is to be done about each letter, by the log as it was before the command."""
        seen = said(self._log, self._schemas, cause.position.offset)
        open_ones = {letter.offset: letter for letter in letters.values() if letter is not None and letter.is_ours}
        copied, answered = dict[tuple[str, int], dict[int, Record]](), dict[int, Answer]()
        if isinstance(command, RedriveLetters):
            record = next(iter(self._log.read(COMMANDS, 0, cause.position.offset, cause.position.offset + 1)))
            copied = copies(self._log, open_ones.values(), cause.position.offset, record.appended_at_ms)
            answered = answers(self._log, self._schemas, [(x, keys_of(x, self._schemas)) for x in open_ones.values()], seen.done)
        named = set[str]()
        for index, offset in enumerate(command.letter_offsets):
            letter = letters[offset]
            if index in seen.own:
                yield core.outcome_of(seen.own[index], letter)
                continue
            if letter is None:
                detail = f"{DEAD_LETTERS} does not hold {offset}, or not any more"
                yield core.Refused(letter_offset=offset, refusal="no_such_letter", detail=detail)
                continue
            known = self._known(letter, seen, answered.get(offset))
            known = replace(known, is_named_before=letter.case in named, is_behind=offset in behind)
            named.add(letter.case)
            if isinstance(command, DiscardLetters):
                yield core.refusal_of_discard(letter, known) or core.Put(letter=letter)
            else:
                beyond = command.beyond_limit and len(command.letter_offsets) == 1
                here = copied.get((letter.topic, letter.partition), {})
                yield self._redrive(letter, known, core.place(cause, index), command.command_id, here, beyond)

    def _known(self, letter: Letter, seen: Said, answer: Answer | None) -> core.Known:
        partitions = self._log.partitions(letter.topic) if letter.is_ours else ()
        superseded = False
        if letter.processor == "derive" and seen.superseded:
            with suppress(ContractError):
                superseded = decode(letter.value, letter.topic, self._schemas).event_id in seen.superseded
        return core.Known(
            done=seen.done.get(letter.case, LetterState()),
            is_named_before=False,
            partitions=partitions,
            followed=None if answer is None else answer.event,
            end=self._log.bounds(letter.topic, letter.partition).end if letter.partition in partitions else 0,
            lacks_result=answer is not None and answer.lacks_result,
            is_superseded=superseded,
        )

    def _redrive(
        self,
        letter: Letter,
        known: core.Known,
        source: SourcePosition,
        command_id: str,
        copied: Mapping[int, Record],
        beyond: bool,
    ) -> _ToWrite | core.Refused:
        """What is to be done about one letter, where the command's earlier try wrote `copied` onto its partition."""
        copy = copied.get(source.index)
        if copy is not None:
            redone = redriven_of(copy)
            superseded = None if redone is None else redone.supersedes
            out, _ = again(letter, source, command_id)
            before = None if superseded is None else superseded.inference_id
            return _ToWrite(letter=letter, out=out, lies_at=copy.offset, supersedes=before)
        if source.index < max(copied, default=-1):
            detail = "it was passed over when the command began, and what comes after it is written; ask again"
            return core.Refused(letter_offset=letter.offset, refusal="passed_over", detail=detail)
        answer = known.followed
        refusal = core.refusal_of_redrive(letter, known, attempts_max=self._attempts_max, beyond_limit=beyond)
        if refusal is not None:
            return refusal
        if isinstance(answer, InferenceFailed):
            letter = replace(letter, superseded=Superseded(inference_id=answer.event_id, release=answer.release))
        out, redriven = again(letter, source, command_id)
        try:
            hold_size(out)
        except ContractError as error:
            return core.Refused(letter_offset=letter.offset, refusal="too_long", detail=str(error))
        before = None if redriven.supersedes is None else redriven.supersedes.inference_id
        return _ToWrite(letter=letter, out=out, lies_at=None, supersedes=before)
