"""What never came, or was stopped on its way: gaps, drops, refusals, rejections, skips, failures, lag, releases."""

from collections import defaultdict
from itertools import pairwise
from statistics import median

from processors.lookback.findings import Asked, Finding, named, places, seconds, was_read_by
from processors.lookback.letters import letters_between
from processors.lookback.routing import release_history
from processors.lookback.scan import Entry, Place
from processors.lookback.window import LATE_S, Story
from processors.lookback.words import shown
from processors.release import core as release_core
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, RELEASES, RESULTS
from schemas.events import (
    FrameAccepted,
    FrameRefused,
    FrameRejected,
    InferenceFailed,
    InferenceSkipped,
    PromotionRequested,
    ReleaseLoadFailed,
)

_SLOW_US = 5_000_000
_SILENT_TIMES = 5
_SILENT_US = 2_000_000
_STAGES = (
    ("assess", "frame", "assessment", ASSESSMENTS),
    ("infer", "assessment", "inference", INFERENCES),
    ("derive", "inference", "result", RESULTS),
)


def no_frames(asked: Asked) -> list[Finding]:
    """Nothing of the device lies in the window: what came last before, and first after."""
    w = asked.window
    if w.stories:
        return []
    log = asked.past.log
    trimmed = [f"{FRAMES}/{p} from {b.earliest} on" for p in log.partitions(FRAMES) if (b := log.bounds(FRAMES, p)).earliest > 0]
    if w.before is None and trimmed:
        says = f"what came before is not kept ({', '.join(trimmed)}); nothing of {shown(w.device)} before the window is left"
        return [Finding(reason="not_kept", says=says, evidence=places(w.after))]
    scope = asked.past.scope
    to_us = w.to_us if scope is None else min(w.to_us, scope.to_us)
    told = [f"no frame of {shown(w.device)} came between {asked.moment(w.from_us)} and {asked.moment(to_us)}"]
    told.append("none came before" if w.before is None else f"the last before was {_frame(w.before, asked)}")
    if w.after is not None:
        told.append(f"the first after was {_frame(w.after, asked)}")
    elif scope is None:
        told.append("none has come since")
    else:
        told.append(f"what came after {asked.moment(scope.to_us)} is not in {asked.past.source}")
    if w.before is not None and w.after is not None and w.before.event.frame.session_id != w.after.event.frame.session_id:
        told.append("between them the device began a new session")
    return [Finding(reason="no_frames", says="; ".join(told), evidence=places(w.before, w.after))]


def _frame(entry: Entry, asked: Asked) -> str:
    frame = entry.event.frame
    return f"#{frame.sequence} of session {shown(frame.session_id)}, appended {asked.moment(entry.place.appended_at_us)}"


def missing_numbers(asked: Asked) -> list[Finding]:
    """Numbers of a session that never came, in the window and right after it, unless the spool says that it dropped them."""
    found = []
    w = asked.window
    for assessment in (*(s.assessment for s in w.stories), w.after_assessment):
        event = assessment.event if assessment is not None else None
        if not isinstance(event, FrameAccepted) or not event.missing_before:
            continue
        assert assessment is not None, "an event has an entry"
        last = event.frame.sequence - 1
        first = event.frame.sequence - event.missing_before
        span = f"#{first}" if first == last else f"#{first} to #{last}"
        session = shown(event.frame.session_id)
        says = f"{span} of session {session} never came: the next to arrive was #{event.frame.sequence}; nobody says why"
        found.append(Finding(reason="missing_numbers", says=says, evidence=places(assessment)))
    return found


def dropped(asked: Asked) -> list[Finding]:
    """Frames that the device's spool gave up."""
    out = []
    for entry in asked.window.dropped:
        e = entry.event
        span = f"#{e.first_sequence} to #{e.last_sequence} of session {shown(e.session_id)}"
        says = f"the device gave up {e.frames_count} frames, {span}: {shown(e.reason)}"
        out.append(Finding(reason="dropped", says=says, evidence=places(entry)))
    return out


