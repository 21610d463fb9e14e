"""The model repository on disk: a model version's folder is built once, and means the same for ever."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.types import ReleaseStep
from topology import models
from topology.stack.layout import Layout
from triton_models.digest import model_digest
from triton_models.repository import MODEL_VERSIONS, RELEASES, build_repository, record_of, release_digests

R1 = "gate_reader_r1"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Files by the names of the weights; what is in them does not matter to a folder."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for version in MODEL_VERSIONS:
        for name in version.files.values():
            (folder / name).write_bytes(f"first {name}".encode())
    return folder


@pytest.fixture
def repository(tmp_path: Path, weights: Path) -> Path:
    """Built once."""
    target = tmp_path / "repository"
    assert build_repository(target, weights) == ()
    return target


def change(weights: Path) -> None:
    """What an upgrade does: the same versions would be given another content."""
    for path in weights.iterdir():
        path.write_bytes(b"changed " + path.read_bytes())


def times(repository: Path) -> Mapping[Path, int]:
    return {path: path.stat().st_mtime_ns for path in repository.rglob("*")}


def test_a_version_has_its_digest_beside_it(repository: Path) -> None:
    """The record of each folder is what the running model will report, computed before a file was written."""
    for version in MODEL_VERSIONS:
        folder = repository / version.step / str(version.version)
        assert record_of(folder).read_text() == f"{model_digest(folder)}\n"
        assert record_of(folder).parent == folder.parent


def test_a_built_version_outlives_its_sources(repository: Path, weights: Path) -> None:
    """After an upgrade nothing on disk is touched, and the versions that would differ are named; new ones are built."""
    before, digests = times(repository), release_digests(repository, R1)
    change(weights)
    kept = build_repository(repository, weights)
    assert (times(repository), release_digests(repository, R1)) == (before, digests)
    assert {f"{f.parent.name} {f.name}" for f in kept} == {f"{v.step} {v.version}" for v in MODEL_VERSIONS if v.files}


def test_a_damaged_version_is_restored(repository: Path, weights: Path) -> None:
    """A changed file, a missing one, a stray one, the whole folder: as long as the sources give what was recorded."""
    digests = release_digests(repository, R1)
    (repository / "detection" / "3" / "model.onnx").write_bytes(b"damaged")
    (repository / "detection" / "3" / "steps" / "run.py").unlink()
    (repository / "classifier" / "2" / "stray.txt").write_text("stray")
    folder = repository / "recognizer" / "1"
    folder.rename(repository / "moved")
    assert build_repository(repository, weights) == ()
    assert release_digests(repository, R1) == digests


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_version_whose_sources_have_changed_is_refused(repository: Path, weights: Path, damage: str) -> None:
    """Neither the old content nor a new one is to be had: nothing is written, and the message says where, what and what to do."""
    folder = repository / "detection" / "3"
    built = model_digest(folder)
    if damage == "changed":
        (folder / "model.onnx").write_bytes(b"damaged")
        found = model_digest(folder)
    else:
        folder.rename(repository / "moved")
        found = "nothing"
    change(weights)
    before = times(repository)
    with pytest.raises(ConfigurationError) as refused:
        build_repository(repository, weights)
    assert all(part in str(refused.value) for part in (str(folder), built, found))
    assert "3.sha256" in refused.value.do
    assert times(repository) == before


def test_what_was_deleted_with_its_record_is_built_anew(repository: Path, weights: Path) -> None:
    """A developer's way to another content under the same version: said aloud, and never by itself."""
    folder = repository / "detection" / "3"
    built = model_digest(folder)
    change(weights)
    folder.rename(repository / "moved")
    record_of(folder).unlink()
    assert folder not in build_repository(repository, weights)
    assert model_digest(folder) != built
    assert record_of(folder).read_text().strip() == model_digest(folder)


@pytest.mark.parametrize("record", [None, ""])
def test_a_build_that_was_cut_short_is_begun_again(repository: Path, weights: Path, record: str | None) -> None:
    """A folder without a record, or with an empty one, was never finished, or is an older Hindsight's: written as today."""
    folder = repository / "detection" / "3"
    built = model_digest(folder)
    (folder / "model.onnx").write_bytes(b"half")
    record_of(folder).unlink()
    if record is not None:
        record_of(folder).write_text(record)
    assert build_repository(repository, weights) == ()
    assert record_of(folder).read_text().strip() == model_digest(folder) == built


def test_a_release_is_held_against_the_disk(tmp_path: Path, weights: Path) -> None:
    """Each step whose folder has another digest than the release pins is named with the digest that it has."""
    home = tmp_path / "home"
    repository = Layout(home).model_repository
    build_repository(repository, weights)
    digests = release_digests(repository, R1)
    steps = [ReleaseStep(step=p.step, model=p.model, version=p.version, digest=digests[p.step]) for p in RELEASES[R1]]
    assert models.changed_since_pinned(home, steps) == ()
    (repository / "detection" / "3" / "model.onnx").write_bytes(b"changed")
    (repository / "classifier").rename(repository / "moved")
    found = {step.step: digest for step, digest in models.changed_since_pinned(home, steps)}
    assert found == {"detection": model_digest(repository / "detection" / "3"), "classifier": "nothing"}


def test_what_was_kept_is_told_with_what_to_do(repository: Path, weights: Path) -> None:
    """Whoever changed a step without giving it a new version hears that the old one still reads, and how to run the new one."""
    change(weights)
    said = models.kept_in_words(build_repository(repository, weights))
    assert all(part in said for part in ("detection 3", "recognizer 2", "MODEL_VERSIONS", ".sha256", str(repository)))
