"""`Models` in this process, and on a private Triton Inference Server: old models loaded by the digest of their files.

Owns the private model repositories that they are loaded from; nothing of the serving side is touched.

Next: `processors.reinfer` and `processors.whatif` read frames with them.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from processors.reinfer.causes import BATCH
from schemas.errors import ConfigurationError, ContractError
from schemas.types import ReleaseStep
from streams.past import Past
from streams.ports import Answer, Form, Models, Reader
from topology.configuration import Configuration
from topology.configured import runs_in_process, trusted_configuration
from topology.model_store import ModelCache, registered
from topology.past import pipeline_of
from topology.private_triton import PrivateTriton
from topology.stack.layout import Layout

K = TypeVar("K")
V = TypeVar("V")
Runner = Literal["in process", "triton"]

_LOADED_MOST = 4  # sets of models, of about 200 MB each
IN_PROCESS: Runner = "in process"


@contextmanager
def open_models(
    configuration: Configuration, past: Past, *, runner: Runner = IN_PROCESS, trusted: bool = True
) -> Iterator[Models]:
    """Models of the pipeline's past releases, for as long as the block runs.

    Args:
        runner: Where they run. Models that bring no source of a step run on a server whatever is asked for.
        trusted: Whether model files may be taken from `past`; otherwise only those that this machine had before.
    """
    known = {event.digest: event for event in registered(past, pipeline_of(configuration.settings, past))}
    layout = Layout(configuration.home)
    cache = ModelCache(layout.home / "models", past.blobs, known, trusted=trusted, beside=layout.model_repository)
    with tempfile.TemporaryDirectory(prefix="hindsight-models-") as folder, ExitStack() as opened:
        if runner == "triton" or not all(runs_in_process(event) for event in known.values()):
            yield opened.enter_context(TritonModels(cache, Path(folder)))
        else:
            yield InProcessModels(cache, Path(folder))


class InProcessModels:
    """Runs the steps in this process, each with the source that its own files bring."""

    runner = "in process"

    def __init__(self, cache: ModelCache, folder: Path) -> None:
        self._cache = cache
        self._folder = folder
        self._loaded: dict[tuple[tuple[ReleaseStep, ...], Form], Reader] = {}

    def reader(self, steps: tuple[ReleaseStep, ...], form: Form) -> Reader:
        return _kept(self._loaded, (steps, form), lambda: self._load(steps, form), most=_LOADED_MOST, ended=lambda _: None)

    def _load(self, steps: tuple[ReleaseStep, ...], form: Form) -> Reader:
        from triton_models.configuration import StepPin
        from triton_models.in_process import InProcessEnsemble

        repository = _repository(self._cache, steps, self._folder / str(len(list(self._folder.iterdir()))))
        pins = tuple(StepPin(step=s.step, model=s.model, version=s.version) for s in steps)
        try:
            return _InProcessReader(InProcessEnsemble(repository, pins, threads=form.threads, batch_form=form.batch_form))
        except ConfigurationError as error:
            raise ContractError(str(error), do=error.do) from error
        except Exception as error:  # each model's own program is loaded, and may raise anything
            raise ContractError(f"the models cannot be loaded in this process: {type(error).__name__}: {error}") from error


class _InProcessReader:
    def __init__(self, ensemble: Any) -> None:
        self._ensemble = ensemble

    def read(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        answer = self._ensemble.answer(image, parameters)
        return Answer(result_json=answer.result, report_json=answer.report, endpoint=IN_PROCESS)


class TritonModels:
    """Runs the steps on a server of its own, the same program that serves; started once for each release and form."""

    runner = "triton"

    def __init__(self, cache: ModelCache, folder: Path) -> None:
        self._cache = cache
        self._folder = folder
        self._loaded: dict[tuple[tuple[ReleaseStep, ...], Form], PrivateTriton] = {}

    def __enter__(self) -> "TritonModels":
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._loaded.values():
            server.close()

    def reader(self, steps: tuple[ReleaseStep, ...], form: Form) -> Reader:
        if form.batch_form is not None:
            raise ContractError(f"a server runs models in their files' own {BATCH}", do=f"leave out --triton to vary the {BATCH}")
        return _kept(self._loaded, (steps, form), lambda: self._start(steps, form), most=1, ended=PrivateTriton.close)

    def _start(self, steps: tuple[ReleaseStep, ...], form: Form) -> PrivateTriton:
        place = self._folder / str(len(list(self._folder.iterdir())))
        repository = _repository(self._cache, steps, place / "repository")
        return PrivateTriton(
            repository, steps, threads=form.threads, folder=place, configurations=_configurations(self._cache, steps)
        )


def _configurations(cache: ModelCache, steps: tuple[ReleaseStep, ...]) -> Mapping[str, str]:
    """Configurations that the models were registered with, by the model's name."""
    known = [event for step in steps if (event := cache.known(step.digest)) is not None]
    found = {event.model: trusted_configuration(event, cache) for event in known if not runs_in_process(event)}
    return {model: text for model, text in found.items() if text is not None}


def _repository(cache: ModelCache, steps: tuple[ReleaseStep, ...], folder: Path) -> Path:
    """A model repository with exactly these versions, as links to verified folders."""
    for step in steps:
        source = cache.folder_of(step)
        place = folder / step.model / str(step.version)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(source, target_is_directory=True)
    return folder


def _kept(loaded: dict[K, V], key: K, load: Callable[[], V], *, most: int, ended: Callable[[V], None]) -> V:
    """What is loaded under a key; the one that was not asked for the longest makes room."""
    if key in loaded:
        loaded[key] = loaded.pop(key)
        return loaded[key]
    while len(loaded) >= most:
        oldest = loaded.pop(next(iter(loaded)))
        ended(oldest)
    loaded[key] = load()
    return loaded[key]
