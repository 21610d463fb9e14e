"""What `hindsight models register` lets pass, and what it refuses before anything is stored; Triton's reason is Triton's own."""

import os
import shutil
from pathlib import Path

import pytest

from schemas.errors import ContractError
from topology import offered as module
from topology.offered import TRIAL, offered, read_lineage, read_metrics, tried

MODEL = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bring-your-own-ensemble" / "people_detector"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder that may be spoiled."""
    return shutil.copytree(MODEL, tmp_path / "people_detector")


def refused(folder: Path, told: str, version: int | None = None) -> None:
    with pytest.raises(ContractError, match=told):
        offered(folder, model="people_detector", version=version)


def test_a_models_folder_gives_its_versions_with_one_configuration(folder: Path) -> None:
    """All that lie there, or the one that is asked for; one version's folder takes the configuration beside it."""
    shutil.copytree(folder / "1", folder / "12")
    versions = offered(folder, model="people_detector", version=None)
    assert [v.version for v in versions] == [1, 12]
    assert len({v.configuration for v in versions}) == 1
    assert [v.version for v in offered(folder, model="people_detector", version=12)] == [12]
    (alone,) = offered(folder / "12", model="people_detector", version=12)
    assert alone == versions[1]


def test_a_broken_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """No folder, no version, the version that is not there, an empty one, no number, no configuration."""
    refused(tmp_path / "nowhere", "there is no folder")
    refused(folder, "has no version 3", version=3)
    refused(folder / "1", "its number is not known")
    (folder / "2").mkdir()
    refused(folder, "2 is empty", version=2)
    shutil.rmtree(folder / "1")
    shutil.rmtree(folder / "2")
    refused(folder, "has no version")
    bare = shutil.copytree(MODEL / "1", tmp_path / "bare" / "1")
    refused(bare, "has no configuration beside it", version=1)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    """What lies elsewhere may change, or be a secret; a link inside is a file of the model."""
    (folder / "1" / "again.py").symlink_to(folder / "1" / "model.py")
    offered(folder, model="people_detector", version=None)
    (folder / "1" / "passwd").symlink_to("/etc/passwd")
    refused(folder, "passwd is a link out of the folder")


def test_what_is_no_readable_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe; and a file that may not be read (the superuser may read all, so the system is asked in their place)."""
    monkeypatch.setattr(os, "access", lambda path, mode: "model.py" not in str(path))
    refused(folder, "model.py cannot be read")
    monkeypatch.undo()
    os.mkfifo(folder / "1" / "pipe")
    refused(folder, "pipe is no file")


def test_what_is_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, and all files together; the sizes are those of the file system, nothing is read."""
    with (folder / "1" / "network.onnx").open("wb") as file:
        file.truncate(module.FILE_BYTES_MAX + 1)  # takes no room on the disk
    refused(folder, "and a file may have 2147483648")
    (folder / "1" / "network.onnx").unlink()
    monkeypatch.setattr(module, "FILES_MAX", 0)
    refused(folder, "or 0 files")


def test_a_configuration_is_checked(folder: Path) -> None:
    """Its name, and that Triton's schema reads it."""
    with pytest.raises(ContractError, match='it is named "people_detector", and the model is registered as people'):
        offered(folder, model="people", version=None)
    (folder / "config.pbtxt").write_text("name: 'people_detector' bakcend: 'python'")
    refused(folder, "config.pbtxt: 1:")


def test_measures_are_numbers_and_lineage_is_words(tmp_path: Path) -> None:
    """What is neither is named; the trial speaks for itself."""
    path = tmp_path / "x.json"
    for text, told in (("[1]", "no JSON object"), ("{", "cannot be read"), ('{"recall": "high"}', "recall is no number")):
        path.write_text(text)
        with pytest.raises(ContractError, match=told):
            read_metrics(path)
    path.write_text('{"recall": 1}')
    assert read_metrics(path) == {"recall": 1.0}
    with pytest.raises(ContractError, match="recall is no text"):
        read_lineage(path)
    path.write_text('{"trial": "went well"}')
    with pytest.raises(ContractError, match="said by the trial load itself"):
        read_lineage(path)


@pytest.mark.slow
def test_a_real_triton_loads_it_on_trial(folder: Path) -> None:
    """And what came of it is in the lineage, beside what was there."""
    (one,) = tried(offered(folder, model="people_detector", version=None), say=print)
    assert one.lineage[TRIAL].startswith("loaded by Triton 2.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "find", "put", "told"),
    [
        ("1/model.py", "import cv2\n", "import cv3\n", "No module named 'cv3'"),
        ("1/model.py", "self.hog = cv2", "raise ValueError('no weights')\n        self.hog = cv2", "no weights"),
        ("config.pbtxt", "KIND_CPU count: 1", "KIND_GPU count: 1 gpus: [ 77 ]", "Triton does not load people_detector"),
    ],
)
def test_the_refusal_has_tritons_own_reason(folder: Path, file: str, find: str, put: str, told: str) -> None:
    """A program that cannot start, one that gives up, a device that is not there."""
    path = folder / file
    assert find in path.read_text()
    path.write_text(path.read_text().replace(find, put))
    with pytest.raises(ContractError, match="Triton does not load people_detector") as refusal:
        tried(offered(folder, model="people_detector", version=None), say=print)
    assert told in str(refusal.value)


def test_what_cannot_be_tried_here_says_so(folder: Path) -> None:
    """A backend that this Triton lacks, or somebody who asks for no trial: the lineage says it, nothing is guessed."""
    path = folder / "config.pbtxt"
    path.write_text(path.read_text().replace('backend: "python"', 'platform: "tensorrt_plan"'))
    (other,) = tried(offered(folder, model="people_detector", version=None), say=print)
    assert other.lineage[TRIAL] == "not tried: the Triton of this package has no backend tensorrt_plan"
    (asked,) = tried(offered(MODEL, model="people_detector", version=None), say=print, why_not="--no-trial was given")
    assert asked.lineage[TRIAL] == "not tried: --no-trial was given"
