"""The infer processor: routes a frame, fetches its bytes, calls the ensemble with retries, records what came back."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from processors.infer import core
from processors.infer.step_metrics import count_failure, observe_steps
from processors.infer.tries import Death, Tries
from processors.metrics import CALL_SECONDS
from processors.step import NOTHING, Cause, NoState, Prepared
from processors.tracing import calling, current_traceparent
from schemas.catalogue import ASSESSMENTS
from schemas.errors import (
    BlobGoneError,
    DigestError,
    HindsightError,
    InferenceTimeoutError,
    InferenceUnavailableError,
    ModelProcessDiedError,
    ServerLostError,
    StepFailedError,
)
from schemas.events import FrameAccepted
from schemas.types import FrameRef
from streams.ports import Answer, BlobStore, Inference
from streams.records import Clock

log = structlog.get_logger()
_ASK_HELD_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a frame is tried when the server answers with an error or not in time, also when it waited in between. A server
    that is away does not count: the frame waits for it. Nor does the death of a model process or of a server in the frame's call,
    up to `deaths_max` of them: the first in company, the others while the frame is tried alone."""

    attempts_max: int = 4
    deaths_max: int = 3
    backoff_first_s: float = 0.1
    backoff_most_s: float = 2.0


@dataclass(slots=True)
class _Held:
    """A release that answered with what it does not pin: what was seen, and until when nobody asks it again (loop time)."""

    message: str
    until_s: float


