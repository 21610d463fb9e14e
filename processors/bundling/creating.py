"""Writing an incident bundle of a window: memory does not grow with the window.

The log is read twice: once for what the window needs, once to write it down. In between nothing changes, since the window's
end is a position on each partition and a log is only ever appended to.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from processors.bundling.choosing import Choosing, Model, Progress
from processors.bundling.spans import Snapshot, Span, Window, newest_snapshots, spans_of
from processors.bundling.wanted import Wanted
from schemas.errors import ContractError, DecodeError
from schemas.types import BlobRef
from streams.bundle.layout import MOST_ENTRY_BYTES
from streams.bundle.manifest import About, Manifest, ModelHeld, SnapshotHeld, UnknownIds
from streams.bundle.segments import Item, LeftOut
from streams.bundle.signing import Signer
from streams.bundle.writer import BundleWriter, Gone
from streams.past import Past

_MOST_UNKNOWN_IDS = 10_000
_FETCHED_AT_ONCE = 8
_FETCHED_BYTES = 64 * 2**20
_TOLD_EACH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make: of which window, by whom, with what. `signer` None leaves the bundle unsigned."""

    window: Window
    with_models: bool
    signer: Signer | None
    created_at_us: int
    created_by: str
    program: str


def create_bundle(past: Past, path: Path, order: Order, progress: Progress = lambda what, done, of: None) -> Manifest:
    """Make a bundle of a past; it has its name when it is whole.

    Args:
        progress: Told what is counted, how many are done, and of how many.
    Raises:
        ContractError: the window holds no time, or the past is itself a bundle, or the file is there already, or cannot be
            written, or retention cut the log meanwhile.
        TransientError: a server does not answer.
    """
    window = order.window
    if window.from_us > window.to_us:
        raise ContractError("the window ends before it begins", do="name a later moment with --to")
    if past.scope is not None:
        raise ContractError(f"{past.source} is a bundle already, and bundles are made of the live log")
    try:
        with BundleWriter(path) as writer, Wanted(path.absolute().parent) as wanted:
            snapshots = newest_snapshots(past, window)
            spans = spans_of(past, window, snapshots)
            choosing = Choosing(past, window, spans, wanted, with_models=order.with_models)
            choosing.choose(snapshots, progress)
            _write_records(past, window, spans, wanted, writer, progress)
            _write_schemas(past, wanted, writer)
            gone: set[str] = set()
            watched = {file.sha256 for model in choosing.models for file in model.files}
            writer.add_blobs(_blobs(past, wanted, watched, gone, progress))
            return writer.finish(_about(order, snapshots.values(), choosing.models, gone, writer.too_long_count), order.signer)
    except OSError as error:
        raise ContractError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_records(
    past: Past, window: Window, spans: tuple[Span, ...], wanted: Wanted, writer: BundleWriter, progress: Progress
) -> None:
    total, done = sum(s.stop - s.earliest for s in spans), 0
    for span in spans:
        items = _told(_items(past, window, span, wanted), done, total, progress)
        writer.add_partition(span.topic, span.partition, earliest=span.earliest, end=span.stop, log=span.log, items=items)
        done += span.stop - span.earliest
        if past.log.bounds(span.topic, span.partition).earliest > span.earliest < span.stop:
            raise ContractError(
                f"records of {span.topic} {span.partition} were removed while the bundle was made", do="make it again"
            )
    progress("records written", total, total)


def _items(past: Past, window: Window, span: Span, wanted: Wanted) -> Iterator[Item]:
    """Single records from before, then all of the window; of records that do not belong to it the places."""
    for start, stop in wanted.runs(span.topic, span.partition):
        for record in past.log.read(span.topic, span.partition, start, min(stop, span.earliest)):
            if wanted.is_wanted(span.topic, span.partition, record.offset):
                yield record
    for record in past.log.read(span.topic, span.partition, span.earliest, span.stop):
        yield record if window.keeps(record) else LeftOut(offset=record.offset, appended_at_ms=record.appended_at_ms)


