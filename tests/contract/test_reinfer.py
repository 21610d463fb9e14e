"""Re-inference of frames that a real Triton read: what is recorded is reproduced from the blob store alone, and what is not
has its cause proved. Planted: a batch form, a thread count, a library version, a changed byte."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors.emit import outgoing
from processors.infer import core as infer
from processors.lookback.inferences import Found
from processors.lookback.releases import ReleaseHistory
from processors.reinfer.again import ALONE, ASKED, RECORDED, Asked, FormJudged, Judged, Reinference
from processors.reinfer.causes import Proof
from processors.reinfer.compare import Verdict
from processors.reinfer.rates import Rates
from processors.release import core as release
from schemas.codec import FixedSchemas
from schemas.errors import BlobGoneError, ContractError, DigestError
from schemas.events import InferenceCompleted, ModelRegistered, RegisterModel
from schemas.model_files import digest_of
from schemas.types import EventId, ReleaseStep
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from tests.contract.test_ensemble import CODE, picture
from tests.given import AT_US, accepted, cause
from topology.model_store import ModelCache, is_whole, registered, store_files
from topology.private_triton import PrivateTriton
from topology.reading import InProcessModels, TritonModels
from triton_models.digest import model_digest
from triton_models.repository import RELEASES, build_repository
from triton_models.weights import fetch_weights

CHECKOUT = Path(__file__).parents[2]
PARAMETERS = {"text_confidence": 0.5, "box_threshold": 0.5, "detection_threshold": 0.3}
PICTURES = (picture(), picture(CODE), picture("GATE 4", CODE, "22G1"), picture(CODE, turned=True))
R1, R2 = "gate_reader_r1", "gate_reader_r2"
BATCHED, THREADED = "batched", "threaded"
Steps = tuple[ReleaseStep, ...]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference models; a recognizer that reads all crops of a frame at once, as version 12; and a detection whose
    outputs depend on its threads, as version 13."""
    weights = CHECKOUT / ".hindsight" / "servers" / "weights"
    fetch_weights(weights, say=print)
    target = tmp_path_factory.mktemp("reinfer") / "repository"
    build_repository(target, weights)
    shutil.copytree(target / "recognizer" / "2", target / "recognizer" / "12")
    settings = target / "recognizer" / "12" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "batch_form": "frame"}))
    shutil.copytree(target / "detection" / "3", target / "detection" / "13")
    source = target / "detection" / "13" / "steps" / "detection.py"
    text = source.read_text()
    text = text.replace('self._session(tensors["DETECTION_PIXELS"])', 'self._session(tensors["DETECTION_PIXELS"]) * self.scale')
    loaded = "    made = Detection(OnnxSession(folder, threads=threads))"
    scaled = "    made.scale = np.float32(1 - 1e-6 * threads)"
    text = text.replace(loaded.replace("made =", "return"), f"{loaded}\n{scaled}\n    return made")
    source.write_text(text)
    assert text.count("scale") == 2
    return target


@pytest.fixture(scope="module")
def steps(repository: Path) -> dict[str, Steps]:
    """The pins of each release, with the digests of the files."""

    def pinned(name: str, **versions: int) -> Steps:
        return tuple(
            ReleaseStep(
                step=pin.step,
                model=pin.model,
                version=(v := versions.get(pin.step, pin.version)),
                digest=model_digest(repository / pin.model / str(v)),
            )
            for pin in RELEASES[name]
        )

    return {
        R1: pinned(R1),
        R2: pinned(R2),
        BATCHED: pinned(R2, recognizer=12),
        THREADED: pinned(R1, detection=13),
    }


