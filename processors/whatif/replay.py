"""A past window once more: each frame through another release or other parameters, by the same cores as live work.

Both sides are derived here by the same rules, from the recorded answer and from the counterfactual one, so that nothing
but the question makes a difference. Passages that began before the window have their votes from before it.

Guarantees: nothing is written; a frame whose image is gone counts on neither side.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from processors.derive import core as derive
from processors.infer import core as infer
from processors.lookback.inferences import Found, Inferred, in_window
from processors.lookback.releases import ReleaseHistory
from processors.reinfer.again import pins_of
from processors.rules.contract import Rules
from processors.step import Cause
from processors.whatif.match import Change, changes
from schemas.catalogue import INFERENCES
from schemas.errors import BlobGoneError, ContractError, DigestError, StepFailedError
from schemas.events import InferenceCompleted, ResultDerived
from schemas.types import DeviceId, ReleaseStep, SourcePosition
from streams.past import Past
from streams.ports import Form, Models

WARM_UP_RECORDS = 1000
_ANSWERS_KEPT = 256
_FORM = Form(threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What should have been otherwise. `release` None keeps the one that read each frame."""

    release: str | None
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a frame: what the models said, and what follows from it."""

    inferred: Inferred
    result: ResultDerived
    derived: tuple[derive.Derived, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCompared:
    """A frame as it was and as it would have been; `problem` says why it could not be read, and then there are no sides."""

    found: Found
    actual: Side | None = None
    other: Side | None = None
    changes: tuple[Change, ...] = ()
    problem: str = ""


class _UnknownReleaseError(ContractError):
    """What a frame was read by is not known."""


class WhatIf:
    """Asks one question of a past.

    Raises:
        ContractError: the release was never registered, its models are not kept, or a parameter is not one of its own.
    """

    def __init__(self, past: Past, models: Models, history: ReleaseHistory, rules: Rules, question: Question) -> None:
        self._past = past
        self._models = models
        self._history = history
        self._rules = rules
        self._question = question
        self._answers: OrderedDict[object, infer.Outcome] = OrderedDict()
        self.read = 0
        if question.release is not None:
            self._models.reader(self._hold_release(question.release), _FORM)  # better now than after an hour

    def frames(self, from_us: int, to_us: int, *, device: str | None = None) -> Iterator[FrameCompared]:
        """Every frame that models were asked about in [from_us, to_us) by the broker's clock, oldest first."""
        actual: defaultdict[DeviceId, derive.DevicePassages] = defaultdict(derive.DevicePassages)
        other: defaultdict[DeviceId, derive.DevicePassages] = defaultdict(derive.DevicePassages)
        for found in in_window(self._past, from_us, to_us, device=device, before=WARM_UP_RECORDS):
            name, event = found.event.frame.device_id, found.event
            if found.appended_at_ms * 1000 < from_us:
                actual[name] = other[name] = derive.fold(self._rules, actual[name], event)
                continue
            try:
                counterfactual = self._inferred(event)
            except (BlobGoneError, DigestError, _UnknownReleaseError) as error:
                yield FrameCompared(found=found, problem=str(error))
                continue
            one = self._side(actual[name], event, found)
            another = self._side(other[name], counterfactual, found)
            actual[name] = derive.fold(self._rules, actual[name], event)
            other[name] = derive.fold(self._rules, other[name], counterfactual)
            told = changes(one.result.readings, another.result.readings)
            yield FrameCompared(found=found, actual=one, other=another, changes=told)

    def _side(self, state: derive.DevicePassages, event: Inferred, found: Found) -> Side:
        derived = derive.decide(self._rules, state, event, _cause(found))
        result = derived[0]
        assert isinstance(result, ResultDerived), "each inference gives exactly one result, and it comes first"
        return Side(inferred=event, result=result, derived=derived)

    def _inferred(self, event: Inferred) -> Inferred:
        """What would have been recorded of the frame.

        Raises:
            BlobGoneError, DigestError: its image, or the models that read it then, are not there any more.
            _UnknownReleaseError: nothing says which models read it then, or with what.
        """
        release = self._question.release or event.release
        if release is None:
            return event
        steps, parameters = self._steps(event, release), self._parameters(event, release)
        pins = {s.step: s.digest for s in steps}
        route = infer.Route(release=release, parameters=parameters, releases_offset=event.releases_offset, pins=pins)
        key = (event.frame.blob.sha256, steps, tuple(sorted(parameters.items())))
        if key not in self._answers:
            image = self._past.blobs.get(event.frame.blob)
            self._answers[key] = self._asked(route, steps, image)
            self.read += 1
            if len(self._answers) > _ANSWERS_KEPT:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        cause = Cause(
            position=event.source, event_id=event.event_id, correlation_id=event.frame.frame_id, traceparent="", now_us=0
        )
        return infer.decide(event.pipeline, event, self._answers[key], cause)

    def _asked(self, route: infer.Route, steps: tuple[ReleaseStep, ...], image: bytes) -> infer.Outcome:
        called = infer.Called(endpoint=self._models.runner, attempts=1, started_at_us=0, duration_us=0)
        try:
            answer = self._models.reader(steps, _FORM).read(image, route.parameters)
        except StepFailedError as error:
            return infer.Failed(route=route, called=called, step=error.step, error_class="step_failed", message=str(error))
        return infer.Answered(route=route, called=called, result_json=answer.result_json, report_json=answer.report_json)

    def _steps(self, event: Inferred, release: str) -> tuple[ReleaseStep, ...]:
        if self._question.release is None and isinstance(event, InferenceCompleted):
            try:
                return pins_of(event, self._history)
            except ContractError as error:
                raise _UnknownReleaseError(str(error)) from error
        return self._hold_release(release)

    def _parameters(self, event: Inferred, release: str) -> Mapping[str, float]:
        """The release's own, what was changed by hand by then, and what the question sets."""
        then = self._history.at(event.releases_offset)
        entry = then.releases.get(release) or self._history.now().releases.get(release)
        if entry is None:
            raise _UnknownReleaseError(f"release {release}, which read it then, is not on the log")
        own = entry.parameters
        if unknown := sorted(self._question.thresholds.keys() - own.keys()):
            raise ContractError(f"{', '.join(unknown)} is no parameter of {release}", do=f"known are {', '.join(sorted(own))}")
        if self._question.release is None and isinstance(event, InferenceCompleted):
            return {**event.parameters, **self._question.thresholds}
        return {**own, **then.parameters, **self._question.thresholds}

    def _hold_release(self, release: str) -> tuple[ReleaseStep, ...]:
        known = self._history.now().releases
        if release not in known:
            raise ContractError(f"release {release} was never registered", do=f"known are {', '.join(sorted(known)) or 'none'}")
        return known[release].steps


def _cause(found: Found) -> Cause:
    """What `derive` was caused by: the record of the inference, and the broker's clock."""
    return Cause(
        position=SourcePosition(topic=INFERENCES, partition=found.partition, offset=found.offset, index=0),
        event_id=found.event.event_id,
        correlation_id=found.event.frame.frame_id,
        traceparent="",
        now_us=found.appended_at_ms * 1000,
    )
