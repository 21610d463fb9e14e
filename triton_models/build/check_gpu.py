"""python -m triton_models.build.check_gpu: detection as ONNX and as TensorRT, side by side on this machine's GPU.

Owns the check from the command line: builds the plans, runs the cases, writes gpu.json and gpu.md.

Guarantees: exits 1 when an engine's answers do not agree with the CPU's, 2 when a GPU or TensorRT is missing; an
engine that cannot run is reported as not measured, with its reason, and never replaced by another under its name.

Next: the page goes to `docs/reference/gpu.md`, a plan into a model version's folder.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import ConfigurationError

from .cuda_device import GpuFacts, gpu_facts
from .engines import Engine, OnnxEngine, PlanEngine
from .measuring import agreement, pictures, timings
from .report import Case, GpuCheck, markdown
from .tensorrt_plan import DETECTION_PROFILES, PlanManifest, Precision, build_plan, builder_name, fitting_plan, tensorrt

NETWORKS = ("ppocr_v4_detection.onnx", "ppocr_v6_detection.onnx")
SIZES = ((576, 736), (480, 640))
BATCHES = (1, 4)
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")
CPU, CUDA = "onnx_cpu", "onnx_cuda"

_WARM_UP = 20
_INPUTS = 4
_CPU_ROUNDS = 10
_SEED = 1


def check(weights: Path, out: Path, *, rounds: int, networks: Sequence[str] = NETWORKS) -> GpuCheck:
    """Build, run and compare.

    Args:
        weights: Folder with the networks, as `weights.fetch_weights` fills it.
        out: Folder for plans and timing cache.
        rounds: Calls of each engine a case.
    Raises:
        ConfigurationError: TensorRT or a GPU is missing, or a network is.
    """
    tensorrt()
    gpu, cores = gpu_facts(), len(os.sched_getaffinity(0))
    plans: list[PlanManifest] = []
    cases: list[Case] = []
    versions: dict[str, dict[str, str]] = {}
    not_measured: dict[str, str] = {}
    for network in networks:
        reference = OnnxEngine(weights / network, name=CPU, provider="CPUExecutionProvider", threads=cores)
        engines = _onnx_on_gpu(weights / network, not_measured)
        for precision in PRECISIONS:
            folder = out / "plans" / f"{Path(network).stem}_{precision}"
            plan = _plan(weights / network, folder, precision, gpu)
            plans.append(plan)
            engines.append(PlanEngine(folder, name=f"tensorrt_{precision}"))
        versions |= {engine.name: engine.versions() for engine in (reference, *engines)}
        cases += [_case(network, reference, engines, batch, size, rounds) for size in SIZES for batch in BATCHES]
    return GpuCheck(
        measured_on=datetime.now(UTC).date().isoformat(),
        gpu=gpu,
        processor=_processor(),
        cores=cores,
        engines=versions,
        plans=tuple(plans),
        cases=tuple(cases),
        rounds=rounds,
        warm_up=_WARM_UP,
        not_measured=not_measured,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure the detection step as ONNX and as TensorRT, and write a report."""
    parser = argparse.ArgumentParser(prog="python -m triton_models.build.check_gpu", description=main.__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json, gpu.md and the plans")
    parser.add_argument("--rounds", type=int, default=200)
    chosen = parser.parse_args(arguments)
    try:
        found = check(chosen.weights, chosen.out, rounds=chosen.rounds)
    except ConfigurationError as exc:
        print(f"{exc}. To do: {exc.do}", file=sys.stderr)
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "gpu.json").write_bytes(found.to_json())
    (chosen.out / "gpu.md").write_text(markdown(found))
    print(markdown(found))
    return 0 if all(one.agrees for case in found.cases for one in case.agreements) else 1


def _plan(onnx: Path, folder: Path, precision: Precision, gpu: GpuFacts) -> PlanManifest:
    """A plan that lies there from an earlier check and still fits, or a new one: a build takes minutes."""
    profiles = DETECTION_PROFILES
    kept = fitting_plan(onnx, folder, profiles=profiles, precision=precision, gpu=gpu, builder=builder_name(tensorrt()))
    if kept:
        return kept
    _say(f"building {folder.name}")
    cache = folder.parent / "timing.cache"
    built = build_plan(onnx, folder, profiles=profiles, precision=precision, timing_cache=cache, clock_s=time.perf_counter)
    _say(f"built in {built.built_in_s:.0f} s, {built.plan_bytes} bytes")
    return built


def _onnx_on_gpu(onnx: Path, not_measured: dict[str, str]) -> list[Engine]:
    try:
        return [OnnxEngine(onnx, name=CUDA, provider="CUDAExecutionProvider")]
    except ConfigurationError as exc:
        not_measured[CUDA] = str(exc)
        return []


def _case(network: str, reference: Engine, engines: list[Engine], batch: int, size: tuple[int, int], rounds: int) -> Case:
    height_px, width_px = size
    inputs = pictures(batch=batch, height_px=height_px, width_px=width_px, count=_INPUTS, seed=_SEED)
    expected = [reference(pixels) for pixels in inputs]
    found = tuple(
        agreement(engine.name, [engine(pixels) for pixels in inputs], reference=reference.name, expected=expected)
        for engine in engines
    )
    # On its own: its threads would disturb the others, and it is the slowest by far.
    on_cpu = timings([reference], inputs, warm_up=2, rounds=_CPU_ROUNDS, clock_s=time.perf_counter)
    in_turn = timings(engines, inputs, warm_up=_WARM_UP, rounds=rounds, clock_s=time.perf_counter)
    _say(f"{network} batch {batch} {size}: " + ", ".join(f"{t.engine} {t.median_ms} ms" for t in (*on_cpu, *in_turn)))
    return Case(
        network=network,
        batch=batch,
        height_px=height_px,
        width_px=width_px,
        timings=(*on_cpu, *in_turn),
        agreements=found,
    )


def _processor() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].partition(":")[2].strip() if models else platform.machine()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