class World:
    """A log and a blob store that hold the models and nothing else yet."""

    def __init__(self, repository: Path, steps: dict[str, Steps]) -> None:
        self.log = MemoryLog(lambda: AT_US, partitions=1)
        self.blobs = MemoryBlobStore()
        self.past = Past(log=self.log, schemas=FixedSchemas(), blobs=self.blobs, source="a test")
        versions = sorted({(s.model, s.version) for pins in steps.values() for s in pins})
        for offset, (model, version) in enumerate(versions):
            files = store_files(repository / model / str(version), self.blobs)
            command = RegisterModel(
                command_id=EventId("c"),
                pipeline="gate",
                model=model,
                version=version,
                digest=digest_of(files),
                files=files,
                issued_by="me",
                reason="",
                issued_at_us=AT_US,
            )
            why = cause(offset, "vision.commands")
            (event,) = release.decide(release.INITIAL, command, why)
            self.log.append_now(outgoing(event, cause=why, source="release", time_us=AT_US, schemas=self.past.schemas))

    def known(self) -> dict[str, ModelRegistered]:
        return {event.digest: event for event in registered(self.past, "gate")}

    def cache(self, folder: Path, *, trusted: bool = True, beside: Path = Path("/nowhere")) -> ModelCache:
        return ModelCache(folder / "cache", self.blobs, self.known(), trusted=trusted, beside=beside)

    def judge(self, models: Any, event: InferenceCompleted, asked: Asked = Asked()) -> Judged:
        again = Reinference(self.past, models, ReleaseHistory(self.past, "gate"))
        return again.judge(Found(event=event, partition=0, offset=0, appended_at_ms=0), asked)


@pytest.fixture(scope="module")
def stored(repository: Path, steps: dict[str, Steps]) -> World:
    return World(repository, steps)


Record = Callable[[str, bytes], InferenceCompleted]


