"""Triton's configurations: what the server would read, parsed with its own protobuf schema."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from schemas.errors import ConfigurationError
from triton_models.configuration import StepPin, Variant, ensemble_config, model_config, reporting_steps
from triton_models.repository import MODEL_VERSIONS, RELEASES
from triton_models.wiring import STEPS

R1 = RELEASES["gate_reader_r1"]


def parsed(text: str) -> model_config_pb2.ModelConfig:
    """The configuration as the server's own schema reads it."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def model(step: str, variant: Variant = "cpu") -> model_config_pb2.ModelConfig:
    versions = tuple(version.version for version in MODEL_VERSIONS if version.step == step)
    return parsed(model_config(step, model=step, versions=versions, threads=1, variant=variant))


def shapes(config: model_config_pb2.ModelConfig, direction: str) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Type and full shape of each tensor: a batched model's first dimension is added by the server."""
    first = (1,) if config.max_batch_size else ()
    return {t.name: (t.data_type, (*first, *t.dims)) for t in getattr(config, direction)}


@pytest.mark.parametrize("step", STEPS)
def test_cpu_and_gpu_variants_have_the_same_tensors(step: str) -> None:
    """A variant differs only in the reports that its backend cannot give, and in DALI's way to take bytes."""
    cpu, gpu = model(step), model(step, "gpu")
    cpu_inputs, gpu_inputs = shapes(cpu, "input"), shapes(gpu, "input")
    if step == "dali_preprocess":
        assert gpu_inputs.pop("IMAGE") == (model_config_pb2.TYPE_UINT8, (1, -1))
        assert cpu_inputs.pop("IMAGE") == (model_config_pb2.TYPE_STRING, (1,))
    assert gpu_inputs == cpu_inputs
    cpu_outputs = shapes(cpu, "output")
    if step not in reporting_steps("gpu"):
        del cpu_outputs[f"REPORT_{step.upper()}"]
    assert shapes(gpu, "output") == cpu_outputs


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_every_tensor_of_an_ensemble_has_one_source_and_one_type(variant: Variant) -> None:
    """What a step takes is given by a step before it or by the caller, with the same type and shape."""
    ensemble = parsed(ensemble_config("gate_reader_r1", R1, variant=variant))
    known = shapes(ensemble, "input")
    for step in ensemble.ensemble_scheduling.step:
        config = model(step.model_name, variant)
        inputs, outputs = shapes(config, "input"), shapes(config, "output")
        required = {tensor.name for tensor in config.input if not tensor.optional}
        assert required <= set(step.input_map) <= set(inputs)
        for name, tensor in step.input_map.items():
            assert known[tensor] == inputs[name], f"{step.model_name} takes {name}"
        for name, tensor in step.output_map.items():
            assert tensor not in known
            known[tensor] = outputs[name]
    assert shapes(ensemble, "output").items() <= known.items()


def test_an_ensemble_pins_every_step() -> None:
    """No step of a release runs "the latest version"."""
    steps = parsed(ensemble_config("gate_reader_r1", R1)).ensemble_scheduling.step
    assert [(s.model_name, s.model_version) for s in steps] == [(p.model, p.version) for p in R1]
    assert all(step.model_version > 0 for step in steps)


def test_gpu_ensemble_reads_no_report_that_nobody_gives() -> None:
    """The last step of a GPU ensemble takes the reports of the Python steps only."""
    steps = parsed(ensemble_config("gate_reader_r1", R1, variant="gpu")).ensemble_scheduling.step
    reports = {name for name in steps[-1].input_map if name.startswith("REPORT_")}
    assert reports == {"REPORT_CROP_AND_RESIZE"}


def test_nothing_is_batched_cached_or_served_unpinned() -> None:
    """Frames with no crops pass, answers are computed, and only the versions that are named are served."""
    for text in [ensemble_config("gate_reader_r1", R1)]:
        assert parsed(text).max_batch_size == 0
    for step in STEPS:
        config = model(step)
        assert config.max_batch_size == 0
        assert not config.response_cache.enable
        assert not config.HasField("dynamic_batching")
        assert list(config.version_policy.specific.versions) == [v.version for v in MODEL_VERSIONS if v.step == step]


def test_a_release_without_a_step_is_refused() -> None:
    """A release that leaves a step out, or has them in another order, names what it has and what it needs."""
    with pytest.raises(ConfigurationError, match="gate_reader_x has the steps detection"):
        ensemble_config("gate_reader_x", R1[1:])
    with pytest.raises(ConfigurationError):
        ensemble_config("gate_reader_x", R1[::-1])


def test_a_release_without_a_version_is_refused() -> None:
    """Version -1, Triton's "latest", cannot be pinned."""
    pins = (*R1[:-1], StepPin(step="postprocess", model="postprocess", version=-1))
    with pytest.raises(ConfigurationError, match="does not pin a version of postprocess"):
        ensemble_config("gate_reader_x", pins)
