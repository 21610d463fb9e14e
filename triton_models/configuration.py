"""Triton's configurations, made from the table of tensors: one for each model, one for each ensemble.

Owns the text of every config.pbtxt and of its variant `configs/gpu.pbtxt`, which Triton takes instead when the server
runs with `--model-config-name=gpu`.

Guarantees: an ensemble pins the version of every step; a variant has the same tensor names and types as the CPU's,
but for two things that its backends cannot do:
- Native backends (dali, tensorrt, onnxruntime) give no REPORT_<STEP>. The last step's report inputs are optional, so
  a GPU ensemble leaves them unmapped, and REPORT holds the steps that could report (crop_and_resize, postprocess).
  The caller knows the other steps' model, version and digest from the release, and their times from the statistics.
- DALI's backend reads encoded bytes as uint8 and not as a string, so a GPU ensemble takes IMAGE as uint8 (1, bytes).
  A caller looks at the data type that the ensemble's metadata name.

The files of the GPU variants (model.plan, model.dali, a classifier whose tensors carry our names) come from a builder
on a machine with a GPU. It names the tensors as `wiring` does, lets N start at 0, and puts turning crops, argmax and
the class count into the recognizer's graph, as `steps/recognizer.py` defines them.

Next: `repository` writes the files, the server reads them.
"""

from dataclasses import dataclass
from typing import Literal

from schemas.errors import ConfigurationError

from .ensemble import Member, ensemble_text, tensors_text
from .wiring import STEPS, TensorSpec, report_name, step_inputs, step_outputs

Variant = Literal["cpu", "gpu"]

_GPU_BACKENDS = {
    "dali_preprocess": 'backend: "dali"\ndefault_model_filename: "model.dali"',
    "detection": 'platform: "tensorrt_plan"\ndefault_model_filename: "model.plan"',
    "classifier": 'platform: "onnxruntime_onnx"\ndefault_model_filename: "model.gpu.onnx"',
    "recognizer": 'platform: "tensorrt_plan"\ndefault_model_filename: "model.plan"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPin:
    """A step of a release and the model version that does its work."""

    step: str
    model: str
    version: int


def model_config(step: str, *, model: str, versions: tuple[int, ...], threads: int, variant: Variant = "cpu") -> str:
    """The configuration of a model that does a step.

    Args:
        step: Name of the step, as in `wiring.STEPS`.
        model: Name of the model, which is its folder's.
        versions: Versions to serve; they share this configuration.
        threads: Threads of one call, on a CPU. Not part of a version's digest, since bits do not depend on it.
    """
    native = variant == "gpu" and step in _GPU_BACKENDS
    inputs, outputs = step_inputs(step), step_outputs(step)
    batch = 0
    if native:
        outputs = outputs[:-1]
    if native and step == "dali_preprocess":
        # DALI's backend takes the first dimension as the batch, and the server adds it to the dims given here.
        batch = 1
        inputs = (TensorSpec(name="IMAGE", data_type="TYPE_UINT8", dims=(-1,)),)
        outputs = tuple(TensorSpec(name=o.name, data_type=o.data_type, dims=o.dims[1:]) for o in outputs)
    lines = [f'name: "{model}"', _GPU_BACKENDS[step] if native else 'backend: "python"', f"max_batch_size: {batch}"]
    lines += [tensors_text("input", inputs), tensors_text("output", outputs)]
    lines.append(f"version_policy {{ specific {{ versions: [ {', '.join(map(str, versions))} ] }} }}")
    lines.append(f"instance_group [ {{ kind: {'KIND_GPU' if native else 'KIND_CPU'} count: 1 }} ]")
    if not native:
        lines.append(f'parameters {{ key: "threads" value {{ string_value: "{threads}" }} }}')
    return "\n".join(lines) + "\n"


def ensemble_config(name: str, steps: tuple[StepPin, ...], *, variant: Variant = "cpu") -> str:
    """The configuration of a release's ensemble: IMAGE and PARAMETERS in, RESULT and REPORT out.

    Args:
        name: Name of the ensemble. Triton keeps one configuration for all versions of a name, so each release has a
            name of its own.
        steps: One pin for each step of `wiring.STEPS`, in that order.
    Raises:
        ConfigurationError: A step is missing, unknown or out of order, or a version is not positive.
    """
    if tuple(pin.step for pin in steps) != tuple(STEPS):
        raise ConfigurationError(
            f"release {name} has the steps {', '.join(pin.step for pin in steps)}",
            do=f"give exactly one pin for each of {', '.join(STEPS)}, in this order",
        )
    unpinned = [pin.step for pin in steps if pin.version < 1]
    if unpinned:
        raise ConfigurationError(f"release {name} does not pin a version of {', '.join(unpinned)}", setting="version")
    image = TensorSpec(name="IMAGE", data_type="TYPE_STRING", dims=(1,))
    if variant == "gpu":
        image = TensorSpec(name="IMAGE", data_type="TYPE_UINT8", dims=(1, -1))
    parameters = TensorSpec(name="PARAMETERS", data_type="TYPE_STRING", dims=(1,))
    members = tuple(_member(pin, variant) for pin in steps)
    return ensemble_text(name, members, given=(image, parameters))


def reporting_steps(variant: Variant) -> tuple[str, ...]:
    """The steps whose backend reports about each frame."""
    return tuple(step for step in STEPS if variant == "cpu" or step not in _GPU_BACKENDS)


def _member(pin: StepPin, variant: Variant) -> Member:
    reports = reporting_steps(variant)
    silent = {report_name(step) for step in STEPS if step not in reports}
    outputs = tuple(tensor for tensor in step_outputs(pin.step) if tensor.name not in silent)
    return Member(step=pin.step, model=pin.model, version=pin.version, inputs=step_inputs(pin.step), outputs=outputs)