@pytest.fixture(scope="module")
def record(stored: World, steps: dict[str, Steps], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """What a real Triton answers about an image, as the event that records it; one thread a call."""
    folder = tmp_path_factory.mktemp("recording")
    servers: dict[str, PrivateTriton] = {}
    cache = stored.cache(folder)

    def recorded(name: str, image: bytes) -> InferenceCompleted:
        if name not in servers:
            place = folder / name / "repository"
            for step in steps[name]:
                shutil.copytree(cache.folder_of(step), place / step.model / str(step.version))
            servers[name] = PrivateTriton(place, steps[name], threads=1, folder=folder / name)
        said = servers[name].read(image, PARAMETERS)
        event = accepted(0)
        event = replace(event, frame=replace(event.frame, blob=stored.blobs.put(image, "image/jpeg")))
        route = infer.Route(release=name, parameters=PARAMETERS, releases_offset=0, pins={})
        called = infer.Called(endpoint=said.endpoint, attempts=1, started_at_us=AT_US, duration_us=1)
        outcome = infer.Answered(route=route, called=called, result_json=said.result_json, report_json=said.report_json)
        made = infer.decide("gate", event, outcome, cause(0, "vision.assessments"))
        assert isinstance(made, InferenceCompleted)
        return made

    yield recorded
    for server in servers.values():
        server.close()


@pytest.fixture(scope="module")
def here(stored: World, tmp_path_factory: pytest.TempPathFactory) -> InProcessModels:
    """The models in this process, fetched by digest."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "private").mkdir()
    return InProcessModels(stored.cache(folder), folder / "private")


def form(judged: Judged, name: str) -> FormJudged:
    assert judged.problem == ""
    found = judged.of(name)
    assert found is not None
    assert found.compared is not None, found.problem
    return found


def test_what_triton_recorded_is_reproduced_in_process_bit_for_bit(stored: World, here: InProcessModels, record: Record) -> None:
    """Both releases, with no crops, one, several, one upside down: every step's outputs; the rate is printed."""
    rates = Rates(here.runner)
    for name in (R1, R2):
        for image in PICTURES:
            rates.count(stored.judge(here, record(name, image)))
    print(json.dumps(rates.as_plain(), indent=1))
    assert rates.counted(Verdict.BIT_EXACT) == rates.frames == 2 * len(PICTURES)
    assert {name: (r.compared, r.equal) for name, r in rates.backends.items()} == {
        "dali_cpu": (8, 8),
        "onnxruntime_cpu": (24, 24),
        "python_cpu": (16, 16),
    }


def test_a_private_triton_gives_the_same(stored: World, record: Record, tmp_path: Path) -> None:
    """The same program that served: bit-exact too, and a batch form that the files do not have is refused, not guessed."""
    (tmp_path / "private").mkdir()
    with TritonModels(stored.cache(tmp_path), tmp_path / "private") as models:
        judged = stored.judge(models, record(R1, PICTURES[2]), Asked(batch_form="frame"))
    assert form(judged, RECORDED).compared.verdict is Verdict.BIT_EXACT  # type: ignore[union-attr]  # held by form()
    asked = judged.of(ASKED)
    assert asked is not None
    assert "own batch_form" in asked.problem


def test_a_recorded_batch_is_reproduced_and_alone_its_form_is_the_cause(
    stored: World, here: InProcessModels, record: Record
) -> None:
    """Crops that were read together are read together again; one at a time they differ, from the recognizer on."""
    event = record(BATCHED, PICTURES[2])
    assert event.runtime["batch_form"] == "frame (recognizer); single (detection, classifier)"
    judged = stored.judge(here, event)
    together, alone = form(judged, RECORDED), form(judged, ALONE)
    assert together.compared is not None
    assert together.compared.verdict is Verdict.BIT_EXACT
    assert alone.compared is not None
    assert alone.compared.verdict is not Verdict.BIT_EXACT
    assert alone.compared.first_different_step == "recognizer"
    (found,) = alone.causes
    assert (found.name, found.proof, found.step) == ("batch_form", Proof.PROVED, "recognizer")


def test_threads_that_matter_are_the_cause_and_threads_that_do_not_are_none(
    stored: World, here: InProcessModels, record: Record
) -> None:
    """The reference models give the same bits with two threads; the planted one does not, and says so in detection."""
    same = form(stored.judge(here, record(R1, PICTURES[1]), Asked(threads=2)), ASKED)
    assert same.compared is not None
    assert (same.form.threads, same.compared.verdict, same.causes) == (2, Verdict.BIT_EXACT, ())
    judged = stored.judge(here, record(THREADED, PICTURES[1]), Asked(threads=2))
    recorded, asked = form(judged, RECORDED), form(judged, ASKED)
    assert recorded.compared is not None
    assert recorded.compared.verdict is Verdict.BIT_EXACT
    assert asked.compared is not None
    assert asked.compared.first_different_step == "detection"
    (found,) = asked.causes
    assert (found.name, found.recorded, found.present, found.proof, found.step) == (
        "threads",
        "1",
        "2",
        Proof.PROVED,
        "detection",
    )


def test_another_version_of_a_library_is_named_with_both_versions(stored: World, here: InProcessModels, record: Record) -> None:
    """A record of an older runtime, whose outputs differ from detection on: suspected, since it cannot be varied here."""
    event = record(R1, PICTURES[1])
    old = tuple(replace(s, output_sha256="ab" * 32) if s.step == "detection" else s for s in event.steps)
    event = replace(event, steps=old, runtime={**event.runtime, "onnxruntime": "1.20.0"})
    found = form(stored.judge(here, event), RECORDED)
    assert found.compared is not None
    assert (found.compared.verdict, found.compared.first_different_step) == (Verdict.WITHIN_TOLERANCE, "detection")
    suspected = {c.name: (c.recorded, c.proof) for c in found.causes}
    assert suspected["onnxruntime"] == ("1.20.0", Proof.SUSPECTED)
    assert set(suspected) == {"onnxruntime", "triton"}


def test_the_fingerprint_holds_what_can_change_bits(record: Record) -> None:
    """Backend and library versions, provider, device, threads and batch; the preprocessing by its digest."""
    event = record(R1, PICTURES[1])
    assert {
        "triton", "python", "numpy", "onnxruntime", "dali", "opencv", "provider", "device", "instruction_set",
        "threads", "batch_form", "graph_optimization", "prepacking",
    } == event.runtime.keys()  # fmt: skip
    assert (event.runtime["device"], event.runtime["threads"]) == ("cpu", "1")
    assert event.runtime["provider"] == "CPUExecutionProvider"
    assert event.steps[0].step == "dali_preprocess"
    assert event.steps[0].digest is not None


def test_a_model_file_with_one_changed_byte_is_caught_by_digest(
    repository: Path, steps: dict[str, Steps], record: Record, tmp_path: Path
) -> None:
    """In the blob store: model, version and file are named, and nothing is judged. In the cache: it is fetched anew."""
    event = record(R1, PICTURES[1])
    world = World(repository, steps)
    world.blobs.put(PICTURES[1], "image/jpeg")
    (tmp_path / "private").mkdir()
    cache = world.cache(tmp_path)
    detection = next(s for s in steps[R1] if s.step == "detection")
    network = next(f.blob.sha256 for f in world.known()[detection.digest].files if f.path == "model.onnx")
    whole = world.blobs.contents[network]
    world.blobs.contents[network] = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    judged = world.judge(InProcessModels(cache, tmp_path / "private"), event)
    assert judged.forms == ()
    assert re.match(
        r"file model.onnx of detection:3 was changed in the blob store: blob [0-9a-f]{64}: .* were found", judged.problem
    )

    world.blobs.contents[network] = whole
    folder = cache.folder_of(detection)
    (folder / "model.onnx").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert is_whole(cache.folder_of(detection), detection.digest)

    del world.blobs.contents[network]
    shutil.rmtree(folder)
    with pytest.raises(BlobGoneError, match=r"file model.onnx of detection:3 is gone"):
        cache.folder_of(detection)
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.name == detection.digest or p.name.startswith(".partial")] == []


