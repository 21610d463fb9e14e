"""Why a frame's bytes are gone: erased by which order, when, by whom; or removed by a rule of the store.

Orders are read from vision.erasures, and those that are not confirmed yet from vision.commands; both are small and kept
for ever. `TellingBlobs` puts the answer into the error of everybody who reads a blob that is not there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from processors.lookback.erasure import Span, frames_of
from schemas.catalogue import COMMANDS, ERASURES
from schemas.codec import Schemas
from schemas.envelope import rfc3339
from schemas.errors import BlobErasedError, BlobGoneError, HindsightError
from schemas.events import EraseFrames, ErasureRefused, FramesErased
from schemas.types import BlobRef, FrameRef
from streams.blob_names import name_of
from streams.events import events_of
from streams.past import Past
from streams.ports import BlobScope, BlobStore, EventLog, ExpiryRule

_DO = "the log still says what was read there: `hindsight at`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order to erase. `erased_at_us` is None while it is being carried out; then what it names may be readable still.

    Frames that lie at `frames_offsets` of their partitions or later came after it, and it is not about them.
    """

    order_id: str
    span: Span
    issued_by: str
    reason: str
    erased_at_us: int | None
    has_plain: bool
    frames_offsets: tuple[int, ...]
    key_ids: frozenset[str] = frozenset()

    @property
    def sentence(self) -> str:
        """Such as: erased by order GDPR-17 at 2026-11-22T10:00:00Z (asked by kim: subject request)."""
        asked = f"asked by {self.issued_by}" + (f": {self.reason}" if self.reason else "")
        if self.erased_at_us is None:
            return f"being erased by order {self.order_id} ({asked})"
        return f"erased by order {self.order_id} at {rfc3339(self.erased_at_us)} ({asked})"


class Orders:
    """All orders on a log, read when they are first asked for, and again up to what has come since."""

    def __init__(self, log: EventLog, schemas: Schemas) -> None:
        self._log = log
        self._schemas = schemas
        self._read_to: dict[str, int] = {}
        self._asked: dict[str, EraseFrames] = {}
        self._erased: dict[str, list[FramesErased]] = {}
        self._refused: set[str] = set()

    def all(self) -> tuple[Order, ...]:
        """Orders, those that are done first, each in the order of the log."""
        for event in self._news(COMMANDS):
            if isinstance(event, EraseFrames):
                self._asked.setdefault(event.order_id, event)
        for event in self._news(ERASURES):
            if isinstance(event, FramesErased):
                self._erased.setdefault(event.order_id, []).append(event)
            elif isinstance(event, ErasureRefused):
                self._refused.add(event.command_id)
        waiting = (c for c in self._asked.values() if c.order_id not in self._erased and c.command_id not in self._refused)
        return (*map(_done, self._erased.values()), *map(_waiting, waiting))

    def of(self, frame: FrameRef) -> Order | None:
        """The order that a capture falls under; one that is done before one that waits."""
        return next((o for o in self.all() if o.span.holds(frame)), None)

    def _news(self, topic: str) -> Iterator[Any]:
        start, end = self._read_to.get(topic, 0), self._log.bounds(topic, 0).end
        yield from (event for _, event in events_of(self._log, self._schemas, topic, 0, start=start, stop=end))
        self._read_to[topic] = end


def why_gone(past: Past, frame: FrameRef) -> str:
    """Why a frame's bytes are not there, as a sentence without its full stop; empty when they are there.

    Raises:
        TransientError: the log or the blob store does not answer.
    """
    if past.blobs.exists(frame.blob):
        return ""
    order = Orders(past.log, past.schemas).of(frame)
    if order is not None:
        return order.sentence
    return _by_rule(_rules_of(past.blobs), frame.blob) or "not in the blob store, and nothing on the log says why"


