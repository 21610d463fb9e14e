"""The best snapshot for a question, and what it says of one key. Whatever is wrong with one leads to another, and is said.

From the newest announcement's manifest, which names the others that are kept; when it cannot be read, from the one before
it. The last resort is the start of the log, or a refusal where the log no longer has its start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from processors.repeats import SOURCES_KEY, Seen
from processors.snapshots import manifest as manifests
from processors.snapshots import pieces
from processors.snapshots.announcing import Announced, announced, kept_as
from processors.snapshots.manifest import Kept, Manifest
from processors.snapshots.taking import hold_anchor, piece_ref, state_from
from processors.views.catalogue import View
from schemas.codec import Schemas
from schemas.errors import ContractError, DecodeError, TransientError
from schemas.plain import canonical_json
from schemas.types import BlobRef
from streams.ports import BlobStore, EventLog, Stored
from streams.records import Record

_TRIED_MOST = 200
_SAID_MOST = 3
_LOOKED_AT_LEAST = 2000
_LOOKED_FOR_EACH_FOLDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a fold of one key may begin: the state before `offset`, and what was seen until then.

    `manifest` is None for the start of the log. `notes` say what was tried in vain.
    """

    offset: int
    state: Any
    seen: Seen
    manifest: Manifest | None
    notes: tuple[str, ...]

    def hold(self, record: Record) -> None:
        """Hold the snapshot against a record of the log.

        Raises:
            DigestError: the snapshot is of another log.
        """
        if self.manifest is not None:
            hold_anchor(self.manifest, record)


class Snapshots:
    """Reads snapshots for the questions of one answer; manifests are read once, and a store that is away is asked once.

    Args:
        worth: A fold of fewer records than this begins at the start of the log, and looks for no snapshot.
    """

    def __init__(self, log: EventLog, schemas: Schemas, blobs: BlobStore, *, worth: int = 0) -> None:
        self._worth = worth
        self._log = log
        self._schemas = schemas
        self._blobs = blobs
        self._manifests: dict[str, Manifest | ContractError] = {}
        self._away: TransientError | None = None

    @property
    def away(self) -> TransientError | None:
        """Why snapshots could not be read, when the blob store did not answer."""
        return self._away

    def starts(self, view: View[Any], partition: int, key: str, stop: int) -> Iterator[Start]:
        """States of the key before positions up to `stop`, the nearest first; ends with none when nothing (more) is usable.

        Raises:
            LogUnavailableError: the log does not answer.
        """
        notes: list[str] = []
        others = 0
        if stop < self._worth and self._log.bounds(view.topic, partition).earliest == 0:
            yield _beginning(view, notes)
            return
        for kept in self.names(view, partition, notes, stop=stop):
            if kept.fold != manifests.fold_of(view):
                if (others := others + 1) == 1:
                    notes.append(f"snapshots that another version of {view.name} made are passed over")
            elif kept.offset <= stop and (found := self.start(view, partition, key, kept, notes)) is not None:
                yield found
            if self._away is not None:
                break
        # What was wrong with the snapshots is part of the answer from the start of the log too.
        yield _beginning(view, notes)

    def start(self, view: View[Any], partition: int, key: str, kept: Kept, notes: list[str]) -> Start | None:
        """What one snapshot says of a key; None, with a sentence in `notes`, when it cannot be read."""
        try:
            manifest = self.manifest(kept.ref())
            if (manifest.view, manifest.partition, manifest.fold) != (view.name, partition, manifests.fold_of(view)):
                raise DecodeError(f"it is of {manifest.view} {manifest.partition}, or another version made it")
            state = self._state(view, manifest, key)
        except ContractError as error:
            notes.append(_said(view, partition, kept.offset, error))
            return None
        except TransientError as error:
            self._note_away(error, notes)
            return None
        return Start(offset=manifest.offset, state=state, seen=manifest.seen, manifest=manifest, notes=tuple(notes))

    def whole(self, view: View[Any], partition: int, stop: int) -> Stored | None:
        """Every state of the newest snapshot up to `stop` that the log still reaches back to; None when none can be read.

        Raises:
            BlobStoreUnavailableError, LogUnavailableError: no answer.
        """
        earliest = self._log.bounds(view.topic, partition).earliest
        for kept in self.names(view, partition, []):
            if kept.fold != manifests.fold_of(view) or not earliest <= kept.offset <= stop:
                continue
            try:
                manifest = self.manifest(kept.ref())
                for record in self._log.read(view.topic, partition, max(earliest, kept.offset - 1), kept.offset):
                    hold_anchor(manifest, record)
                made = [pieces.states_of(self._blobs.get(piece_ref(piece))) for piece in manifest.pieces if piece is not None]
            except ContractError:
                continue
            states = {key: state for each in made for key, state in each.items()}
            return Stored(position=manifest.offset, states={**states, SOURCES_KEY: canonical_json(manifest.seen)})
        if self._away is not None:
            raise self._away
        return None

    def names(self, view: View[Any], partition: int, notes: list[str], *, stop: int | None = None) -> Iterator[Kept]:
        """Every snapshot that is kept, as far as can be told, the newest first."""
        gone = 0
        for one in self._announced(view, partition, stop):
            try:
                manifest = self.manifest(one.taken.blob)
            except ContractError as error:
                if (gone := gone + 1) <= _SAID_MOST:
                    notes.append(_said(view, partition, one.taken.offset, error))
            except TransientError as error:
                self._note_away(error, notes)
                break
            else:
                yield kept_as(manifest, one.taken.blob)
                yield from reversed(manifest.earlier)
                break
        if gone > _SAID_MOST:
            notes.append(f"{gone - _SAID_MOST} more snapshots of {view.name} {partition} could not be read")

    def manifest(self, blob: BlobRef) -> Manifest:
        """One manifest, whichever fold made it.

        Raises:
            ContractError: it is gone or damaged.
            TransientError: the store does not answer, or did not before.
        """
        if blob.sha256 not in self._manifests:
            if self._away is not None:
                raise self._away
            try:
                self._manifests[blob.sha256] = manifests.unpack(self._blobs.get(blob))
            except ContractError as error:
                self._manifests[blob.sha256] = error
        found = self._manifests[blob.sha256]
        if isinstance(found, ContractError):
            raise found
        return found

    def _announced(self, view: View[Any], partition: int, stop: int | None) -> Iterator[Announced]:
        """Announcements, looking no further than folding the log from its start would take."""
        complete = stop is not None and self._log.bounds(view.topic, partition).earliest == 0
        most = max(_LOOKED_AT_LEAST, _LOOKED_FOR_EACH_FOLDED * stop) if complete and stop is not None else None
        for number, one in enumerate(announced(self._log, self._schemas, view.name, partition, most=most)):
            if number == _TRIED_MOST and complete:
                return
            yield one

    def _state(self, view: View[Any], manifest: Manifest, key: str) -> Any:
        piece = manifest.pieces[pieces.bucket_of(pieces.hash_of(key), len(manifest.pieces))]
        if piece is None:
            return view.initial
        if self._away is not None:
            raise self._away
        return state_from(view, pieces.state_of(self._blobs.get(piece_ref(piece)), key))

    def _note_away(self, error: TransientError, notes: list[str]) -> None:
        self._away = error
        notes.append(f"snapshots cannot be read: {error}")


def _beginning(view: View[Any], notes: list[str]) -> Start:
    return Start(offset=0, state=view.initial, seen=Seen(), manifest=None, notes=tuple(notes))


def _said(view: View[Any], partition: int, offset: int, error: ContractError) -> str:
    return f"the snapshot of {view.name} {partition} at {offset} is passed over: {error}"
