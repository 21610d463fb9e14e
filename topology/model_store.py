"""Model versions by their content: their files in the blob store, announced on vision.releases, and fetched back.

Guarantees: what is announced was stored before; a folder that `ModelCache` gives holds exactly the files of the digest
asked for, each file and the whole verified, also when it lay in the cache already.

Next: `reading` runs what was fetched; `hindsight models` lists what is there.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from processors.release.core import model_name
from schemas.catalogue import RELEASES
from schemas.errors import BlobGoneError, ContractError, DigestError
from schemas.events import ModelRegistered, RegisterModel
from schemas.model_files import digest_of, problem_with
from schemas.types import BlobRef, ModelFile, ReleaseStep
from streams.events import events_of
from streams.past import Past
from streams.ports import BlobStore
from topology import commands
from topology.settings import Settings

_MEDIA_TYPES = {".json": "application/json", ".py": "text/x-python", ".txt": "text/plain"}
_FILE_BYTES_MAX = 2 * 1024**3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A model version on disk: `folder` holds everything that its digest covers; `configuration` is canonical text."""

    model: str
    version: int
    folder: Path
    configuration: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


def store_files(folder: Path, blobs: BlobStore) -> tuple[ModelFile, ...]:
    """Put every file of a model version's folder into the blob store; doing it again costs a look at each.

    Raises:
        ContractError: there is no such folder, or a file in it cannot be a model's.
    """
    from triton_models.digest import model_files

    if not folder.is_dir():
        raise ContractError(f"there is no folder {folder}", do="name the folder of one model version, such as detection/3")
    files = tuple(_store(path, folder, blobs) for path in sorted(model_files(folder)))
    if (problem := problem_with(files)) is not None:
        raise ContractError(f"{folder}: {problem}")
    return files


def store_configuration(text: str | None, blobs: BlobStore) -> ModelFile | None:
    """Put a model's configuration into the blob store."""
    return None if text is None else ModelFile(path="config.pbtxt", blob=blobs.put(text.encode(), "text/plain"))


def register(
    settings: Settings, versions: tuple[ModelVersion, ...], *, reason: str, say: Say, timeout_s: float, again: bool = False
) -> None:
    """Store and announce model versions; those that are registered with the same files are passed over.

    Args:
        again: Store the files of those, too: what was damaged or lost in the blob store is whole then.
    Raises:
        CommandRefusedError: a version is registered with other files.
        ContractError: a folder is no model version's.
    """
    from streams.records import system_clock
    from topology import wiring
    from triton_models.digest import model_digest

    blobs, now = wiring.blob_store(settings), commands.releases_now(settings)
    for version in versions:
        name = f"{version.model}:{version.version}"
        is_known = name in now.models and version.folder.is_dir() and now.models[name] == model_digest(version.folder)
        if is_known and not again:
            continue
        files, configuration = store_files(version.folder, blobs), store_configuration(version.configuration, blobs)
        is_same = configuration is None or now.configurations.get(version.model) in (None, configuration.blob.sha256)
        command = RegisterModel(
            command_id=commands.new_command_id(),
            pipeline=settings.pipeline.name,
            model=version.model,
            version=version.version,
            digest=digest_of(files),
            files=files,
            issued_by=commands.who(),
            reason=reason,
            issued_at_us=system_clock(),
            configuration=configuration,
            metrics=version.metrics,
            lineage=version.lineage,
        )
        if is_known and is_same:
            say(f"{name} was registered before; its {len(files)} files are stored again")
            continue
        try:
            commands.send(settings, command, until=_settles(command), timeout_s=timeout_s)
            say(f"{name} is registered: {len(files)} files, digest {command.digest[:16]}")
        except commands.CommandRefusedError as refused:
            if refused.refusal != "already_registered":  # somebody was quicker
                raise


def registered_otherwise(settings: Settings, versions: tuple[ModelVersion, ...]) -> ModelVersion | None:
    """The first version that is registered with other files, or whose model is with another configuration: it need not be tried,
    the release processor refuses it."""
    from triton_models.digest import model_digest

    now = commands.releases_now(settings)
    for version in versions:
        digest = model_digest(version.folder)
        own = None if version.configuration is None else hashlib.sha256(version.configuration.encode()).hexdigest()
        known = now.configurations.get(version.model)
        if now.models.get(f"{version.model}:{version.version}", digest) != digest or (None not in (known, own) and known != own):
            return version
    return None


def all_known(settings: Settings, versions: tuple[ModelVersion, ...]) -> bool:
    """Whether all these versions are registered, with these files."""
    from triton_models.digest import model_digest

    now = commands.releases_now(settings)
    return all(now.models.get(f"{v.model}:{v.version}") == model_digest(v.folder) for v in versions)


def registered(past: Past, pipeline: str) -> Iterator[ModelRegistered]:
    """Every model version whose files were announced, oldest first."""
    for partition in past.log.partitions(RELEASES):
        for _, event in events_of(past.log, past.schemas, RELEASES, partition):
            if isinstance(event, ModelRegistered) and event.pipeline == pipeline:
                yield event


