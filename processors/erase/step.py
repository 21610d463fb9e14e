"""Carries out an order: keys first, then bytes, then a look at whether anything can still be read, and then the event.

The command on vision.commands is what makes it last: it is acknowledged only when `FramesErased` is on the log, so a worker
that dies at any point does all of it again, and each part may be done twice. What is erased is found in the log every
time, and not in what is left of the store: the event is the same wherever it was interrupted. One partition has one
owner, and one order is carried out at a time.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from processors.erase import core
from processors.lookback.erasure import Span, derived_from, digest_of_list, ends_of, frames_of, named_as, named_elsewhere
from processors.step import NOTHING, Cause, Prepared
from schemas.catalogue import COMMANDS, FRAMES
from schemas.codec import Schemas
from schemas.errors import BlobStoreUnavailableError, ConfigurationError, DigestError
from schemas.events import EraseFrames
from schemas.types import BlobRef
from streams.blob_names import as_plain
from streams.events import events_of
from streams.ports import Erasing, EventLog
from streams.records import Clock

log = structlog.get_logger()
_NAMED_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NoState:
    """An order rests on the log alone."""


class EraseStep:
    """Reads vision.commands, and of it the orders to erase.

    Args:
        clock: Microseconds since the epoch.
    """

    name = "erase"
    topic = COMMANDS
    state_type = NoState
    initial = NoState()

    def __init__(self, event_log: EventLog, schemas: Schemas, blobs: Erasing, clock: Clock) -> None:
        self._log = event_log
        self._schemas = schemas
        self._blobs = blobs
        self._clock = clock

    def key(self, event: Any) -> str | None:
        return None

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if not isinstance(event, EraseFrames):
            return NOTHING
        return Prepared(answer=await asyncio.to_thread(self.carry_out, event, cause.position.offset))

    def decide(self, state: NoState, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return core.decide(event, answer, cause) if isinstance(event, EraseFrames) else ()

    def fold(self, state: NoState, event: Any) -> NoState:
        return state

    def carry_out(self, command: EraseFrames, offset: int) -> core.Erased | core.Refused:
        """Erase, and come back when nothing of it can be read.

        Args:
            offset: Where the command lies.
        Raises:
            TransientError: the store or the log is away; to be done again.
        """
        refusal = core.refusal_of(command, self._earlier(command, offset))
        if refusal is not None:
            return refusal
        span = Span(device_id=command.device_id, from_us=command.captured_from_us, to_us=command.captured_to_us)
        log.info("erasing", order=command.order_id, device=span.device_id, from_us=span.from_us, to_us=span.to_us)
        try:
            return self._erase(span)
        except (ConfigurationError, DigestError) as error:
            return core.Refused(refusal="no_key", detail=f"{error}; what could be erased without it is")

    def _erase(self, span: Span) -> core.Erased:
        # What the log says of it is read before: a key that is gone lists nothing.
        ends = ends_of(self._log, FRAMES)
        counts, digest = digest_of_list(derived_from(self._log, self._schemas, span))
        frames: dict[str, BlobRef] = {}
        blobs: set[BlobRef] = set()  # a frame that was sent again may lie in two places
        for frame in frames_of(self._log, self._schemas, span, stops=ends):
            frames[frame.frame_id] = frame.blob
            blobs.add(frame.blob)
        key_ids = self._blobs.destroy_keys(span.device_id, span.from_us, span.to_us)
        named = {b.key_id.rpartition("/")[0] for b in blobs if b.key_id is not None and span.is_key_of(b)}
        kept = self._discard(span, blobs)
        log.info("erased", device=span.device_id, frames=len(frames), keys=len(key_ids), kept=len(kept))
        return core.Erased(
            frames_count=len(frames),
            frames_offsets=ends,
            key_ids=tuple(sorted(named | set(key_ids))),
            encrypted_count=sum(b.key_id is not None for b in frames.values()),
            removed_count=sum(b.key_id is None and b.sha256 not in kept for b in frames.values()),
            kept_sha256=tuple(sorted(kept))[:_NAMED_MOST],
            kept_count=len(kept),
            derived_counts=counts,
            derived_digest=digest,
            erased_at_us=self._clock(),
        )

    def _discard(self, span: Span, blobs: set[BlobRef]) -> set[str]:
        """Remove the bytes, but those that frames which stay name as well; gives the digests of these.

        An encrypted frame may have a plain copy too, which an imported bundle brought. A record may name bytes under another
        device's or another time's key, which only a mistake or a forger does: these are somebody else's first of all.
        """
        own = {ref for ref in blobs if ref.key_id is not None and span.is_key_of(ref)}
        for ref in own:
            if ref.segment is None:  # in a segment it is worth nothing without its key, and lies among what stays
                self._each(ref)
        others = {named_as(ref): ref for ref in {*map(as_plain, blobs), *(blobs - own)} if self._is_there(ref)}
        kept = named_elsewhere(self._log, self._schemas, span, set(others))
        going = [ref for name, ref in others.items() if name not in kept]
        if in_segments := [ref for ref in going if ref.segment is not None]:
            self._blobs.wipe(in_segments)
        for ref in going:
            if ref.segment is None:
                self._each(ref)
        left = [r.sha256 for r in blobs if not {named_as(r), named_as(as_plain(r))} & kept and self._is_there(r)]
        if left:
            raise BlobStoreUnavailableError(f"{len(left)} blobs can still be read, such as {left[0]}")
        return {sha256 for _, sha256, _ in kept}

    def _each(self, ref: BlobRef) -> None:
        try:
            self._blobs.discard(ref)
        except DigestError:
            return  # the record named what no store holds

    def _is_there(self, ref: BlobRef) -> bool:
        try:
            return self._blobs.exists(ref)
        except DigestError:
            return False

    def _earlier(self, command: EraseFrames, offset: int) -> EraseFrames | None:
        for _, event in events_of(self._log, self._schemas, COMMANDS, 0, stop=offset):
            if isinstance(event, EraseFrames) and event.order_id == command.order_id:
                return event
        return None
