"""What a TensorRT plan is built for and what its manifest says; the build itself needs a GPU."""

import importlib.util
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from triton_models.build import check_gpu, cuda_device, tensorrt_plan
from triton_models.build.cuda_device import GpuFacts, checked, version_text
from triton_models.build.tensorrt_plan import DETECTION_PROFILES, PlanManifest, ShapeProfile, build_plan, fitting_plan
from triton_models.digest import file_sha256
from triton_models.repository import MODEL_VERSIONS
from triton_models.wiring import STEPS

MANIFEST = PlanManifest(
    network="ppocr_v4_detection.onnx",
    onnx_sha256="d2" * 32,
    plan_sha256="a7" * 32,
    plan_bytes=7_000_000,
    precision="fp16",
    profiles=DETECTION_PROFILES,
    input_name="DETECTION_PIXELS",
    output_name="TEXT_MAP",
    builder="TensorRT 10.6.0",
    optimization_level=3,
    gpu=GpuFacts(
        name="NVIDIA H100 80GB HBM3",
        compute_capability="9.0",
        memory_bytes=85_017_493_504,
        driver_version="580.159.04",
        driver_cuda_version="13.0",
    ),
    timing_cache=False,
    built_in_s=61.5,
)

without_tensorrt = pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")


def test_the_profiles_cover_what_the_preprocessing_gives() -> None:
    """Every side that the preprocessing can give, a multiple of 32 up to its longest, lies in the plan's shapes."""
    longest = next(v for v in MODEL_VERSIONS if v.step == "dali_preprocess").settings["side_px_max"]
    for profile in DETECTION_PROFILES:
        least, usual, most = profile.shapes()
        assert least == (profile.batch, 3, 32, 32)
        assert most == (profile.batch, 3, longest, longest)
        assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True))


def test_the_first_profile_takes_single_frames() -> None:
    """A server that names no profile uses the first, and the ensemble sends one frame a call."""
    assert next(profile.batch for profile in DETECTION_PROFILES) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": 0, "height_px": 576, "width_px": 736},
        {"batch": 1, "height_px": 570, "width_px": 736},
        {"batch": 1, "height_px": 576, "width_px": 768},
        {"batch": 1, "height_px": 576, "width_px": 736, "side_px_min": 0},
        {"batch": 1, "height_px": 64, "width_px": 64, "side_px_min": 96},
    ],
)
def test_a_profile_of_impossible_shapes_is_refused(fields: dict[str, int]) -> None:
    """A batch of nothing, a side that is no multiple of 32, or a usual size outside least and most."""
    with pytest.raises(ConfigurationError) as refused:
        ShapeProfile(**fields)
    assert refused.value.setting in {"batch", "side_px"}


def test_a_manifest_is_read_as_it_was_written() -> None:
    """Nothing of what made a plan is lost on the way through its file."""
    assert PlanManifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_a_manifest_that_lacks_a_field_is_refused() -> None:
    """A plan whose maker is not known is not taken for one whose maker is."""
    fields = json.loads(MANIFEST.to_json())
    del fields["gpu"]
    with pytest.raises(ConfigurationError, match="manifest"):
        PlanManifest.from_json(json.dumps(fields).encode())


def test_the_plan_has_the_tensors_of_the_detection_step() -> None:
    """Triton's configuration of the GPU variant names the same tensors."""
    defaults = build_plan.__kwdefaults__
    assert (defaults["input_name"],) == STEPS["detection"].inputs
    assert (defaults["output_name"],) == STEPS["detection"].outputs


@without_tensorrt
def test_without_tensorrt_the_build_says_what_to_install(tmp_path: Path) -> None:
    """The error names the missing package and the command; no file is left behind."""
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(ConfigurationError, match="TensorRT is not installed") as refused:
        build_plan(tmp_path / "model.onnx", tmp_path / "out", clock_s=time.monotonic)
    assert "hindsight-recorder[gpu]" in refused.value.do
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_not_there_is_named_first(tmp_path: Path) -> None:
    """Before TensorRT is looked for, because that is the cheaper mistake to put right."""
    with pytest.raises(ConfigurationError, match=r"detection\.onnx does not exist"):
        build_plan(tmp_path / "detection.onnx", tmp_path, clock_s=time.monotonic)


@without_tensorrt
@pytest.mark.parametrize("program", [check_gpu, tensorrt_plan])
def test_the_programs_end_with_2_and_what_to_do(program: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without a GPU gets a sentence, not a traceback."""
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    given = {
        check_gpu: ["--weights", str(tmp_path), "--out", str(tmp_path / "out")],
        tensorrt_plan: ["--onnx", str(tmp_path / "model.onnx"), "--out", str(tmp_path / "out")],
    }
    assert program.main(given[program]) == 2  # type: ignore[attr-defined, index]
    assert "hindsight-recorder[gpu]" in capsys.readouterr().err


def test_a_failed_cuda_call_is_an_error() -> None:
    """No return code is passed over."""

    class Code(int):
        name = "cudaErrorMemoryAllocation"

    with pytest.raises(RuntimeError, match="cudaErrorMemoryAllocation"):
        checked((Code(2), None))
    assert checked((Code(0), 7)) == 7
    assert checked((Code(0),)) == ()


def test_cuda_versions_read_as_people_write_them() -> None:
    """13000 is 13.0, 12060 is 12.6."""
    assert [version_text(number) for number in (13000, 12060, 11080)] == ["13.0", "12.6", "11.8"]


def test_the_driver_version_is_found_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the first version in the kernel module's line, and "unknown" where there is no such file."""
    file = tmp_path / "version"
    monkeypatch.setattr(cuda_device, "_DRIVER_VERSION_FILE", file)
    assert cuda_device._driver_version() == "unknown"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC version: gcc 12.3.0\n"
    )
    assert cuda_device._driver_version() == "580.159.04"


def test_a_fixed_profile_takes_its_usual_shape_only() -> None:
    """Least and most are the usual shape, so that TensorRT tunes for nothing else."""
    profile = ShapeProfile(batch=1, height_px=576, width_px=736, fixed=True)
    assert profile.shapes() == ((1, 3, 576, 736),) * 3


def test_a_plan_is_kept_only_while_everything_about_it_fits(tmp_path: Path) -> None:
    """Another network, GPU, builder, precision or shape, or a plan that was changed, means a new build."""
    onnx, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    onnx.write_bytes(b"network")
    fits = {"profiles": DETECTION_PROFILES, "precision": MANIFEST.precision, "gpu": MANIFEST.gpu, "builder": MANIFEST.builder}
    assert fitting_plan(onnx, tmp_path, **fits) is None, "there is no plan yet"
    plan.write_bytes(b"plan")
    manifest = replace(MANIFEST, onnx_sha256=file_sha256(onnx), plan_sha256=file_sha256(plan))
    (tmp_path / "model.plan.json").write_bytes(manifest.to_json())
    assert fitting_plan(onnx, tmp_path, **fits) == manifest
    others = {
        "profiles": DETECTION_PROFILES[:1],
        "precision": "fp32",
        "gpu": replace(MANIFEST.gpu, compute_capability="8.0"),
        "builder": "TensorRT 11.4.0",
    }
    for name, other in others.items():
        assert fitting_plan(onnx, tmp_path, **(fits | {name: other})) is None, name
    plan.write_bytes(b"another plan")
    assert fitting_plan(onnx, tmp_path, **fits) is None
    plan.write_bytes(b"plan")
    onnx.write_bytes(b"another network")
    assert fitting_plan(onnx, tmp_path, **fits) is None
