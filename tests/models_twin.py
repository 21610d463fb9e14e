"""`Models` in memory: what a release answers about an image is a function of image, parameters and form."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import BlobGoneError
from schemas.plain import to_plain
from schemas.types import Observation, ReleaseStep
from streams.ports import Answer, Form

Script = Callable[[bytes, Mapping[str, float], Form], Answer]


class TwinModels:
    """Answers by script, by the release's step digests; a digest without a script is gone."""

    runner = "in a test"

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self.asked: list[tuple[bytes, Mapping[str, float], Form]] = []

    def reader(self, steps: tuple[ReleaseStep, ...], form: Form) -> "_TwinReader":
        if steps[0].digest not in self._scripts:
            raise BlobGoneError(f"{steps[0].model}:{steps[0].version} is gone")
        return _TwinReader(self, self._scripts[steps[0].digest], form)


class _TwinReader:
    def __init__(self, models: TwinModels, script: Script, form: Form) -> None:
        self._models = models
        self._script = script
        self._form = form

    def read(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        self._models.asked.append((image, parameters, self._form))
        return self._script(image, parameters, self._form)


def answer(
    *observations: Observation,
    steps: tuple[ReleaseStep, ...],
    outputs: Mapping[str, str],
    runtime: Mapping[str, str],
    candidates: tuple[dict[str, Any], ...] = (),
) -> Answer:
    """An ensemble's answer: observations, and a report with each step's output digest."""
    reports = [
        {
            "step": s.step,
            "model": s.model,
            "version": s.version,
            "variant": "python_cpu",
            "digest": s.digest,
            "duration_us": 1,
            "output_sha256": outputs[s.step],
        }
        for s in steps
    ]
    result = {
        "image": {"width_px": 32, "height_px": 24},
        "observations": [to_plain(o) for o in observations],
        "candidates": list(candidates),
    }
    report = {"steps": reports, "runtime": dict(runtime)}
    return Answer(result_json=json.dumps(result).encode(), report_json=json.dumps(report).encode(), endpoint="twin")