def erased_by(past: Past, frame: FrameRef | None) -> str:
    """The order by which a frame's bytes are gone, as a sentence without its full stop; empty when there is none, or when they
    came after it and can be read. Where the blob store cannot be asked, the log alone says it.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    order = None if frame is None else Orders(past.log, past.schemas).of(frame)
    if frame is None or order is None:
        return ""
    try:
        is_there = order.erased_at_us is not None and past.blobs.exists(frame.blob)
    except HindsightError:
        is_there = False
    return "" if is_there else order.sentence


class TellingBlobs:
    """A blob store that says why what it does not have is gone.

    Args:
        rules: Asks the store for its own rules of removal.
        by_digest: Whether the store knows bytes by their digest alone, as a bundle does: then those of an erased frame may lie
            there for the sake of another one with the same picture, and the erased frame has none all the same.
    """

    def __init__(
        self,
        blobs: BlobStore,
        log: EventLog,
        schemas: Schemas,
        rules: Callable[[], tuple[ExpiryRule, ...]] = tuple,
        *,
        by_digest: bool = False,
    ) -> None:
        self._by_digest = by_digest
        self._blobs = blobs
        self._log = log
        self._schemas = schemas
        self._rules = rules
        self._orders = Orders(log, schemas)
        self._plain: dict[str, frozenset[bytes]] = {}

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        return self._blobs.put(content, media_type, scope=scope)

    def exists(self, ref: BlobRef) -> bool:
        return self._blobs.exists(ref) and not self._lost_its_key(ref)

    def get(self, ref: BlobRef) -> bytes:
        try:
            if self._lost_its_key(ref):
                raise BlobGoneError(f"blob {ref.sha256}: its key was destroyed")
            return self._blobs.get(ref)
        except BlobErasedError:
            raise
        except BlobGoneError as error:
            order = self.order_of(ref)
            if order is not None:
                raise BlobErasedError(
                    f"blob {ref.sha256} was {order.sentence}", order_id=order.order_id, erased_at_us=order.erased_at_us, do=_DO
                ) from error
            rule = _by_rule(self._rules(), ref)
            if rule:
                raise BlobGoneError(f"{error}: {rule}", do=_DO) from error
            raise

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        return self._rules()

    def order_of(self, ref: BlobRef) -> Order | None:
        """The order by which a blob is gone: of an encrypted one its key's name says whose and when; a plain one is looked
        for among the frames of the orders, whose digests are read from the log once."""
        if ref.key_id is not None:
            return next((o for o in self._orders.all() if o.span.is_key_of(ref)), None)
        return next((o for o in self._orders.all() if o.has_plain and bytes.fromhex(ref.sha256) in self._digests(o)), None)

    def _lost_its_key(self, ref: BlobRef) -> bool:
        if not self._by_digest or ref.key_id is None:
            return False
        key_id = ref.key_id.rpartition("/")[0]
        return any(key_id in o.key_ids and o.span.is_key_of(ref) for o in self._orders.all())

    def _digests(self, order: Order) -> frozenset[bytes]:
        if order.order_id not in self._plain:
            found = (f.blob for f in frames_of(self._log, self._schemas, order.span))
            self._plain[order.order_id] = frozenset(bytes.fromhex(b.sha256) for b in found if _is_digest(b.sha256))
        return self._plain[order.order_id]


def _done(events: list[FramesErased]) -> Order:
    """An order that was carried out, once or again for what came later."""
    first = events[0]
    return Order(
        order_id=first.order_id,
        span=Span(device_id=first.device_id, from_us=first.captured_from_us, to_us=first.captured_to_us),
        issued_by=first.issued_by,
        reason=first.reason,
        erased_at_us=first.erased_at_us,
        has_plain=any(e.removed_count for e in events),
        frames_offsets=events[-1].frames_offsets,
        key_ids=frozenset(key_id for e in events for key_id in e.key_ids),
    )


def _waiting(command: EraseFrames) -> Order:
    return Order(
        order_id=command.order_id,
        span=Span(device_id=command.device_id, from_us=command.captured_from_us, to_us=command.captured_to_us),
        issued_by=command.issued_by,
        reason=command.reason,
        erased_at_us=None,
        has_plain=True,
        frames_offsets=(),
    )


def _rules_of(blobs: BlobStore) -> tuple[ExpiryRule, ...]:
    ask = getattr(blobs, "expiry_rules", None)
    return ask() if ask is not None else ()


def _by_rule(rules: tuple[ExpiryRule, ...], ref: BlobRef) -> str:
    """The store's rule that removes such blobs, if it has one."""
    name = name_of(ref)
    rule = next((r for r in rules if name.startswith(r.prefix)), None)
    return "" if rule is None else f"expired by rule {rule.name} ({rule.days} days)"


def _is_digest(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 32
    except ValueError:
        return False
