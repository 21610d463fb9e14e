"""The reference ensemble run in this process, without a server.

Owns loading the steps of a release from their folders in the model repository, each with the source that lies there,
and passing tensors from one to the next by name.

Guarantees: bit-equal to the ensemble on a server of the same machine type and the same package versions, because both
run the same files; an old release runs its own source, not today's.

Next: re-inference compares what this answers with what was recorded.
"""

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError, StepFailedError

from .configuration import StepPin
from .digest import file_sha256
from .wiring import step_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the ensemble answered about one frame: the bytes of RESULT and of REPORT, both JSON."""

    result: bytes
    report: bytes


class InProcessEnsemble:
    """A release's steps, loaded.

    Args:
        repository: Model repository, as `repository.build_repository` writes it.
        steps: The release's pins, in the order in which they run, as in `repository.RELEASES`.
        threads: Threads of one call of a step.
        batch_form: Run every network in this form (`steps.contract.BATCH_FORMS`) and not in its version's own.
    Raises:
        ConfigurationError: A pinned version is not in the repository, or its source has no batch forms.
    """

    def __init__(self, repository: Path, steps: tuple[StepPin, ...], *, threads: int = 1, batch_form: str | None = None) -> None:
        self._steps = [(pin, _loaded(repository, pin, threads, batch_form)) for pin in steps]

    def answer(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        """Read one frame.

        Args:
            image: An encoded picture.
            parameters: Thresholds by name; those left out have their defaults (`steps.contract.Thresholds`).
        Raises:
            StepFailedError: A step refused the frame or failed; it is named.
        """
        encoded_parameters = json.dumps(dict(parameters), sort_keys=True).encode()
        tensors: dict[str, NDArray[Any]] = {
            "IMAGE": np.array([image], dtype=np.object_),
            "PARAMETERS": np.array([encoded_parameters], dtype=np.object_),
        }
        for pin, step in self._steps:
            inputs = {spec.name: tensors[spec.name] for spec in step_inputs(pin.step)}
            try:
                tensors.update(step.run(inputs))
            except Exception as exc:  # each step raises the StepError of its own copy of the source
                raise StepFailedError(str(exc), step=pin.step) from exc
        return Answer(result=bytes(tensors["RESULT"][0]), report=bytes(tensors["REPORT"][0]))


def _loaded(repository: Path, pin: StepPin, threads: int, batch_form: str | None) -> Any:
    folder = repository / pin.model / str(pin.version)
    if not (folder / "steps").is_dir():
        raise ConfigurationError(f"{pin.model} version {pin.version} is not in the repository", do="build it first")
    run = _copied_source(folder / "steps")
    form = {} if batch_form is None else {"batch_form": batch_form}
    if not form.keys() <= inspect.signature(run.load_step).parameters.keys():
        raise ConfigurationError(f"the source of {pin.model} version {pin.version} knows no batch forms")
    return run.load_step(folder, model=pin.model, version=pin.version, threads=threads, server="none", **form)


def _copied_source(folder: Path) -> Any:
    """The module `run` of a copied `steps`, as a package of its own, so that copies live side by side."""
    sources = sorted(folder.glob("*.py"))
    content = "".join(f"{path.name}:{file_sha256(path)}\n" for path in sources)
    name = f"_hindsight_steps_{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None, "a path that ends in .py has a loader"
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    for path in sources:
        if path.stem != "__init__":
            importlib.import_module(f"{name}.{path.stem}")
    return sys.modules[f"{name}.run"]
