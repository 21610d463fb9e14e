"""The check's report: one JSON file with every figure, and a page made from it.

Owns the record of a check and its words.

Guarantees: the page says nothing that the JSON does not hold; what was not measured is named with its reason.

Next: people read `docs/reference/gpu.md`, which shows such a page.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from .cuda_device import GpuFacts
from .measuring import TOLERANCE_FLIPPED, TOLERANCE_MEAN, Agreement, Timing
from .tensorrt_plan import PlanManifest, ShapeProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network at one size and batch."""

    network: str
    batch: int
    height_px: int
    width_px: int
    timings: tuple[Timing, ...]
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCheck:
    """Everything that a check found."""

    measured_on: str
    gpu: GpuFacts | None
    processor: str
    cores: int
    engines: dict[str, dict[str, str]]
    plans: tuple[PlanManifest, ...]
    cases: tuple[Case, ...]
    rounds: int
    warm_up: int
    not_measured: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Sorted, indented, ends with a newline."""
        return (json.dumps(asdict(self), sort_keys=True, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> "GpuCheck":
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(content)
        fields["gpu"] = GpuFacts(**fields["gpu"]) if fields["gpu"] else None
        fields["plans"] = tuple(PlanManifest.from_json(json.dumps(plan).encode()) for plan in fields["plans"])
        fields["cases"] = tuple(_case(case) for case in fields["cases"])
        return cls(**fields)


def markdown(check: GpuCheck) -> str:
    """The page: device and versions, times, agreement, plans, what was not measured."""
    lines = ["# Detection as ONNX and as TensorRT", "", *_device(check), "", *_times(check), "", *_agreement(check)]
    if check.plans:
        lines += ["", *_plans(check)]
    if check.not_measured:
        lines += ["", "## Not measured", "", *(f"- {what}: {why}" for what, why in sorted(check.not_measured.items()))]
    return "\n".join(lines) + "\n"


def _device(check: GpuCheck) -> list[str]:
    lines = [f"Measured on {check.measured_on}.", "", "| | |", "|---|---|"]
    if check.gpu:
        lines += [
            f"| GPU | {check.gpu.name}, compute capability {check.gpu.compute_capability} |",
            f"| driver | {check.gpu.driver_version}, CUDA {check.gpu.driver_cuda_version} |",
        ]
    lines.append(f"| processor | {check.processor}, {check.cores} cores |")
    for engine, versions in check.engines.items():
        lines.append(f"| {engine} | {', '.join(f'{name} {version}' for name, version in versions.items())} |")
    return lines


def _times(check: GpuCheck) -> list[str]:
    engines = list(check.engines)
    head = ["network", "batch", "height x width", *(f"{engine}: median (p95) ms" for engine in engines)]
    lines = ["## Times", "", _row(head), _row(["---"] * len(head))]
    for case in check.cases:
        found = {timing.engine: f"{timing.median_ms:.2f} ({timing.p95_ms:.2f})" for timing in case.timings}
        figures = [found.get(engine, "not measured") for engine in engines]
        lines.append(_row([case.network, str(case.batch), f"{case.height_px}x{case.width_px}", *figures]))
    lines += [
        "",
        f"From a float32 array in host memory to the map in host memory, copies included. {check.rounds} rounds after "
        f"{check.warm_up} to warm up; each round calls every engine once, another one first each time.",
    ]
    return lines


def _agreement(check: GpuCheck) -> list[str]:
    head = ["network", "batch", "height x width", "engine", "mean difference", "largest", "pixels that change sides", "agrees"]
    lines = ["## Agreement", "", _row(head), _row(["---"] * len(head))]
    for case in check.cases:
        for found in case.agreements:
            size = f"{case.height_px}x{case.width_px}"
            differences = [f"{found.mean_difference:.1e}", f"{found.most_difference:.3f}", f"{found.flipped_share:.4%}"]
            verdict = "yes" if found.agrees else "NO"
            lines.append(_row([case.network, str(case.batch), size, found.engine, *differences, verdict]))
    reference = next((found.reference for case in check.cases for found in case.agreements), "the reference")
    lines += [
        "",
        f"Against {reference}. An engine agrees when the mean difference is at most {TOLERANCE_MEAN} and at most "
        f"{TOLERANCE_FLIPPED:.1%} of the pixels change sides at the text threshold.",
    ]
    return lines


def _plans(check: GpuCheck) -> list[str]:
    head = [
        "network",
        "precision",
        "profiles (batch, height x width)",
        "plan",
        "built in",
        "builder",
        "ONNX sha256",
        "plan sha256",
    ]
    lines = ["## Plans", "", _row(head), _row(["---"] * len(head))]
    for plan in check.plans:
        profiles = "; ".join(_profile(profile) for profile in plan.profiles)
        size, took = f"{plan.plan_bytes / 1e6:.1f} MB", f"{plan.built_in_s:.0f} s"
        digests = [f"`{plan.onnx_sha256[:12]}`", f"`{plan.plan_sha256[:12]}`"]
        lines.append(_row([plan.network, plan.precision, profiles, size, took, plan.builder, *digests]))
    return lines


def _profile(profile: ShapeProfile) -> str:
    sides = "only" if profile.fixed else f"up to {profile.side_px_max}"
    return f"{profile.batch}, {profile.height_px}x{profile.width_px} {sides}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _case(fields: dict[str, Any]) -> Case:
    timings = tuple(Timing(**timing) for timing in fields.pop("timings"))
    agreements = tuple(Agreement(**agreement) for agreement in fields.pop("agreements"))
    return Case(timings=timings, agreements=agreements, **fields)
