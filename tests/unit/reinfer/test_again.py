"""reinfer: what was recorded is read again with what answered then; causes are proved by varying one thing at a time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from processors.infer import core as infer
from processors.lookback.inferences import Found
from processors.lookback.releases import ReleaseHistory
from processors.reinfer.again import ALONE, ASKED, RECORDED, Asked, Judged, Reinference
from processors.reinfer.causes import Proof
from processors.reinfer.compare import Verdict
from processors.reinfer.rates import Rates
from schemas.codec import FixedSchemas
from schemas.errors import StepFailedError
from schemas.events import InferenceCompleted, InferenceSkipped
from schemas.types import ReleaseStep
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from streams.ports import Answer, Form
from tests.given import AT_US, accepted, cause, seen_text
from tests.models_twin import Script, TwinModels, answer

PINS = tuple(ReleaseStep(step=name, model=name, version=1, digest=name * 2) for name in ("preprocess", "detect", "read"))
KEY = PINS[0].digest
THEN = {"onnxruntime": "1.32.0", "threads": "4", "batch_form": "single (detect); frame (read)"}


def reads(runtime: Mapping[str, str] = THEN, **outputs: str) -> Script:
    """Models that read ABC; a step's output digest may depend on the form, as `{threads}` and `{batch}`."""

    def script(image: bytes, parameters: Mapping[str, float], form: Form) -> Answer:
        said = {"preprocess": "1", "detect": "2", "read": "3", **outputs}
        made = {k: v.format(threads=form.threads, batch=form.batch_form or "frame") for k, v in said.items()}
        return answer(seen_text("ABC"), steps=PINS, outputs=made, runtime=runtime)

    return script


class World:
    """One recorded frame in memory, and the models that are there now."""

    def __init__(self, then: Script, now: Script, *, runtime: Mapping[str, str] = THEN) -> None:
        self.blobs = MemoryBlobStore()
        self.past = Past(log=MemoryLog(lambda: AT_US), schemas=FixedSchemas(), blobs=self.blobs, source="a test")
        self.models = TwinModels({KEY: now})
        frame = accepted(0)
        self.frame = replace(frame, frame=replace(frame.frame, blob=self.blobs.put(b"picture", "image/jpeg")))
        threads = int(runtime["threads"]) if runtime.get("threads", "").isdecimal() else 1
        said = then(b"picture", {}, Form(threads=threads))
        route = infer.Route(release="r1", parameters={"text_confidence": 0.5}, releases_offset=0, pins={})
        called = infer.Called(endpoint="then", attempts=1, started_at_us=AT_US, duration_us=1)
        outcome = infer.Answered(route=route, called=called, result_json=said.result_json, report_json=said.report_json)
        event = infer.decide("gate", self.frame, outcome, cause(0, "vision.assessments"))
        assert isinstance(event, InferenceCompleted)
        self.event: Any = event

    def judge(self, asked: Asked = Asked()) -> Judged:
        again = Reinference(self.past, self.models, ReleaseHistory(self.past, "gate"))
        return again.judge(Found(event=self.event, partition=0, offset=0, appended_at_ms=0), asked)


def causes(judged: Judged, form: str) -> list[tuple[str, Proof, str | None]]:
    found = judged.of(form)
    assert found is not None
    return [(c.name, c.proof, c.step) for c in found.causes]


def verdict(judged: Judged, form: str) -> Verdict | None:
    found = judged.of(form)
    assert found is not None
    return found.compared.verdict if found.compared is not None else None


def test_the_recorded_form_and_alone_are_both_judged_with_the_recorded_parameters() -> None:
    """Threads are those of then; the batch form is the files' own, and single crops beside it."""
    world = World(reads(), reads())
    judged = world.judge()
    assert [(f.name, f.form) for f in judged.forms] == [
        (RECORDED, Form(threads=4)),
        (ALONE, Form(threads=4, batch_form="single")),
    ]
    assert verdict(judged, RECORDED) is verdict(judged, ALONE) is Verdict.BIT_EXACT
    assert [parameters for _, parameters, _ in world.models.asked] == [{"text_confidence": 0.5}] * 2


def test_what_was_read_alone_is_judged_once() -> None:
    """With single crops on record, both forms are one."""
    alone = {**THEN, "batch_form": "single"}
    assert [f.name for f in World(reads(alone), reads(alone)).judge().forms] == [RECORDED]


def test_a_batch_that_changes_outputs_is_proved_to_be_the_cause() -> None:
    """Only the batch form is varied, and the first step that it changes is named."""
    judged = World(reads(read="{batch}"), reads(read="{batch}")).judge()
    assert verdict(judged, RECORDED) is Verdict.BIT_EXACT
    assert verdict(judged, ALONE) is Verdict.WITHIN_TOLERANCE
    assert causes(judged, ALONE) == [("batch_form", Proof.PROVED, "read")]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (reads(detect="{threads}"), [("threads", Proof.PROVED, "detect"), ("batch_form", Proof.EXCLUDED, None)]),
        (reads(read="{batch}"), [("threads", Proof.EXCLUDED, None), ("batch_form", Proof.PROVED, "read")]),
    ],
)
def test_of_two_things_that_were_changed_the_guilty_one_is_proved_and_the_other_excluded(script: Script, expected: Any) -> None:
    """Threads and batch form were both changed; each is varied alone."""
    assert causes(World(script, script).judge(Asked(threads=2, batch_form="single")), ASKED) == expected