def silence(asked: Asked) -> list[Finding]:
    """Frames around the moment, and none at it, for much longer than from one to the next otherwise."""
    w = asked.window
    times = sorted(w.stories, key=lambda s: s.captured_at_us)
    steps = [b.captured_at_us - a.captured_at_us for a, b in pairwise(times)]
    if len(steps) < 3:
        return []
    usual_us = round(median(steps))
    for a, b in pairwise(times):
        quiet_us = b.captured_at_us - a.captured_at_us
        if a.captured_at_us <= w.at_us <= b.captured_at_us and quiet_us > max(_SILENT_US, _SILENT_TIMES * usual_us):
            says = f"no frame was captured for {seconds(quiet_us)} between #{a.sequence} and #{b.sequence}"
            says += f"; otherwise one comes every {seconds(usual_us)}"
            return [Finding(reason="silence", says=says, evidence=places(a.frame, b.frame), sequences=(a.sequence, b.sequence))]
    return []


def stopped(asked: Asked) -> list[Finding]:
    """Frames that were refused, rejected, skipped, or whose inference failed, by what was said of them."""
    groups: dict[tuple[str, str], list[Story]] = defaultdict(list)
    for story in asked.window.stories:
        if (why := _stopped(story)) is not None:
            groups[why].append(story)
    out = []
    for (reason, detail), stories in groups.items():
        last = [s.inference or s.assessment or s.frame for s in stories]
        verb = "was" if len(stories) == 1 else "were"
        what = "failed in inference" if reason == "failed" else f"{verb} {reason}"
        out.append(
            Finding(
                reason=reason,
                says=f"{named(stories)} {what}: {detail}",
                evidence=places(*last),
                sequences=tuple(s.sequence for s in stories),
                rank=-len(stories),
            )
        )
    return out


def _stopped(story: Story) -> tuple[str, str] | None:
    frame, assessment = story.frame.event, story.assessment.event if story.assessment is not None else None
    inference = story.inference.event if story.inference is not None else None
    if isinstance(frame, FrameRefused):
        return "refused", f"{shown(frame.reason)} ({shown(frame.detail)}), at the door ({shown(frame.channel)})"
    if isinstance(assessment, FrameRejected):
        return "rejected", f"{', '.join(map(shown, assessment.reasons))} ({shown(assessment.detail)})"
    if isinstance(inference, InferenceSkipped):
        return "skipped", shown(inference.reason)
    if isinstance(inference, InferenceFailed):
        step = shown(inference.failed_step or "no named step")
        return (
            "failed",
            f"{shown(inference.error_class)} in {step} of {shown(inference.release)}: {shown(inference.error_message)}",
        )
    return None


def waiting(asked: Asked) -> list[Finding]:
    """Frames whose way ends without an outcome: the next stage has not come to them, or its topic is not kept."""
    w = asked.window
    out = []
    for stage, cause, part, topic in _STAGES:
        stuck = [s for s in w.stories if _waits(s, cause, part)]
        if not stuck:
            continue
        entries = [getattr(s, cause) for s in stuck]
        at, first = w.progress.get(topic), min((e.place for e in entries), key=lambda p: p.appended_at_us)
        passed = at is not None and all(at.partition == e.place.partition and at.offset > e.place.offset for e in entries)
        if passed:
            says = f"{named(stuck)} have no event of {stage}, though it has passed them: {topic} does not keep them"
            out.append(Finding(reason="not_kept", says=says, evidence=places(*entries)))
            continue
        come = "it has left nothing there" if at is None else f"its newest event is of {at.topic}/{at.partition}/{at.offset}"
        says = f"{named(stuck)} {'waits' if len(stuck) == 1 else 'wait'} for {stage}: {first} has not been worked on; {come}"
        out.append(Finding(reason="waiting", says=says, evidence=places(*entries), sequences=tuple(s.sequence for s in stuck)))
    return out


def _waits(story: Story, cause: str, part: str) -> bool:
    entry = getattr(story, cause)
    rejected = entry is not None and isinstance(entry.event, FrameRejected)
    return entry is not None and not rejected and getattr(story, part) is None