def test_what_was_never_registered_or_names_no_digest_is_refused(stored: World, tmp_path: Path) -> None:
    """Nothing is looked for under a name that the log made up."""
    cache = stored.cache(tmp_path)
    with pytest.raises(BlobGoneError, match="were never registered"):
        cache.folder_of(ReleaseStep(step="s", model="m", version=1, digest="ab" * 32))
    for model, digest in (("m", "../../x"), ("m", "AB" * 32), ("../m", "ab" * 32)):
        with pytest.raises(DigestError, match="names no model version"):
            cache.folder_of(ReleaseStep(step="s", model=model, version=1, digest=digest))


def test_compiled_files_beside_the_source_are_not_trusted(stored: World, steps: dict[str, Steps], tmp_path: Path) -> None:
    """No digest covers them, and Python would run them: such a folder is fetched anew."""
    cache = stored.cache(tmp_path)
    folder = cache.folder_of(steps[R1][0])
    (folder / "steps" / "__pycache__").unlink()
    (folder / "steps" / "__pycache__").mkdir()
    (folder / "steps" / "__pycache__" / "run.cpython-311.pyc").write_bytes(b"other code")
    assert model_digest(folder) == steps[R1][0].digest
    assert (cache.folder_of(steps[R1][0]) / "steps" / "__pycache__").is_file()


def test_models_of_a_source_that_is_not_trusted_run_only_if_they_were_here_before(
    stored: World, steps: dict[str, Steps], repository: Path, tmp_path: Path
) -> None:
    """A model version brings a program: from a bundle it is not run unless somebody says so, or the same files are here."""
    with pytest.raises(ContractError, match="runs the program that comes with it"):
        stored.cache(tmp_path, trusted=False).folder_of(steps[R1][0])
    own = stored.cache(tmp_path, trusted=False, beside=repository)
    assert own.folder_of(steps[R1][0]) == repository / "dali_preprocess" / "1"
    (tmp_path / "other" / "dali_preprocess" / "1").mkdir(parents=True)
    with pytest.raises(ContractError):
        stored.cache(tmp_path, trusted=False, beside=tmp_path / "other").folder_of(steps[R1][0])


def test_the_digest_of_files_is_the_digest_of_their_folder(repository: Path, steps: dict[str, Steps]) -> None:
    """What events say and what running models report is one thing."""
    for step in steps[R1]:
        folder = repository / step.model / str(step.version)
        assert digest_of(store_files(folder, MemoryBlobStore())) == model_digest(folder) == step.digest
