"""A TensorRT plan of a network: built from its ONNX file, for one kind of GPU, with a manifest of what made it.

Owns the shapes that a plan takes (optimisation profiles), its precision, the timing cache, and the manifest that lies
beside the plan.

Guarantees: the plan's tensors have the names of `wiring`; the manifest names the sha256 of the ONNX file and of the
plan, the builder's version and the GPU, so that a plan is never taken for another; both files are complete or absent.
A plan is not reproducible bit by bit, because the builder chooses by timing: the digest names the file, and the timing
cache keeps a second build near the first.

Next: the plan is copied into a model version's folder as model.plan, where its digest covers it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.errors import ConfigurationError
from triton_models.digest import file_sha256

from .cuda_device import NEEDS, GpuFacts, gpu_facts

Precision = Literal["fp16", "fp32"]

PLAN_FILE = "model.plan"
MANIFEST_FILE = "model.plan.json"

_STRIDE_PX = 32
_WORKSPACE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeProfile:
    """The shapes [batch, 3, height, width] that one optimisation profile takes, in pixels, multiples of 32.

    TensorRT tunes a profile for its usual shape; other shapes between least and most run, not all as fast. A fixed
    profile takes its usual shape only, and builds in a fraction of the time.
    """

    batch: int
    height_px: int
    width_px: int
    side_px_min: int = _STRIDE_PX
    side_px_max: int = 736
    fixed: bool = False

    def __post_init__(self) -> None:
        sides = (self.side_px_min, self.height_px, self.width_px, self.side_px_max)
        if self.batch < 1:
            raise ConfigurationError(f"a profile's batch must be at least 1, not {self.batch}", setting="batch")
        if any(side < _STRIDE_PX or side % _STRIDE_PX for side in sides):
            raise ConfigurationError(f"a profile's sides must be multiples of {_STRIDE_PX}: {sides}", setting="side_px")
        if not self.side_px_min <= min(sides[1:3]) <= max(sides[1:3]) <= self.side_px_max:
            raise ConfigurationError(f"a profile's usual sides must lie between least and most: {sides}", setting="side_px")

    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Least, usual and most, as TensorRT wants them. Each profile takes its own batch only."""
        least, most = self.side_px_min, self.side_px_max
        usual = (self.batch, 3, self.height_px, self.width_px)
        if self.fixed:
            return usual, usual, usual
        return (self.batch, 3, least, least), usual, (self.batch, 3, most, most)