def _told(items: Iterator[Item], done: int, total: int, progress: Progress) -> Iterator[Item]:
    for number, item in enumerate(items, start=1):
        if number % _TOLD_EACH == 0:
            progress("records written", min(done + number, total), total)
        yield item


def _write_schemas(past: Past, wanted: Wanted, writer: BundleWriter) -> None:
    unknown: list[int] = []

    def known() -> Iterator[tuple[int, str]]:
        for schema_id in wanted.schemas():
            try:
                yield schema_id, past.schemas.schema_of(schema_id)
            except DecodeError:
                unknown.append(schema_id)

    found = tuple(known())
    complete = len(unknown) <= _MOST_UNKNOWN_IDS
    writer.add_schemas(found, UnknownIds(ids=tuple(unknown[:_MOST_UNKNOWN_IDS]), complete=complete))


def _blobs(
    past: Past, wanted: Wanted, watched: set[str], gone: set[str], progress: Progress
) -> Iterator[tuple[str, bytes | Gone]]:
    """Blobs by digest, ascending; several are fetched at once, as many as fit into a bounded room.

    Args:
        watched: Digests of which `gone` shall say whether they are missing.
    """
    total = wanted.blobs_count()
    under_way: deque[tuple[str, int, Future[bytes | Gone]]] = deque()
    waiting_bytes = 0
    with ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="blobs") as threads:
        for number, (sha256, refs) in enumerate(_and_an_end(wanted.blobs()), start=1):
            size = max((0, *(ref.size_bytes for ref in refs)))
            while under_way and (not sha256 or len(under_way) >= _FETCHED_AT_ONCE or waiting_bytes + size > _FETCHED_BYTES):
                name, room, future = under_way.popleft()
                found = future.result()
                waiting_bytes -= room
                if isinstance(found, Gone) and name in watched:
                    gone.add(name)
                yield name, found
            if sha256:
                waiting_bytes += size
                under_way.append((sha256, size, threads.submit(_fetched, past, refs)))
                progress("blobs", number, total)


def _and_an_end(blobs: Iterator[tuple[str, tuple[BlobRef, ...]]]) -> Iterator[tuple[str, tuple[BlobRef, ...]]]:
    yield from blobs
    yield "", ()


def _fetched(past: Past, refs: tuple[BlobRef, ...]) -> bytes | Gone:
    """A blob's bytes, verified by the store, by the first reference that gives them; or why there are none."""
    reason = "its references say that it has a size that cannot be"
    for ref in refs:
        if not 0 <= ref.size_bytes <= MOST_ENTRY_BYTES:
            continue
        try:
            return past.blobs.get(ref)
        except ContractError as error:
            reason = str(error)
    return Gone(reason=reason)


def _about(order: Order, snapshots: Iterable[Snapshot], models: tuple[Model, ...], gone: set[str], too_long_count: int) -> About:
    window = order.window
    return About(
        created_at_us=order.created_at_us,
        created_by=order.created_by,
        program=order.program,
        pipeline=window.pipeline,
        from_us=window.from_us,
        to_us=window.to_us,
        devices=None if window.devices is None else tuple(sorted(window.devices)),
        snapshots=tuple(
            SnapshotHeld(
                view=s.announced.taken.view,
                topic=s.announced.taken.topic,
                partition=s.announced.taken.partition,
                offset=s.announced.taken.offset,
                sha256=s.announced.taken.blob.sha256,
            )
            for s in sorted(snapshots, key=lambda s: (s.announced.taken.view, s.announced.taken.partition))
        ),
        models=tuple(
            ModelHeld(
                model=model.name,
                version=model.version,
                digest=model.digest,
                files_count=len(model.files),
                missing_count=sum(file.sha256 in gone for file in model.files),
            )
            for model in models
        ),
        too_long_count=too_long_count,
    )
