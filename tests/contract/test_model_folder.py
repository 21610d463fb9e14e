"""A model repository filled from the log, and served by a real Triton: nothing that is right is touched, nothing is half done."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from processors.release.core import INITIAL, PipelineReleases, decide, fold_all
from schemas.errors import ContractError
from schemas.events import ModelRegistered, RegisterModel, RegisterRelease
from schemas.model_files import digest_of
from schemas.types import EventId, ReleaseStep
from streams.memory import MemoryBlobStore
from streams.triton import TritonInference, TritonModels
from tests.given import cause
from topology.model_folder import HoldingModels
from topology.model_store import ModelCache, store_configuration, store_files
from topology.offered import offered
from topology.private_triton import OwnServer

MODEL = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bring-your-own-ensemble" / "people_detector"


class Yard:
    """What is registered, and the repository that is to hold it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.repository.mkdir()
        self.blobs = MemoryBlobStore()
        self.state: PipelineReleases = INITIAL
        self.known: dict[str, ModelRegistered] = {}
        self.loaded: list[str] = []

    @property
    def endpoint(self) -> str:
        return "none"

    async def is_ready(self, release: str) -> bool:
        return True

    async def load(self, release: str) -> None:
        self.loaded.append(release)

    def model(self, folder: Path, version: int = 1) -> ReleaseStep:
        """Register a version of the detector."""
        (one,) = offered(folder, model="people_detector", version=version)
        files = store_files(one.folder, self.blobs)
        command = RegisterModel(
            command_id=EventId("c"),
            pipeline="yard",
            model=one.model,
            version=version,
            digest=digest_of(files),
            files=files,
            issued_by="me",
            reason="",
            issued_at_us=1,
            configuration=store_configuration(one.configuration, self.blobs),
        )
        (event,) = decide(self.state, command, cause(0, "vision.commands"))
        assert isinstance(event, ModelRegistered)
        self.known[event.digest] = event
        return ReleaseStep(step="people_detector", model=event.model, version=version, digest=event.digest)

    def release(self, name: str, *steps: ReleaseStep) -> None:
        command = RegisterRelease(
            command_id=EventId("c"),
            pipeline="yard",
            release=name,
            steps=steps,
            parameters={},
            issued_by="me",
            reason="",
            issued_at_us=1,
        )
        self.state = fold_all(decide(self.state, command, cause(0, "vision.commands")), self.state)

    def holding(self, server: object = None) -> HoldingModels:
        cache = ModelCache(self.folder / "cache", self.blobs, self.known, trusted=True, beside=self.repository)
        return HoldingModels(server or self, self.repository, lambda: self.state, lambda: (self.known, cache))  # type: ignore[arg-type]

    def put(self, name: str) -> None:
        asyncio.run(self.holding().load(name))

    def touched(self) -> dict[str, int]:
        """When each file of the repository was written."""
        return {str(p.relative_to(self.repository)): p.stat().st_mtime_ns for p in self.repository.rglob("*")}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """The detector with a second version that says another name for itself."""
    folder = tmp_path / "people_detector"
    shutil.copytree(MODEL, folder)
    shutil.copytree(MODEL / "1", folder / "2")
    path = folder / "2" / "model.py"
    path.write_text(path.read_text().replace("opencv_cpu", "opencv_too"))
    return folder


def test_an_empty_folder_is_filled_and_left_alone_when_it_is_right(yard: Yard) -> None:
    """Version, configuration and ensemble are there before the server is asked; a second load writes nothing."""
    yard.release("yard_r1", yard.model(MODEL))
    yard.put("yard_r1")
    assert (yard.repository / "people_detector" / "1" / "model.py").read_bytes() == (MODEL / "1" / "model.py").read_bytes()
    assert "people_detector" in (yard.repository / "yard_r1" / "config.pbtxt").read_text()
    before = yard.touched()
    yard.put("yard_r1")
    assert yard.touched() == before
    assert yard.loaded == ["yard_r1"] * 2
    assert not list(yard.repository.glob(".arriving-*"))