DETECTION_PROFILES = (
    ShapeProfile(batch=1, height_px=576, width_px=736),
    ShapeProfile(batch=4, height_px=576, width_px=736),
)
"""Batch 1 first: a server that names no profile takes the first, and the ensemble sends single frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanManifest:
    """What made a plan."""

    network: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    precision: Precision
    profiles: tuple[ShapeProfile, ...]
    input_name: str
    output_name: str
    builder: str
    optimization_level: int
    gpu: GpuFacts
    timing_cache: bool
    built_in_s: float

    def to_json(self) -> bytes:
        """Sorted, indented, ends with a newline."""
        return (json.dumps(asdict(self), sort_keys=True, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> "PlanManifest":
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: Not such a manifest.
        """
        try:
            fields = json.loads(content)
            fields["gpu"] = GpuFacts(**fields["gpu"])
            fields["profiles"] = tuple(ShapeProfile(**profile) for profile in fields["profiles"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as exc:
            raise ConfigurationError(f"not the manifest of a plan: {exc}", do="build the plan again") from exc


def tensorrt() -> Any:
    """The module of TensorRT.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import tensorrt as module
    except ImportError as exc:
        raise ConfigurationError("TensorRT is not installed", do=NEEDS) from exc
    return module


def build_plan(
    onnx: Path,
    target: Path,
    *,
    profiles: tuple[ShapeProfile, ...] = DETECTION_PROFILES,
    precision: Precision = "fp16",
    input_name: str = "DETECTION_PIXELS",
    output_name: str = "TEXT_MAP",
    timing_cache: Path | None = None,
    optimization_level: int = 3,
    clock_s: Callable[[], float],
) -> PlanManifest:
    """Build model.plan and model.plan.json for the GPU of this machine.

    Args:
        onnx: A network of one input [N, 3, H, W] and one output, float32.
        target: Folder to write both files into; made when missing.
        precision: "fp16" lets the builder choose half precision; inputs and outputs stay float32.
        timing_cache: File that keeps how long each way to compute took; read when there, written back. Of one GPU type.
        clock_s: Seconds that only go forward, to say how long the build took.
    Raises:
        ConfigurationError: TensorRT or a GPU is missing, the ONNX file cannot be read, or no plan can be built of it.
    """
    if not onnx.exists():
        raise ConfigurationError(f"{onnx} does not exist", do="fetch the weights first")
    trt, gpu, started_s = tensorrt(), gpu_facts(), clock_s()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network, parser = _parsed(trt, builder, logger, onnx, precision)
    network.get_input(0).name, network.get_output(0).name = input_name, output_name
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.builder_optimization_level = optimization_level
    if precision == "fp16" and hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        shapes.set_shape(input_name, *profile.shapes())
        config.add_optimization_profile(shapes)
    had_cache = _with_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ConfigurationError(f"TensorRT built no plan of {onnx.name}", do="see what it printed above")
    del parser  # it owns the weights that the network points to, and must outlive the build
    target.mkdir(parents=True, exist_ok=True)
    _write(target / PLAN_FILE, bytes(memoryview(plan)))
    if timing_cache is not None:
        _write(timing_cache, bytes(memoryview(config.get_timing_cache().serialize())))
    manifest = PlanManifest(
        network=onnx.name,
        onnx_sha256=file_sha256(onnx),
        plan_sha256=file_sha256(target / PLAN_FILE),
        plan_bytes=(target / PLAN_FILE).stat().st_size,
        precision=precision,
        profiles=profiles,
        input_name=input_name,
        output_name=output_name,
        builder=builder_name(trt),
        optimization_level=optimization_level,
        gpu=gpu,
        timing_cache=had_cache,
        built_in_s=round(clock_s() - started_s, 3),
    )
    _write(target / MANIFEST_FILE, manifest.to_json())
    return manifest


def fitting_plan(
    onnx: Path, folder: Path, *, profiles: tuple[ShapeProfile, ...], precision: Precision, gpu: GpuFacts, builder: str
) -> PlanManifest | None:
    """The manifest of the plan in a folder, if that plan was built of this network, for this GPU, by this builder."""
    if not (folder / MANIFEST_FILE).exists() or not (folder / PLAN_FILE).exists():
        return None
    found = PlanManifest.from_json((folder / MANIFEST_FILE).read_bytes())
    wanted = (file_sha256(onnx), file_sha256(folder / PLAN_FILE), precision, profiles, gpu, builder)
    there = (found.onnx_sha256, found.plan_sha256, found.precision, found.profiles, found.gpu, found.builder)
    return found if there == wanted else None


def builder_name(trt: Any) -> str:
    """As a manifest names it."""
    return f"TensorRT {trt.__version__}"


def _with_timing_cache(config: Any, timing_cache: Path | None) -> bool:
    """Gives the builder what earlier builds timed; whether it took it. Times of another GPU, or damaged ones, are none."""
    if timing_cache is not None and timing_cache.exists():
        kept = config.create_timing_cache(timing_cache.read_bytes())
        if kept is not None and config.set_timing_cache(kept, ignore_mismatch=False):
            return True
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return False


def _parsed(trt: Any, builder: Any, logger: Any, onnx: Path, precision: Precision) -> tuple[Any, Any]:
    # From version 11 on every network is strongly typed: its precision is that of the ONNX file.
    strongly_typed = not hasattr(trt.BuilderFlag, "FP16")
    content = _half_precision(onnx) if strongly_typed and precision == "fp16" else onnx.read_bytes()
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ConfigurationError(f"TensorRT cannot read {onnx.name}: {said}", do="check the file")
    return network, parser


def _half_precision(onnx: Path) -> bytes:
    """The network in half precision, its input and output left float32."""
    try:
        import onnx as onnx_package
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as exc:
        raise ConfigurationError("TensorRT 11 wants an fp16 network for fp16, and onnx is not installed", do=NEEDS) from exc
    converted = convert_float_to_float16(onnx_package.load(str(onnx)), keep_io_types=True)
    content: bytes = converted.SerializeToString()
    return content


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def main(arguments: list[str] | None = None) -> int:
    """Build the plan of a detection network for this machine's GPU."""
    parser = argparse.ArgumentParser(prog="python -m triton_models.build.tensorrt_plan", description=main.__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model version")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16")
    parser.add_argument("--timing-cache", type=Path, help="file to keep between builds on one type of GPU")
    chosen = parser.parse_args(arguments)
    try:
        built = build_plan(
            chosen.onnx, chosen.out, precision=chosen.precision, timing_cache=chosen.timing_cache, clock_s=time.perf_counter
        )
    except ConfigurationError as exc:
        print(f"{exc}. To do: {exc.do}", file=sys.stderr)
        return 2
    print(built.to_json().decode(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
