"""How often re-inference agrees: by form and verdict, by backend, and what was found to be the cause. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.reinfer.again import RECORDED, Judged
from processors.reinfer.compare import Verdict

NOT_JUDGED = "not judged"


@dataclass(slots=True)
class StepRate:
    """Outputs of the steps of one backend, in the recorded form, whose own inputs were equal."""

    compared: int = 0
    equal: int = 0


class Rates:
    """Counts judgements as they come; keeps nothing of a frame."""

    def __init__(self, runner: str) -> None:
        self.runner = runner
        self.frames = 0
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.backends: dict[str, StepRate] = {}
        self.causes: Counter[tuple[str, str]] = Counter()

    def count(self, judged: Judged) -> None:
        self.frames += 1
        if judged.problem:
            self.verdicts[RECORDED, NOT_JUDGED] += 1
        for form in judged.forms:
            self.verdicts[form.name, form.compared.verdict.value if form.compared is not None else NOT_JUDGED] += 1
            self.causes.update({(cause.name, cause.proof.name.lower()) for cause in form.causes})
        recorded = judged.of(RECORDED)
        if recorded is None or recorded.compared is None:
            return
        for step in recorded.compared.steps:
            rate = self.backends.setdefault(step.variant, StepRate())
            rate.compared += step.equal is not None
            rate.equal += step.equal is True
            if step.equal is False:
                return  # what comes after it had other inputs

    def counted(self, verdict: str, form: str = RECORDED) -> int:
        return self.verdicts[form, verdict]

    @property
    def all_agree(self) -> bool:
        """Whether every frame was judged, and none diverged in the recorded form."""
        return not self.counted(Verdict.DIVERGED) and not self.counted(NOT_JUDGED)

    def as_plain(self) -> dict[str, Any]:
        return {
            "runner": self.runner,
            "frames": self.frames,
            "verdicts": self._by_form(),
            "backends": {
                name: {"outputs_compared": rate.compared, "outputs_equal": rate.equal}
                for name, rate in sorted(self.backends.items())
            },
            "causes": [{"name": n, "proof": p, "frames": count} for (n, p), count in sorted(self.causes.items())],
        }

    def as_metrics(self) -> Iterator[str]:
        """The same in Prometheus's text form, for a textfile collector."""
        yield "# HELP hindsight_reinference_frames Frames read again, by what runs the models, form and verdict."
        yield "# TYPE hindsight_reinference_frames gauge"
        for (form, verdict), count in sorted(self.verdicts.items()):
            labels = {"runner": self.runner, "form": form, "verdict": verdict.replace("-", "_").replace(" ", "_")}
            yield f"hindsight_reinference_frames{_labels(labels)} {count}"
        for name, what in (("compared", "were compared"), ("equal", "were equal bit for bit")):
            yield f"# HELP hindsight_reinference_outputs_{name} Outputs of steps with equal inputs that {what}, by backend."
            yield f"# TYPE hindsight_reinference_outputs_{name} gauge"
            for variant, rate in sorted(self.backends.items()):
                labels = {"runner": self.runner, "backend": variant}
                yield f"hindsight_reinference_outputs_{name}{_labels(labels)} {getattr(rate, name)}"

    def _by_form(self) -> Mapping[str, Mapping[str, int]]:
        out: dict[str, dict[str, int]] = {}
        for (form, verdict), count in sorted(self.verdicts.items()):
            out.setdefault(form, {})[verdict] = count
        return out


def _labels(labels: Mapping[str, str]) -> str:
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()}
    return "{" + ",".join(f'{k}="{v}"' for k, v in escaped.items()) + "}"