def test_a_new_version_touches_no_file_of_the_old_one(yard: Yard, two_versions: Path) -> None:
    """Neither its files nor the configuration that they share: Triton starts anew what was touched."""
    yard.release("yard_r1", yard.model(two_versions, 1))
    yard.put("yard_r1")
    before = {name: at for name, at in yard.touched().items() if name != "people_detector"}
    yard.release("yard_r2", yard.model(two_versions, 2))
    yard.put("yard_r2")
    assert before.items() <= yard.touched().items()
    assert (yard.repository / "people_detector" / "2").is_dir()


def test_what_is_not_pinned_is_never_overwritten_nor_loaded(yard: Yard) -> None:
    """Another content in the version's place: the release is not loaded, and the content stays."""
    yard.release("yard_r1", yard.model(MODEL))
    own = yard.repository / "people_detector" / "1"
    own.mkdir(parents=True)
    (own / "model.py").write_text("somebody else's")
    with pytest.raises(ContractError, match="people_detector:1 is pinned to"):
        yard.put("yard_r1")
    assert (own / "model.py").read_text() == "somebody else's"
    assert yard.loaded == []


def test_a_configuration_or_an_ensemble_of_others_is_not_overwritten(yard: Yard, two_versions: Path) -> None:
    """A model with our model's name and another configuration; an ensemble with our release's name and other pins."""
    yard.release("yard_r1", yard.model(two_versions, 1))
    config = yard.repository / "people_detector" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text((MODEL / "config.pbtxt").read_text().replace("count: 1", "count: 2"))
    with pytest.raises(ContractError, match="another configuration"):
        yard.put("yard_r1")
    config.unlink()
    yard.put("yard_r1")
    yard.state = INITIAL
    yard.release("yard_r1", yard.model(two_versions, 2))
    with pytest.raises(ContractError, match="another ensemble, of people_detector:1"):
        yard.put("yard_r1")


def test_a_file_that_is_gone_or_changed_in_the_store_leaves_no_trace(yard: Yard) -> None:
    """Nothing half done: the version's folder is not there, and the release is not loaded."""
    step = yard.model(MODEL)
    yard.release("yard_r1", step)
    cache = ModelCache(yard.folder / "cache", MemoryBlobStore(), yard.known, trusted=True, beside=yard.repository)
    gone = HoldingModels(yard, yard.repository, lambda: yard.state, lambda: (yard.known, cache))
    with pytest.raises(ContractError):
        asyncio.run(gone.load("yard_r1"))
    assert not (yard.repository / "people_detector" / "1").exists()
    assert yard.loaded == []


@pytest.fixture
def triton(yard: Yard) -> Iterator[OwnServer]:
    (yard.folder / "server").mkdir()
    with closing(OwnServer(yard.repository, threads=1, folder=yard.folder / "server")) as server:
        yield server


async def _answer(server: OwnServer, release: str) -> bytes:
    inference = TritonInference(server.endpoint, timeout_s=20)
    try:
        return (await inference.infer(release, _picture(), {})).report_json
    finally:
        await inference.close()


def _picture() -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((240, 320, 3), 127, np.uint8))[1])


def _model_processes(server: OwnServer) -> set[int]:
    """Process ids of the models that the server runs."""
    own = server._process.pid
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            parent = int(rest.split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if name.startswith("triton_python") and _is_under(parent, own):
            found.add(int(stat.parent.name))
    return found


def _is_under(pid: int, root: int) -> bool:
    while pid > 1:
        if pid == root:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@pytest.mark.slow
def test_a_version_that_is_added_restarts_no_model_in_use(yard: Yard, two_versions: Path, triton: OwnServer) -> None:
    """A real Triton that served nothing is filled; the model process of the first version lives on when the second comes."""

    async def load(name: str) -> None:
        server = TritonModels(triton.endpoint)
        try:
            await yard.holding(server).load(name)
        finally:
            await server.close()

    yard.release("yard_r1", yard.model(two_versions, 1))
    asyncio.run(load("yard_r1"))
    assert b"opencv_cpu" in asyncio.run(_answer(triton, "yard_r1"))
    before = _model_processes(triton)
    assert len(before) == 1
    yard.release("yard_r2", yard.model(two_versions, 2))
    asyncio.run(load("yard_r2"))
    assert b"opencv_too" in asyncio.run(_answer(triton, "yard_r2"))
    assert b"opencv_cpu" in asyncio.run(_answer(triton, "yard_r1"))
    assert before < _model_processes(triton)