def test_another_library_version_is_suspected_when_the_same_form_differs() -> None:
    """It cannot be varied here, so it is named and not proved; what is equal is not named."""
    judged = World(reads(), reads({**THEN, "onnxruntime": "1.20.0"}, detect="other")).judge()
    found = judged.of(RECORDED)
    assert found is not None
    assert found.compared is not None
    assert found.compared.first_different_step == "detect"
    (one,) = found.causes
    assert (one.name, one.recorded, one.present, one.proof) == ("onnxruntime", "1.32.0", "1.20.0", Proof.SUSPECTED)


def test_chance_is_found_by_running_once_more() -> None:
    """Models that answer otherwise each time differ from themselves."""
    count = iter(range(100))

    def script(image: bytes, parameters: Mapping[str, float], form: Form) -> Answer:
        return reads(detect=str(next(count)))(image, parameters, form)

    judged = World(reads(), script).judge(Asked(threads=2))
    assert causes(judged, RECORDED)[0] == ("repeat", Proof.PROVED, "detect")
    assert causes(judged, ASKED) == [("repeat", Proof.PROVED, "detect"), ("threads", Proof.UNPROVED, "detect")]


def test_a_difference_without_any_cause_stays_without_one() -> None:
    """Equal fingerprints and a steady difference: nothing is made up."""
    judged = World(reads(), reads(detect="other")).judge()
    assert (verdict(judged, RECORDED), causes(judged, RECORDED)) == (Verdict.WITHIN_TOLERANCE, [])


def test_a_step_that_fails_now_has_diverged() -> None:
    """An answer was recorded and now there is none."""

    def fails(image: bytes, parameters: Mapping[str, float], form: Form) -> Answer:
        raise StepFailedError("step read (model read version 1): no", step="read")

    found = World(reads(), fails).judge().of(RECORDED)
    assert found is not None
    assert found.compared is not None
    assert found.compared.verdict is Verdict.DIVERGED
    assert "step read" in found.compared.differences[0].again


def test_what_is_gone_is_said_and_nothing_is_judged() -> None:
    """The image, the models, or an answer that never was."""
    world = World(reads(), reads())
    world.blobs.contents.clear()
    assert "is not there" in world.judge().problem
    world = World(reads(), reads())
    world.models = TwinModels({})
    assert world.judge().problem == "preprocess:1 is gone"
    world.event = InferenceSkipped(
        event_id=world.event.event_id,
        source=world.event.source,
        frame=world.event.frame,
        pipeline="gate",
        releases_offset=0,
        reason="no_release_in_force",
        skipped_at_us=AT_US,
    )
    assert world.judge().problem == "no answer was recorded (InferenceSkipped: no_release_in_force)"


def test_steps_that_could_not_report_are_not_guessed() -> None:
    """Without a digest in the answer and without the release on the log, nobody knows what answered."""
    world = World(reads(), reads())
    world.event = replace(world.event, steps=tuple(replace(s, digest=None) for s in world.event.steps))
    assert "which model files answered in preprocess, detect, read is not known" in world.judge().problem


def test_rates_count_by_form_backend_and_cause() -> None:
    """After the first step that differs, later ones had other inputs, and are not counted."""
    rates = Rates("in a test")
    for now in (reads(), reads(detect="x"), reads(read="{batch}")):
        rates.count(World(reads(), now).judge())
    gone = World(reads(), reads())
    gone.blobs.contents.clear()
    rates.count(gone.judge())
    assert rates.as_plain() == {
        "runner": "in a test",
        "frames": 4,
        "verdicts": {
            "alone": {"bit-exact": 1, "within tolerance": 2},
            "recorded": {"bit-exact": 1, "not judged": 1, "within tolerance": 2},
        },
        "backends": {"python_cpu": {"outputs_compared": 8, "outputs_equal": 6}},
        "causes": [
            {"name": "batch_form", "proof": "excluded", "frames": 1},
            {"name": "batch_form", "proof": "proved", "frames": 1},
        ],
    }
    assert not rates.all_agree
    lines = list(rates.as_metrics())
    assert 'hindsight_reinference_frames{runner="in a test",form="recorded",verdict="bit_exact"} 1' in lines
    assert 'hindsight_reinference_outputs_equal{runner="in a test",backend="python_cpu"} 6' in lines


@pytest.mark.parametrize("threads", ["", "1 (detect); 4 (read)", "0", "many"])
def test_threads_that_were_not_recorded_as_one_number_are_one(threads: str) -> None:
    """The form says what was run; the fingerprint says that it differs."""
    odd = {**THEN, "threads": threads}
    judged = World(reads(odd), reads(), runtime=odd).judge()
    assert judged.forms[0].form.threads == 1
