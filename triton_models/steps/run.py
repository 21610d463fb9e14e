"""Loading a step from its model version's folder, running it, and saying what it did.

Owns the report of a step (time, model, version, digest, digest of its outputs), the name of the step in its errors,
and the join of all reports at the last step.

Guarantees: a report is about one frame; its `output_sha256` covers name, type, shape and bytes of every output, so
two runs with the same one gave the same bits; whatever goes wrong in a step is a `StepError` that names it.

Next: `triton_models/model.py` calls `LoadedStep.run` for each request, `in_process` for each frame.
"""

import hashlib
import importlib
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .contract import Step, StepError, Tensor, Tensors, bytes_tensor, json_bytes
from .digest import model_digest

SETTINGS_FILE = "settings.json"
REPORT_PREFIX = "REPORT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStep:
    """A step with its name, its pin and the digest of the files that it was loaded from."""

    step: Step
    name: str
    model: str
    version: int
    variant: str
    digest: str
    runtime: dict[str, str]
    joins_reports: bool

    def run(self, tensors: Tensors) -> dict[str, Tensor]:
        """Run the step on one frame.

        Args:
            tensors: Its inputs by name; at the last step also the REPORT_* of the steps before it.
        Returns:
            Its outputs by name, and `REPORT_<STEP>` (BYTES, shape (1,)); the last step returns `REPORT` instead,
            which holds every step's report and the runtime's fingerprint.
        Raises:
            StepError: The step failed; the message starts with its name.
        """
        started_ns = time.monotonic_ns()
        try:
            outputs = self.step(tensors)
        except Exception as exc:  # a library may raise anything; what leaves here must name the step
            reason = str(exc) if isinstance(exc, StepError) else f"{type(exc).__name__}: {exc}"
            raise StepError(f"step {self.name} (model {self.model} version {self.version}): {reason}") from exc
        report = self._report(outputs, (time.monotonic_ns() - started_ns) // 1000)
        if self.joins_reports:
            return {**outputs, "REPORT": bytes_tensor(_joined(tensors, report))}
        return {**outputs, f"{REPORT_PREFIX}{self.name.upper()}": bytes_tensor(json_bytes(report))}

    def _report(self, outputs: Tensors, duration_us: int) -> dict[str, Any]:
        return {
            "step": self.name,
            "model": self.model,
            "version": self.version,
            "variant": self.variant,
            "digest": self.digest,
            "duration_us": duration_us,
            "output_sha256": tensors_sha256(outputs),
            "runtime": self.runtime,
        }


def load_step(folder: Path, *, model: str, version: int, threads: int, server: str, batch_form: str | None = None) -> LoadedStep:
    """Load a step from its model version's folder.

    Args:
        folder: The version's folder; its settings.json names the step.
        model, version: What the step is known as in the repository.
        threads: Threads of one call.
        server: Version of the Triton server that runs it, or "none" in this process.
        batch_form: Run it in this form (see `contract.BATCH_FORMS`) and not in its settings' own; only to find out what
            the form changes.
    Raises:
        FileNotFoundError: The folder or a file in it is missing.
    """
    settings = json.loads((folder / SETTINGS_FILE).read_text())
    if batch_form is not None:
        settings["batch_form"] = batch_form
    name = settings["step"]
    module = importlib.import_module(f".{name}", __package__)
    step: Step = module.load(folder, settings, threads=threads)
    return LoadedStep(
        step=step,
        name=name,
        model=model,
        version=version,
        variant=settings["variant"],
        digest=model_digest(folder),
        runtime={
            "triton": server,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "instruction_set": instruction_set(),
            "device": settings["variant"].rpartition("_")[2],
            "threads": str(threads),
            **step.runtime(),
        },
        joins_reports=bool(settings.get("joins_reports", False)),
    )


def tensors_sha256(tensors: Tensors) -> str:
    """Digest over name, type, shape and bytes of each tensor, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        kind = "bytes" if tensor.dtype == np.object_ else tensor.dtype.str
        total.update(f"{name}\0{kind}\0{tensor.shape}\n".encode())
        for chunk in _chunks(tensor):
            total.update(chunk)
    return total.hexdigest()


def instruction_set() -> str:
    """The widest vector instructions of this processor: they decide which kernels onnxruntime picks."""
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return "unknown"
    return next((name for name in ("avx512f", "avx2", "avx", "sse4_2") if name in flags), "unknown")


def _chunks(tensor: Tensor) -> Iterable[bytes]:
    if tensor.dtype == np.object_:
        for element in tensor.reshape(-1):
            yield len(element).to_bytes(8, "little") + element
    else:
        yield np.ascontiguousarray(tensor).tobytes()


def _joined(tensors: Tensors, own: dict[str, Any]) -> bytes:
    """All reports in one, in the order of the inputs; a backend that cannot report leaves its step out."""
    given = [tensors[name] for name in tensors if name.startswith(REPORT_PREFIX)]
    reports = [json.loads(tensor.reshape(-1)[0]) for tensor in given] + [own]
    runtime: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        for key, value in report.pop("runtime").items():
            runtime.setdefault(key, {}).setdefault(value, []).append(report["step"])
    return json_bytes({"steps": reports, "runtime": {key: _agreed(values) for key, values in runtime.items()}})


def _agreed(steps_by_value: dict[str, list[str]]) -> str:
    if len(steps_by_value) == 1:
        return next(iter(steps_by_value))
    return "; ".join(f"{value} ({', '.join(steps)})" for value, steps in sorted(steps_by_value.items()))
