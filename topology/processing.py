"""The composition root, processors: which steps a worker runs, and on what.

`wiring` builds the clients; this module builds the steps on them; `worker` runs them.
"""

from collections.abc import Callable
from typing import Any

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.erase.step import EraseStep
from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.lookback.gone import TellingBlobs
from processors.redrive.step import RedriveStep
from processors.release.follower import ReleaseFollower
from processors.release.routing import CANDIDATE, Assigning, Assignment, reads_beside, reads_instead
from processors.release.state import SHADOW
from processors.release.step import ReleaseStep
from processors.rollout.sampling import SamplingStep
from processors.rollout.trial import JudgeStep
from processors.rules.contract import load as load_rules
from processors.shadow.step import ShadowStep
from processors.step import Step
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.catalogue import CANDIDATES, INFERENCES
from schemas.types import FrameRef
from streams.ports import BlobStore, Inference
from streams.recent_blobs import RecentBlobs
from streams.records import system_clock
from topology.agents import FaustLimits, Group
from topology.settings import Settings
from topology.wiring import Clients

PROCESSORS = ("assess", "infer", "derive", "release", "shadow", "rollout", "erase", "redrive", "views")


def groups(
    settings: Settings, names: tuple[str, ...], using: Clients, *, follower: ReleaseFollower | None, inference: Inference | None
) -> tuple[Group, ...]:
    """The named processors, ready to be bound."""
    # With the reason in the error when one is gone; and assess, infer and shadow read each frame one after the other.
    blobs = RecentBlobs(TellingBlobs(using.blobs, using.log, using.schemas, using.blobs.expiry_rules))
    return tuple(_group(settings, name, using, blobs, follower, inference) for name in names)


def _group(
    settings: Settings,
    name: str,
    using: Clients,
    blobs: BlobStore,
    follower: ReleaseFollower | None,
    inference: Inference | None,
) -> Group:
    worker = settings.worker
    window, batch = worker.window_per_partition, worker.batch_records
    match name:
        case "assess":
            step = AssessStep(
                blobs,
                limits=Limits(),
                max_bytes=settings.gateway.max_message_bytes,
                max_pixels=settings.http.max_pixels,
            )
            return Group(name=name, steps=(step,), window=window, batch=batch)
        case "infer":
            assert follower is not None, "infer is never built without a follower"
            assert inference is not None, "infer is never built without a client"
            return Group(name=name, steps=(_infer(settings, blobs, follower, inference),), window=window, batch=batch)
        case "derive":
            return Group(name=name, steps=(DeriveStep(load_rules(settings.pipeline.rules)),), window=batch, batch=batch)
        case "release":
            # Few at a time: a look back for who was in force goes back as far as one commit may be repeated.
            return Group(name=name, steps=(ReleaseStep(),), window=16, batch=16)
        case "shadow":
            assert follower is not None, "shadow is never built without a follower"
            assert inference is not None, "shadow is never built without a client"
            return Group(name=name, steps=(_shadow(settings, blobs, follower, inference),), window=window, batch=batch)
        case "rollout":
            return Group(name=name, steps=_rollout(settings), window=batch, batch=batch)
        case "erase":
            # One order at a time: two would cut the same keys.
            erase = EraseStep(using.log, using.schemas, using.blobs, system_clock)
            return Group(name=name, steps=(erase,), window=1, batch=1)
        case "redrive":
            # One command at a time: the next one goes by what this one did.
            redrive = RedriveStep(using.log, using.appender, using.views, using.schemas, attempts_max=worker.redrives)
            return Group(name=name, steps=(redrive,), window=1, batch=1)
        case "views":
            return Group(name=name, steps=tuple(ViewStep(view) for view in VIEWS.values()), window=batch, batch=batch)
        case _:
            raise AssertionError(f"{name} is checked against PROCESSORS before")


def _infer(settings: Settings, blobs: BlobStore, follower: ReleaseFollower, inference: Inference) -> InferStep:
    return InferStep(
        pipeline=settings.pipeline.name,
        route=router(follower),
        inference=inference,
        blobs=blobs,
        clock=system_clock,
        retries=Retries(
            attempts_max=settings.worker.attempts,
            deaths_max=2 + len(settings.triton.endpoints),
            backoff_first_s=settings.worker.retry_first_s,
            backoff_most_s=settings.worker.retry_longest_s,
        ),
        concurrency=settings.worker.concurrent_calls,
    )


def _shadow(settings: Settings, blobs: BlobStore, follower: ReleaseFollower, inference: Inference) -> ShadowStep:
    return ShadowStep(
        rules=load_rules(settings.pipeline.rules),
        route=on_trial(follower),
        inference=inference,
        blobs=blobs,
        clock=system_clock,
        concurrency=max(1, settings.worker.concurrent_calls // 2),
    )


def _rollout(settings: Settings) -> tuple[Step[Any], ...]:
    rules = load_rules(settings.pipeline.rules)
    return (
        SamplingStep(rules, name="sample_inferences", topic=INFERENCES),
        SamplingStep(rules, name="sample_candidates", topic=CANDIDATES),
        JudgeStep(lambda kind: settings.rollouts.plan(paired=kind == SHADOW)),
    )


def on_trial(follower: ReleaseFollower) -> Callable[[str], Route | None]:
    """The release on trial in a rollout, while that runs."""

    def route(rollout_id: str) -> Route | None:
        state, offset = follower.current()
        if state.rollout is None or state.rollout.rollout_id != rollout_id:
            return None
        return _route(reads_beside(state, state.rollout), offset, None)

    return route


def router(follower: ReleaseFollower) -> Callable[[FrameRef], Route]:
    """Who reads a frame, as far as the follower has read."""
    assigning = Assigning()

    def route(frame: FrameRef) -> Route:
        state, offset = follower.current()
        assigned = assigning.assigned(state, frame)
        on_trial = assigned.rollout is not None and assigned.rollout.arm == CANDIDATE
        instead = _route(reads_instead(state), offset, None) if on_trial else None
        return _route(assigned, offset, instead)

    return route


def _route(assigned: Assignment, offset: int, instead: Route | None) -> Route:
    return Route(
        release=assigned.release,
        parameters=assigned.parameters,
        pins=assigned.pins,
        releases_offset=offset,
        rollout=assigned.rollout,
        instead=instead,
        steps_by_model=assigned.steps_by_model,
    )


def faust_limits(settings: Settings) -> FaustLimits:
    kafka = settings.kafka
    return FaustLimits(
        session_timeout_s=kafka.session_timeout_s,
        heartbeat_s=kafka.heartbeat_interval_s,
        request_timeout_s=kafka.request_timeout_s,
    )