class InferStep:
    """Reads vision.assessments.

    What another content than the release's pins read is not recorded: the frames wait until the pinned content is back, or
    another release is in force.

    Args:
        pipeline: Whose releases are in question.
        route: The release in force for a frame, from the newest that is known of vision.releases.
        concurrency: Most calls in flight at once, over all partitions.
    """

    name = "infer"
    topic = ASSESSMENTS
    state_type = NoState
    initial = NoState()

    def __init__(
        self,
        *,
        pipeline: str,
        route: Callable[[FrameRef], core.Route],
        inference: Inference,
        blobs: BlobStore,
        clock: Clock,
        retries: Retries,
        concurrency: int,
    ) -> None:
        self._pipeline = pipeline
        self._route = route
        self._inference = inference
        self._blobs = blobs
        self._clock = clock
        self._retries = retries
        self._calls = asyncio.Semaphore(concurrency)
        self._held: dict[str, _Held] = {}
        self._tries = Tries()

    def key(self, event: Any) -> str | None:
        return None

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if not isinstance(event, FrameAccepted):
            return NOTHING
        async with self._calls:
            outcome = await self._ask(event, cause)
        self._tries.forget(cause.event_id)
        if outcome is None:
            return Prepared(dead_letter="no release is in force; it can be redriven when one is")
        final = outcome.outcome if isinstance(outcome, core.ReadInstead) else outcome
        if isinstance(final, core.Failed):
            return Prepared(answer=outcome, dead_letter=f"{final.error_class}: {final.message}")
        return Prepared(answer=outcome)

    def decide(self, state: NoState, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        match answer:
            case None:
                return ()
            case core.ReadInstead():
                failed = core.candidate_failed(self._pipeline, event, answer.candidate, cause)
                return (core.decide(self._pipeline, event, answer.outcome, cause), failed)
            case _:
                return (core.decide(self._pipeline, event, answer, cause),)

    def fold(self, state: NoState, event: Any) -> NoState:
        return state

    async def _ask(self, event: FrameAccepted, cause: Cause) -> core.Outcome | core.ReadInstead | None:
        frame = event.frame
        route = self._route(frame)
        if route.release is None and cause.redriven is not None:
            # Somebody asked for it to be read; skipping it would leave it unread for good.
            return None
        if route.release is None:
            return core.Skipped(route=route, reason="no_release_in_force")
        started_us = self._clock()
        try:
            image = await asyncio.to_thread(self._blobs.get, frame.blob)
            if route.instead is not None and cause.redriven is None:
                return await self._on_trial(event, route, image, cause, started_us)
            return await self._call(lambda: self._in_force(frame), route, image, cause, started_us)
        except BlobGoneError as error:
            return self._gave_up(route, 0, started_us, "blob_gone", error)
        except DigestError as error:
            return self._gave_up(route, 0, started_us, "blob_changed", error)
        except HindsightError:
            raise
        except Exception as error:
            # Whatever a library makes of this frame, an accepted frame has an outcome.
            log.exception("unexpected", processor=self.name, frame=frame.frame_id)
            return self._gave_up(route, 0, started_us, "unexpected", error)

    async def _on_trial(
        self, event: FrameAccepted, route: core.Route, image: bytes, cause: Cause, first_us: int
    ) -> core.Answered | core.Failed | core.ReadInstead:
        """One try by the release on trial; where it fails, the release in force reads the frame. A trial costs no frame."""
        if self._tries.last_died_under(cause.event_id) not in ("", route.release):
            # Something died of it, or beside it, before the trial had it: that is none of the trial's samples.
            return await self._call(lambda: self._in_force(event.frame), route, image, cause, first_us)
        tried = await self._tried(event, route, image, cause, first_us)
        if not isinstance(tried, core.Failed):
            return tried

        # A sample of the candidate, and by the same topic as its readings; that it was not to be had is none.
        missed = replace(route.rollout, arm=core.CANDIDATE_FAILED) if route.rollout is not None else None

        def again() -> core.Route:
            return replace(self._in_force(event.frame), rollout=missed if tried.error_class != "unavailable" else None)

        outcome = await self._call(again, again(), image, cause, self._clock())
        return core.ReadInstead(outcome=outcome, candidate=tried)

    async def _tried(
        self, event: FrameAccepted, route: core.Route, image: bytes, cause: Cause, first_us: int
    ) -> core.Answered | core.Failed:
        """What a release on trial makes of a frame; whatever it does that no event can hold is a failure."""
        if (died := self._tries.last_death(cause.event_id)) is not None:
            # It is not asked again after a death: that may have been its doing.
            return self._gave_up(route, 0, first_us, _kind(died), died)
        try:
            tried = await self._call(lambda: route, route, image, cause, first_us, attempts_max=1)
        except InferenceUnavailableError as error:
            return self._gave_up(route, 0, first_us, "unavailable", error)
        except HindsightError:
            raise
        except Exception as error:
            log.exception("unexpected", processor=self.name, frame=event.frame.frame_id, release=route.release)
            return self._gave_up(route, 1, first_us, "unexpected", error)
        if isinstance(tried, core.Answered):
            broken = core.broken_contract(self._pipeline, event, tried, cause)
            if broken is not None:
                return self._gave_up(route, 1, first_us, "bad_answer", broken)
        return tried

    def _in_force(self, frame: FrameRef) -> core.Route:
        """The release in force now, also when a trial began that would have the frame."""
        route = self._route(frame)
        return route.instead if route.instead is not None else route

    async def _call(
        self,
        again: Callable[[], core.Route],
        route: core.Route,
        image: bytes,
        cause: Cause,
        first_us: int,
        *,
        attempts_max: int | None = None,
    ) -> core.Answered | core.Failed:
        """Ask until it answers or has failed too often; `again` says before each try who is to be asked."""
        is_trial, pause_s = attempts_max is not None, self._retries.backoff_first_s
        attempts = 0 if is_trial else self._tries.attempts(cause.event_id)
        while True:
            route = again()
            assert route.release is not None, "a pipeline that has a release in force never loses it"
            self._wait_if_held(route.release)
            started_us = self._clock()
            try:
                async with self._tries.call(cause.event_id) as alone:
                    with calling("triton.infer", release=route.release):
                        answer = await self._inference.infer(
                            route.release, image, route.parameters, traceparent=current_traceparent(cause.traceparent)
                        )
            except (ModelProcessDiedError, ServerLostError) as error:
                self._observe(route.release, "process_died" if isinstance(error, ModelProcessDiedError) else "lost", started_us)
                lone = self._tries.saw_death(cause.event_id, route.release, error, alone=alone)
                if is_trial or lone >= self._retries.deaths_max - 1:
                    tries = attempts + self._tries.deaths(cause.event_id)
                    return self._gave_up(route, tries, first_us, _kind(error), error)
                continue
            except InferenceUnavailableError:
                self._observe(route.release, "unavailable", started_us)
                raise
            except (InferenceTimeoutError, StepFailedError) as error:
                attempts = 1 if is_trial else self._tries.failed(cause.event_id)
                kind = "timeout" if isinstance(error, InferenceTimeoutError) else "step_failed"
                self._observe(route.release, kind, started_us)
                if attempts >= (attempts_max or self._retries.attempts_max):
                    return self._gave_up(route, attempts, first_us, kind, error)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, self._retries.backoff_most_s)
                continue
            self._hold_to_pins(route, answer, started_us)
            self._observe(route.release, "ok", started_us)
            observe_steps(answer.report_json)
            called = core.Called(
                endpoint=answer.endpoint,
                attempts=attempts + 1,
                started_at_us=started_us,
                duration_us=self._clock() - started_us,
            )
            return core.Answered(route=route, called=called, result_json=answer.result_json, report_json=answer.report_json)

    def _hold_to_pins(self, route: core.Route, answer: Answer, started_us: int) -> None:
        assert route.release is not None, "only a named release can have answered"
        strangers = core.strangers(route.pins, answer.report_json)
        if not strangers:
            self._held.pop(route.release, None)
            return
        self._observe(route.release, "not_pinned", started_us)
        step, digest = min(strangers.items())
        more = f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        message = (
            f"{route.release} pins {step} to {route.pins[step]}, and at {answer.endpoint} {digest} answered{more}; frames wait: "
            "put the pinned files back and restart Triton, or register what is there as a new release and promote it"
        )
        self._held[route.release] = _Held(message, asyncio.get_running_loop().time() + _ASK_HELD_EVERY_S)
        raise InferenceUnavailableError(message)

    def _wait_if_held(self, release: str) -> None:
        """One frame asks now and then whether the pinned content is back; the others keep the models free meanwhile."""
        held, now_s = self._held.get(release), asyncio.get_running_loop().time()
        if held is not None and now_s < held.until_s:
            raise InferenceUnavailableError(held.message)
        if held is not None:
            held.until_s = now_s + _ASK_HELD_EVERY_S

    def _gave_up(self, route: core.Route, attempts: int, first_us: int, error_class: str, error: Exception) -> core.Failed:
        step = core.failed_step(route, error)
        count_failure(route.release, step, error_class)
        log.warning(
            "inference failed", release=route.release, step=step, error_class=error_class, attempts=attempts, error=str(error)
        )
        called = core.Called(
            endpoint=getattr(error, "endpoint", ""),
            attempts=attempts,
            started_at_us=first_us,
            duration_us=self._clock() - first_us,
        )
        return core.Failed(route=route, called=called, step=step, error_class=error_class, message=str(error) or repr(error))

    def _observe(self, release: str, outcome: str, started_us: int) -> None:
        CALL_SECONDS.labels(release, outcome).observe((self._clock() - started_us) / 1e6)


def _kind(death: Death) -> str:
    return "model_process_died" if isinstance(death, ModelProcessDiedError) else "server_lost"