class ModelCache:
    """Folders of model versions by digest, filled from the blob store.

    A model version brings its own program, so that loading it runs what whoever registered it wrote. With `trusted`
    false only files are given that this machine had before: in the cache, or in the model repository `beside` it.

    Args:
        folder: Where they lie; shared by processes, safe to remove at any time when none uses it.
        known: What was announced, by digest.
    """

    def __init__(
        self, folder: Path, blobs: BlobStore, known: Mapping[str, ModelRegistered], *, trusted: bool, beside: Path
    ) -> None:
        self._folder = folder
        self.blobs = blobs
        self._known = known
        self.trusted = trusted
        self.beside = beside

    def folder_of(self, step: ReleaseStep) -> Path:
        """A folder with exactly the files that the step's digest names.

        Raises:
            BlobGoneError: the files were never stored, or one of them is gone; named.
            DigestError: what is stored is something else; the file is named.
            ContractError: they come from a source that is not trusted.
        """
        hold_digest(step)
        target = self._folder / step.digest
        if target.is_dir():
            if is_whole(target, step.digest):
                return target
            shutil.rmtree(target)  # somebody changed it; what is stored is the truth
        if not self.trusted:
            return self._own(step)
        if step.digest not in self._known:
            raise BlobGoneError(
                f"{model_name(step)} with digest {step.digest}: its files were never registered, so nobody kept them",
                do="register models with their release: `hindsight releases register`",
            )
        return self._fetched(step, target)

    def known(self, digest: str) -> ModelRegistered | None:
        """What was announced of a digest."""
        return self._known.get(digest)

    def _own(self, step: ReleaseStep) -> Path:
        own = self.beside / step.model / str(step.version)
        if own.is_dir() and is_whole(own, step.digest):
            return own
        raise ContractError(
            f"the bundle brings {model_name(step)} with digest {step.digest}, which this machine never had; "
            "loading it runs the program that comes with it",
            do="add --trust-models if you trust whoever made the bundle",
        )

    def _fetched(self, step: ReleaseStep, target: Path) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".partial-") as partial:
            place = Path(partial) / "files"
            self._write(self._known[step.digest], place)
            if not is_whole(place, step.digest):
                raise DigestError(f"{model_name(step)}: the files that were registered do not have the digest {step.digest}")
            try:
                os.replace(place, target)
            except OSError:
                if not target.is_dir():
                    raise  # nobody else put it there in the meantime
        return target

    def _write(self, event: ModelRegistered, folder: Path) -> None:
        if (problem := problem_with(event.files)) is not None:
            raise ContractError(f"{model_name(event)} cannot be fetched: {problem}")
        for file in event.files:
            content = content_of(file.blob, f"file {file.path} of {model_name(event)}", self.blobs)
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # A plain file where Python would keep compiled files, which no digest covers.
        for sources in {folder, *(path.parent for path in folder.rglob("*.py"))}:
            (sources / "__pycache__").touch()


def content_of(blob: BlobRef, what: str, blobs: BlobStore) -> bytes:
    """One blob that belongs to a model version.

    Raises:
        BlobGoneError: it is gone.
        DigestError: it was changed in the store.
    """
    try:
        return blobs.get(blob)
    except BlobGoneError as error:
        raise BlobGoneError(f"{what} is gone: {error}", do=error.do) from error
    except DigestError as error:
        raise DigestError(
            f"{what} was changed in the blob store: {error}",
            do="register the model version again from its own files; the store heals",
        ) from error


def is_whole(folder: Path, digest: str) -> bool:
    """Whether a model version's folder has this digest, and nothing beside it that could run."""
    from triton_models.digest import model_digest

    return not any(path.is_dir() for path in folder.rglob("__pycache__")) and model_digest(folder) == digest


def hold_digest(step: ReleaseStep) -> None:
    """A digest comes from the log, where anybody may have written it, and names a folder here.

    Raises:
        DigestError: it is none.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", step.digest, re.ASCII) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", step.model):
        raise DigestError(f"{step.model[:80]!r} with digest {step.digest[:80]!r} names no model version")


def _store(path: Path, folder: Path, blobs: BlobStore) -> ModelFile:
    if path.stat().st_size > _FILE_BYTES_MAX:
        raise ContractError(f"{path} has more than {_FILE_BYTES_MAX} bytes")
    content = path.read_bytes()
    blob = blobs.put(content, _MEDIA_TYPES.get(path.suffix, "application/octet-stream"))
    return ModelFile(path=path.relative_to(folder).as_posix(), blob=blob)


def _settles(command: RegisterModel) -> Callable[[object], bool]:
    return lambda e: (
        isinstance(e, ModelRegistered)
        and (e.model, e.version, e.digest)
        == (
            command.model,
            command.version,
            command.digest,
        )
    )
