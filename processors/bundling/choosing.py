"""Walking through a window for what its records need: their causes, the blobs that they name, the schemas that wrote them.

Every record of the window is decoded once. A cause that lies before the window is wanted too, and its cause, until nothing
is: so every lineage that the window shows is whole, as far as the log still holds it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from processors.bundling.spans import Snapshot, Span, Window, parts_of
from processors.bundling.wanted import Wanted
from processors.dead_letters import PREFIX
from processors.repeats import source_of
from schemas.catalogue import DEAD_LETTERS, MONITORING, RELEASES
from schemas.codec import decode, unframe
from schemas.envelope import header
from schemas.errors import ContractError, DigestError
from schemas.events import ModelRegistered, ReleaseRegistered, SnapshotTaken
from schemas.types import BlobRef, SourcePosition
from streams.blob_names import hold_name
from streams.past import Past
from streams.records import Record

_TOLD_EACH = 1000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a release of the window pins, with its files."""

    name: str
    version: int
    digest: str
    files: tuple[BlobRef, ...]


class Choosing:
    """Gathers into `wanted`; `models` is what `--with-models` brought in.

    Args:
        spans: Of every partition.
        with_models: Whether the files of models belong to the bundle.
    """

    def __init__(self, past: Past, window: Window, spans: tuple[Span, ...], wanted: Wanted, *, with_models: bool) -> None:
        self._past = past
        self._window = window
        self._spans: Mapping[tuple[str, int], Span] = {(s.topic, s.partition): s for s in spans}
        self._wanted = wanted
        self._with_models = with_models
        self._pinned: set[str] = set()
        self._registered: dict[str, Model] = {}

    @property
    def models(self) -> tuple[Model, ...]:
        """Models that releases pin, by digest."""
        return tuple(self._registered[d] for d in sorted(self._pinned & self._registered.keys()))

    def choose(self, snapshots: Mapping[tuple[str, int], Snapshot], progress: Progress) -> None:
        """Walk through everything.

        Raises:
            TransientError: a server does not answer.
        """
        for snapshot in snapshots.values():
            self._want_cause(
                SourcePosition(
                    topic=MONITORING, partition=snapshot.announced.partition, offset=snapshot.announced.offset, index=0
                )
            )
            for blob in snapshot.blobs:
                self._want_blob(blob)
        total = sum(s.stop - s.earliest for s in self._spans.values())
        done = 0
        for span in self._spans.values():
            for number, record in enumerate(self._past.log.read(span.topic, span.partition, span.earliest, span.stop), start=1):
                if self._window.keeps(record):
                    self._note(record, in_window=record.offset >= span.start)
                if number % _TOLD_EACH == 0:
                    progress("records looked at", done + number, total)
            done += span.stop - span.earliest
        progress("records looked at", total, total)
        self._follow_causes()
        for model in self.models:
            for file in model.files:
                self._want_blob(file)

    def _note(self, record: Record, *, in_window: bool) -> None:
        """Take in what a record of the bundle needs."""
        try:
            schema_id, _ = unframe(record.value)
            self._wanted.add_schema(schema_id)
        except ContractError:
            pass
        if record.topic == DEAD_LETTERS:
            self._note_letter(record)
        elif in_window or (self._with_models and record.topic == RELEASES):
            try:
                event = decode(record.value, record.topic, self._past.schemas)
            except ContractError:  # it lies in the bundle as it lies on the log: unreadable
                return
            self._note_models(event)
            if in_window:
                self._note_event(event)

    def _note_event(self, event: Any) -> None:
        source = source_of(event)
        if source is not None:
            self._want_cause(source)
        if isinstance(event, ModelRegistered):
            return
        for blob in blobs_of(event):
            self._want_blob(blob)
        if isinstance(event, SnapshotTaken):
            try:
                for blob in parts_of(self._past, event.blob):
                    self._want_blob(blob)
            except ContractError:  # what is gone or damaged will be said where the blobs are fetched
                return

    def _note_models(self, event: Any) -> None:
        if not self._with_models:
            return
        if isinstance(event, ReleaseRegistered):
            self._pinned |= {step.digest for step in event.steps}
        elif isinstance(event, ModelRegistered):
            configuration = () if event.configuration is None else (event.configuration.blob,)
            files = (*(file.blob for file in event.files), *configuration)
            self._registered[event.digest] = Model(name=event.model, version=event.version, digest=event.digest, files=files)

    def _note_letter(self, letter: Record) -> None:
        """A dead letter's cause is the record that it is a copy of."""
        partition, offset = (header(letter.headers, f"{PREFIX}{name}") for name in ("partition", "offset"))
        if len(partition) <= 9 and len(offset) <= 18 and partition.isdecimal() and offset.isdecimal():
            topic = header(letter.headers, f"{PREFIX}topic")
            self._want_cause(SourcePosition(topic=topic, partition=int(partition), offset=int(offset), index=0))

    def _want_cause(self, source: SourcePosition) -> None:
        span = self._spans.get((source.topic, source.partition))
        # Some of these are held for the sake of states anyway; they are wanted all the same, with what they need in turn.
        if span is not None and span.log.earliest <= source.offset < span.start:
            self._wanted.add_record(source.topic, source.partition, source.offset)

    def _want_blob(self, blob: BlobRef) -> None:
        try:
            hold_name(blob)
        except DigestError:
            return
        self._wanted.add_blob(blob)

    def _follow_causes(self) -> None:
        """Look at wanted records for what they need in turn, until nothing new is wanted."""
        while found := next(self._unread(), None):
            topic, partition, start, stop = found
            self._wanted.mark_read(topic, partition, start, stop)  # first: what is added meanwhile is for another time
            for record in self._past.log.read(topic, partition, start, stop):
                if self._wanted.is_wanted(topic, partition, record.offset):
                    self._note(record, in_window=True)

    def _unread(self) -> Iterator[tuple[str, int, int, int]]:
        for topic, partition in self._spans:
            run = self._wanted.unread(topic, partition)
            if run is not None:
                yield topic, partition, *run


def blobs_of(value: Any) -> Iterator[BlobRef]:
    """Every blob that an event names, however deep."""
    if isinstance(value, BlobRef):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from blobs_of(part)
    elif is_dataclass(value):
        for name in _fields_with_blobs(type(value)):  # type: ignore[arg-type]  # a class can be hashed
            yield from blobs_of(getattr(value, name))


@cache
def _fields_with_blobs(cls: type) -> tuple[str, ...]:
    return tuple(name for name, kind in get_type_hints(cls).items() if _may_name_blobs(kind))


def _may_name_blobs(kind: Any) -> bool:
    if kind is BlobRef or (isinstance(kind, type) and is_dataclass(kind) and _fields_with_blobs(kind)):
        return True
    return any(_may_name_blobs(part) for part in get_args(kind))
