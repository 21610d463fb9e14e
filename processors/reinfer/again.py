"""Reads recorded frames again and judges each reading: what a `Past` and some `Models` are asked for that.

Two forms are judged: the recorded one, and each frame's crops alone where they had been batched; a third one when
somebody asks for it. Where outputs differ, the factors that can be varied are varied one at a time.

Guarantees: nothing is written; exactly the model files that the recorded answer names are loaded, or the frame is not
judged and the reason is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from processors.infer import core as infer
from processors.lookback.inferences import Found
from processors.lookback.releases import ReleaseHistory
from processors.reinfer.causes import (
    BATCH,
    REPEAT,
    THREADS,
    Factor,
    Proof,
    differing,
    fingerprint,
    recorded_threads,
    was_batched,
)
from processors.reinfer.compare import Compared, Difference, Verdict, compare
from processors.step import Cause
from schemas.errors import ContractError, StepFailedError
from schemas.events import InferenceCompleted, InferenceFailed
from schemas.types import ReleaseStep
from streams.past import Past
from streams.ports import Form, Models

RECORDED, ALONE, ASKED = "recorded", "alone", "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormJudged:
    """A reading in one form, held against the record. `compared` is None when the models cannot run so; `problem` says why."""

    name: str
    form: Form
    compared: Compared | None
    causes: tuple[Factor, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One frame. `problem` says why it could not be read again: image or models are gone or changed, or nothing was answered."""

    found: Found
    forms: tuple[FormJudged, ...]
    problem: str = ""

    def of(self, name: str) -> FormJudged | None:
        return next((form for form in self.forms if form.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Another form to try; what is None stays as recorded."""

    threads: int | None = None
    batch_form: str | None = None

    @property
    def anything(self) -> bool:
        return self.threads is not None or self.batch_form is not None


class Reinference:
    """Reads again what `past` holds, with models from `models`."""

    def __init__(self, past: Past, models: Models, history: ReleaseHistory) -> None:
        self._past = past
        self._models = models
        self._history = history

    def judge(self, found: Found, asked: Asked = Asked()) -> Judged:
        """Read one frame again and judge.

        Raises:
            TransientError: log or blob store are away.
        """
        event = found.event
        if not isinstance(event, InferenceCompleted):
            said = event.error_message if isinstance(event, InferenceFailed) else event.reason
            return Judged(found=found, forms=(), problem=f"no answer was recorded ({type(event).__name__}: {said})")
        try:
            steps = pins_of(event, self._history)
            image = self._past.blobs.get(event.frame.blob)
            readings = _Readings(self._models, steps, event, image)
            readings.get(_recorded_form(event))
        except StepFailedError:
            pass  # judged below: an answer was recorded, and now there is none
        except ContractError as error:
            return Judged(found=found, forms=(), problem=f"{error} ({error.do})" if error.do else str(error))
        forms = tuple(self._judged(readings, event, name, form) for name, form in _forms(event, asked))
        return Judged(found=found, forms=forms)

    def _judged(self, readings: "_Readings", event: InferenceCompleted, name: str, form: Form) -> FormJudged:
        try:
            compared = readings.held_against(event, form)
            causes = () if compared.verdict is Verdict.BIT_EXACT else tuple(_causes(readings, event, form))
        except (ContractError, StepFailedError) as error:
            return FormJudged(name=name, form=form, compared=None, problem=str(error))
        return FormJudged(name=name, form=form, compared=compared, causes=causes)


def pins_of(event: InferenceCompleted, history: ReleaseHistory) -> tuple[ReleaseStep, ...]:
    """Exactly what answered: the steps' own reports; where a backend could not report, the release's pins.

    Raises:
        ContractError: neither says.
    """
    entry = history.at(event.releases_offset).releases.get(event.release) or history.now().releases.get(event.release)
    reported = {
        s.step: ReleaseStep(step=s.step, model=s.model, version=s.version, digest=s.digest)
        for s in event.steps
        if s.digest is not None
    }
    order = [s.step for s in (entry.steps if entry is not None else event.steps)]
    pinned = {s.step: s for s in (entry.steps if entry is not None else ())}
    missing = [s.step for s in event.steps if s.step not in reported and s.step not in pinned]
    if missing or not order:
        raise ContractError(
            f"which model files answered in {', '.join(missing) or 'any step'} is not known: the answer has no digest, "
            f"and release {event.release} is not on the log"
        )
    return tuple(reported.get(step) or pinned[step] for step in order)


class _Readings:
    """One frame's readings in this process, by form; each form is run once."""

    def __init__(self, models: Models, steps: tuple[ReleaseStep, ...], event: InferenceCompleted, image: bytes) -> None:
        self._models = models
        self._steps = steps
        self._event = event
        self._image = image
        self._known: dict[Form, InferenceCompleted] = {}

    def get(self, form: Form) -> InferenceCompleted:
        """The reading in a form.

        Raises:
            StepFailedError: a step failed.
            ContractError: the models are not there, or cannot run so.
        """
        if form not in self._known:
            self._known[form] = self.fresh(form)
        return self._known[form]

    def fresh(self, form: Form) -> InferenceCompleted:
        """The same, run anew."""
        event = self._event
        answer = self._models.reader(self._steps, form).read(self._image, event.parameters)
        pins = {s.step: s.digest for s in self._steps}
        route = infer.Route(release=event.release, parameters=event.parameters, releases_offset=event.releases_offset, pins=pins)
        called = infer.Called(endpoint=answer.endpoint, attempts=1, started_at_us=event.started_at_us, duration_us=0)
        outcome = infer.Answered(route=route, called=called, result_json=answer.result_json, report_json=answer.report_json)
        again = infer.decide(event.pipeline, event, outcome, _cause(event))
        if not isinstance(again, InferenceCompleted):
            raise StepFailedError(getattr(again, "error_message", "no answer"), step=None)
        return again

    def held_against(self, recorded: InferenceCompleted, form: Form) -> Compared:
        """The reading in a form, compared; a step that fails now is the greatest difference."""
        try:
            return compare(recorded, self.get(form))
        except StepFailedError as error:
            failed = Difference(output="answer", recorded="answered", again=f"failed: {error}")
            return Compared(verdict=Verdict.DIVERGED, differences=(failed,), steps=())

    def base(self, form: Form) -> InferenceCompleted | None:
        try:
            return self.get(form)
        except StepFailedError:
            return None


def _forms(event: InferenceCompleted, asked: Asked) -> Iterator[tuple[str, Form]]:
    recorded = _recorded_form(event)
    yield RECORDED, recorded
    if was_batched(event):
        yield ALONE, replace(recorded, batch_form="single")
    if asked.anything:
        yield ASKED, Form(threads=asked.threads or recorded.threads, batch_form=asked.batch_form)


def _recorded_form(event: InferenceCompleted) -> Form:
    """The batch form belongs to the model's files, whose digest was recorded; threads belong to the deployment."""
    return Form(threads=recorded_threads(event) or 1)


def _causes(readings: _Readings, event: InferenceCompleted, form: Form) -> Iterator[Factor]:
    """What was varied, chance, and what differs from the record although the form is the same: this machine cannot change it."""
    recorded = _recorded_form(event)
    base = readings.base(recorded)
    if base is None:
        return
    varied = tuple(_varied(readings, event, base, recorded, form))
    differs = compare(event, base).verdict is not Verdict.BIT_EXACT
    proved = any(factor.proof is Proof.PROVED for factor in varied)
    chance = compare(base, readings.fresh(recorded)) if differs or proved else None
    is_chance = chance is not None and chance.verdict is not Verdict.BIT_EXACT
    if chance is not None and is_chance:
        yield _factor(REPEAT, "one run", "another run in the same form", chance)
    yield from (replace(f, proof=Proof.UNPROVED) if is_chance and f.proof is Proof.PROVED else f for f in varied)
    if differs:
        for name, then, now in differing(fingerprint(event), fingerprint(base)):
            yield Factor(name=name, recorded=then, present=now, proof=Proof.SUSPECTED)


def _varied(
    readings: _Readings, event: InferenceCompleted, base: InferenceCompleted, recorded: Form, form: Form
) -> Iterator[Factor]:
    """Each factor in which the form differs from the recorded one, changed alone."""
    if form.threads != recorded.threads:
        varied = readings.held_against(base, replace(recorded, threads=form.threads))
        yield _factor(THREADS, str(recorded.threads), str(form.threads), varied)
    if form.batch_form is not None and form.batch_form != event.runtime.get(BATCH):
        varied = readings.held_against(base, replace(recorded, batch_form=form.batch_form))
        yield _factor(BATCH, event.runtime.get(BATCH, "not recorded"), form.batch_form, varied)


def _factor(name: str, then: str, now: str, varied: Compared) -> Factor:
    changes = varied.verdict is not Verdict.BIT_EXACT
    return Factor(
        name=name,
        recorded=then,
        present=now,
        proof=Proof.PROVED if changes else Proof.EXCLUDED,
        step=varied.first_different_step,
    )


def _cause(event: InferenceCompleted) -> Cause:
    return Cause(position=event.source, event_id=event.event_id, correlation_id=event.frame.frame_id, traceparent="", now_us=0)
