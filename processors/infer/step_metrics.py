"""What the steps of the ensembles take, and which of them fail, as metrics: from what the answers themselves report."""

import json

from prometheus_client import Counter, Histogram

STEP_SECONDS = Histogram(
    "hindsight_step_seconds",
    "Time of one step of an ensemble, as its answer reports it.",
    ("step", "model", "version"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STEP_FAILURES = Counter(
    "hindsight_step_failures_total",
    "Frames that a release could not read, by the step that failed; empty where none is known.",
    ("release", "step", "error_class"),
)


def observe_steps(report_json: bytes) -> None:
    """Count a report's steps; one that breaks its contract is recorded elsewhere."""
    try:
        steps = json.loads(report_json)["steps"]
        told = [(str(s["step"]), str(s["model"]), str(s["version"]), float(s["duration_us"]) / 1e6) for s in steps]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for step, model, version, seconds in told:
        STEP_SECONDS.labels(step, model, version).observe(seconds)


def count_failure(release: str | None, step: str | None, error_class: str) -> None:
    STEP_FAILURES.labels(release or "", step or "", error_class).inc()
