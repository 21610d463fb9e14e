"""Which tensors each step of the reference ensemble takes and gives.

Owns the table that model configurations and ensembles are made from. A tensor has one name everywhere: what a step
gives as TEXT_MAP, another takes as TEXT_MAP, so an ensemble needs no mapping of its own.

Guarantees: dims -1 mean "any, 0 included, where the docstring of the step says N"; all shapes are full shapes,
because nothing here is batched by the server.

Next: `configuration` turns it into Triton's protobuf text.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor as Triton's configuration names it; `data_type` such as "TYPE_FP32"."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """The inputs and outputs of a step, reports aside."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _tensor(name: str, data_type: str, *dims: int) -> TensorSpec:
    return TensorSpec(name=name, data_type=data_type, dims=dims)


TENSORS = {
    spec.name: spec
    for spec in (
        _tensor("IMAGE", "TYPE_STRING", 1),
        _tensor("PARAMETERS", "TYPE_STRING", 1),
        _tensor("PIXELS", "TYPE_UINT8", 1, -1, -1, 3),
        _tensor("DETECTION_PIXELS", "TYPE_FP32", 1, 3, -1, -1),
        _tensor("TEXT_MAP", "TYPE_FP32", 1, 1, -1, -1),
        _tensor("BOXES", "TYPE_FP32", -1, 4, 2),
        _tensor("BOX_SCORES", "TYPE_FP32", -1),
        _tensor("CLASSIFIER_PIXELS", "TYPE_FP32", -1, 3, 48, 192),
        _tensor("RECOGNIZER_PIXELS", "TYPE_FP32", -1, 3, 48, -1),
        _tensor("WIDTHS", "TYPE_INT32", -1),
        _tensor("IMAGE_SIZE", "TYPE_INT32", 2),
        _tensor("DETECTION_CANDIDATES", "TYPE_STRING", 1),
        _tensor("ORIENTATION", "TYPE_FP32", -1, 2),
        _tensor("TOKENS", "TYPE_INT32", -1, -1),
        _tensor("TOKEN_SCORES", "TYPE_FP32", -1, -1),
        _tensor("CLASS_COUNT", "TYPE_INT32", 1),
        _tensor("RESULT", "TYPE_STRING", 1),
        _tensor("REPORT", "TYPE_STRING", 1),
    )
}
"""Every tensor that flows through the ensemble, by name; reports of single steps aside."""

STEPS = {
    spec.name: spec
    for spec in (
        StepSpec(name="dali_preprocess", inputs=("IMAGE",), outputs=("PIXELS", "DETECTION_PIXELS")),
        StepSpec(name="detection", inputs=("DETECTION_PIXELS",), outputs=("TEXT_MAP",)),
        StepSpec(
            name="crop_and_resize",
            inputs=("PIXELS", "TEXT_MAP", "PARAMETERS"),
            outputs=(
                "BOXES",
                "BOX_SCORES",
                "CLASSIFIER_PIXELS",
                "RECOGNIZER_PIXELS",
                "WIDTHS",
                "IMAGE_SIZE",
                "DETECTION_CANDIDATES",
            ),
        ),
        StepSpec(name="classifier", inputs=("CLASSIFIER_PIXELS",), outputs=("ORIENTATION",)),
        StepSpec(
            name="recognizer",
            inputs=("RECOGNIZER_PIXELS", "WIDTHS", "ORIENTATION"),
            outputs=("TOKENS", "TOKEN_SCORES", "CLASS_COUNT"),
        ),
        StepSpec(
            name="postprocess",
            inputs=(
                "IMAGE_SIZE",
                "BOXES",
                "BOX_SCORES",
                "WIDTHS",
                "ORIENTATION",
                "TOKENS",
                "TOKEN_SCORES",
                "CLASS_COUNT",
                "DETECTION_CANDIDATES",
                "PARAMETERS",
            ),
            outputs=("RESULT",),
        ),
    )
}
"""The steps in the order in which they run."""

LAST_STEP = "postprocess"


def report_name(step: str) -> str:
    """Name of the tensor in which a step reports about a frame, for instance REPORT_DETECTION."""
    return f"REPORT_{step.upper()}"


def step_inputs(step: str) -> tuple[TensorSpec, ...]:
    """Inputs of a step. The last step takes the reports of the others, each of which may be missing."""
    inputs = tuple(TENSORS[name] for name in STEPS[step].inputs)
    if step != LAST_STEP:
        return inputs
    return inputs + tuple(_report(other, optional=True) for other in STEPS if other != LAST_STEP)


def step_outputs(step: str) -> tuple[TensorSpec, ...]:
    """Outputs of a step with its report; the last step's is the joined REPORT."""
    outputs = tuple(TENSORS[name] for name in STEPS[step].outputs)
    return (*outputs, TENSORS["REPORT"] if step == LAST_STEP else _report(step))


def _report(step: str, *, optional: bool = False) -> TensorSpec:
    return TensorSpec(name=report_name(step), data_type="TYPE_STRING", dims=(1,), optional=optional)