def late(asked: Asked) -> list[Finding]:
    """Readings that came after the moment, of frames that were captured before it."""
    w = asked.window
    out = []
    for s in w.stories:
        if s.result is None or s.captured_at_us > w.at_us or s.result.place.appended_at_us <= w.at_us:
            continue
        if not was_read_by(s, asked.expected):
            continue
        after_us = s.result.place.appended_at_us - w.at_us
        arrived_us = s.frame.place.appended_at_us - s.captured_at_us
        way = f"it arrived {seconds(arrived_us)} after its capture" if arrived_us > _SLOW_US else "it arrived at once"
        took = seconds(s.result.place.appended_at_us - s.frame.place.appended_at_us)
        came = f"{asked.moment(s.result.place.appended_at_us)}, {seconds(after_us)} after the moment"
        says = f"frame #{s.sequence} was read, but its result came at {came}; {way}, and took {took} from there"
        out.append(Finding(reason="late", says=says, evidence=places(s.frame, s.result), sequences=(s.sequence,), rank=after_us))
    return out[:1] if asked.expected is None else out


def lag(asked: Asked) -> list[Finding]:
    """The slowest stage, when one took long."""
    slowest: tuple[int, str, Story] | None = None
    for s in asked.window.stories:
        for stage, cause, part, _ in _STAGES:
            before, then = getattr(s, cause), getattr(s, part)
            if before is None or then is None:
                continue
            took_us = then.place.appended_at_us - before.place.appended_at_us
            if took_us > _SLOW_US and (slowest is None or took_us > slowest[0]):
                slowest = (took_us, stage, s)
    if slowest is None:
        return []
    took_us, stage, s = slowest
    says = f"{stage} was behind: frame #{s.sequence} waited {seconds(took_us)} for it"
    return [
        Finding(reason="lag", says=says, evidence=places(s.frame, s.assessment, s.inference, s.result), sequences=(s.sequence,))
    ]


def dead_letters(asked: Asked) -> list[Finding]:
    """Records of the device that were kept aside, by what was wrong with them; failed inferences are told elsewhere."""
    w = asked.window
    groups: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for letter in letters_between(asked.past, w.from_us, w.to_us + round(LATE_S * 1e6)):
        if letter.key == w.device and letter.processor != "infer":
            groups[letter.processor, letter.error_message].append(letter.position)
    return [
        Finding(
            reason="dead_letter",
            says=f"{len(at)} records of {shown(w.device)} were kept aside by {shown(processor)}: {shown(message)}",
            evidence=tuple(at[:20]),
        )
        for (processor, message), at in groups.items()
    ]


def releases(asked: Asked) -> list[Finding]:
    """The release in force at the moment, a promotion that waited, and what could not be loaded."""
    past, w = asked.past, asked.window
    if 0 not in past.log.partitions(RELEASES):
        return []
    known = tuple(release_history(past, asked.pipeline, past.log.offset_at(RELEASES, 0, w.at_us // 1000 + 1)))
    state = release_core.fold_all(tuple(e.event for e in known), release_core.INITIAL)
    out = []
    if state.in_force is None:
        says = f"no release of {shown(asked.pipeline)} was in force at {asked.moment(w.at_us)}"
        out.append(Finding(reason="no_release", says=says, evidence=places(*known[-1:])))
    if state.pending is not None:
        request = [e for e in known if isinstance(e.event, PromotionRequested)][-1:]
        says = f"the promotion of {shown(state.pending.release)} by {shown(state.pending.issued_by)} waited for it to be loaded"
        out.append(Finding(reason="promotion_pending", says=says, evidence=places(*request)))
    for name, entry in sorted(state.releases.items()):
        if entry.load_error:
            failures = [e for e in known if isinstance(e.event, ReleaseLoadFailed) and e.event.release == name]
            says = f"{shown(name)} could not be loaded: {shown(entry.load_error)}"
            out.append(
                Finding(reason="load_failed", says=says, evidence=places(*failures[-1:]), explains=state.in_force in (None, name))
            )
    return out


LOOKS = (no_frames, missing_numbers, dropped, silence, stopped, waiting, late, lag, dead_letters, releases)
