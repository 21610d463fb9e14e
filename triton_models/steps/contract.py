"""What the steps agree on: tensors by name, the error that they raise, and the thresholds of a request.

Guarantees: a request's thresholds are complete and valid or refused by name; a bad one never reaches a step's maths.

Next: every step module imports this; `run` wraps a `StepError` with the name of the step.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]
Settings = Mapping[str, Any]

BATCH_FORMS = ("single", "frame")
"""How the crops of a frame go through a network: one a call, or all of them in one call, padded to the widest."""


class StepError(Exception):
    """A step could not do its work. Read from outside it starts "step NAME (model MODEL version N): "."""


class Step(Protocol):
    """One step of the ensemble, ready to run."""

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        """Compute the outputs from the inputs, by name; shapes in `triton_models/wiring.py`.

        Raises:
            StepError: The input cannot be read by this step.
        """
        ...

    def runtime(self) -> dict[str, str]:
        """What this step computes with (library versions and settings that can change bits)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The numbers that a request may set; each is greater than 0 and less than 1.

    Defaults are those of the OCR package (rapidocr's config.yaml: Det.thresh, Det.box_thresh, Global.text_score).
    """

    detection_threshold: float = 0.3  # of one pixel of the text map
    box_threshold: float = 0.5  # of a box: mean of the text map inside it
    text_confidence: float = 0.5  # of a reading: mean over its characters


def read_thresholds(parameters: bytes) -> Thresholds:
    """Read the PARAMETERS of a request.

    Args:
        parameters: A JSON object of numbers by name; empty bytes mean "all defaults".
    Raises:
        StepError: Not a JSON object, an unknown name, or a value that is no number between 0 and 1; names it.
    """
    try:
        given = json.loads(parameters or b"{}")
    except ValueError as exc:
        raise StepError(f"PARAMETERS is not JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise StepError(f"PARAMETERS must be a JSON object, not {type(given).__name__}")
    known = [field.name for field in fields(Thresholds)]
    for name, value in given.items():
        if name not in known:
            raise StepError(f"unknown parameter {name!r}; known are {', '.join(known)}")
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise StepError(f"parameter {name!r} must be a number between 0 and 1, not {value!r}")
    return Thresholds(**{name: float(value) for name, value in given.items()})


def read_batch_form(settings: Settings) -> str:
    """The batch form that a model version's settings ask for; "single" when they say nothing.

    Raises:
        StepError: There is no such form.
    """
    form = str(settings.get("batch_form", BATCH_FORMS[0]))
    if form not in BATCH_FORMS:
        raise StepError(f"unknown batch_form {form!r}; known are {', '.join(BATCH_FORMS)}")
    return form


def bytes_tensor(content: bytes) -> Tensor:
    """BYTES, shape (1,), as Triton's Python backend and this process both carry it."""
    return np.array([content], dtype=np.object_)


def read_bytes(tensors: Tensors, name: str) -> bytes:
    """The content of a BYTES tensor of one element.

    Raises:
        StepError: It has no element, or more than one.
    """
    tensor = tensors[name]
    if tensor.size != 1:
        raise StepError(f"{name} must hold one element, not {tensor.size}")
    return bytes(tensor.reshape(-1)[0])


def json_bytes(value: object) -> bytes:
    """JSON in one stable form: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
