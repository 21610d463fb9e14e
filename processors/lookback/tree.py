"""An explanation as a tree of lines, for a terminal. Text of others is shown with its control signs written out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.explain import Explanation, LeftOut, Node, Release, StepRun
from processors.lookback.routing import SetBy, Threshold
from processors.lookback.votes import PassageVotes, Vote
from processors.lookback.words import box, milliseconds, proof, shown

Moment = Callable[[int], str]
_HOW = {
    "promoted": "promoted",
    "rolled_back": "put back in force",
    "canary": "started as canary",
    "shadow": "started as shadow",
}


@dataclass(frozen=True, slots=True)
class Branch:
    """A line and what hangs below it."""

    text: str
    below: tuple["Branch", ...] = ()


def lines(root: Branch) -> Iterator[str]:
    """The tree, drawn."""
    yield root.text
    yield from _below(root, "")


def _below(branch: Branch, indent: str) -> Iterator[str]:
    for number, one in enumerate(branch.below):
        last = number == len(branch.below) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}{one.text}"
        yield from _below(one, indent + ("   " if last else "│  "))


def tree(e: Explanation, moment: Moment) -> Branch:
    """The whole explanation.

    Args:
        moment: A time in microseconds since the epoch as people read it.
    """
    frame = e.frame_ref
    asked = f"{e.asked_event} {e.asked_position}"
    head = f"frame #{frame.sequence} of {shown(frame.device_id)}, session {shown(frame.session_id)} (asked: {asked})"
    parts = [
        _frame(e, moment),
        _part(e.assessment, "assessment", e, moment, _assessment),
        _part(e.inference, "inference", e, moment, lambda c: _inference(c, e, moment)),
        _part(e.result, "result", e, moment, lambda c: _result(c, e, moment)),
        *(_event(n, moment, _correction(n.content)) for n in e.corrections),
        *(_event(n, moment, _alert(n.content)) for n in e.alerts),
        *(
            Branch(f"dead letter {d.position}: {shown(d.processor)} kept {d.of} aside: {shown(d.error_message)}")
            for d in e.dead_letters
        ),
    ]
    traces = ", ".join(e.trace_ids) or "none recorded"
    return Branch(head, (*(p for p in parts if p is not None), Branch(f"trace {traces}"), Branch(f"from {e.source}")))


def _part(node: Node | None, part: str, e: Explanation, moment: Moment, details: Callable[[Any], list[Branch]]) -> Branch | None:
    if node is not None:
        return _event(node, moment, [] if "unreadable" in node.content else details(node.content))
    why = next((m.why for m in e.missing if m.part == part), None)
    return None if why is None else Branch(f"{part}: missing; {why}")


def _event(node: Node, moment: Moment, details: list[Branch]) -> Branch:
    repeats = [Branch(f"repeat {place}, appended {moment(place.appended_at_us)}, does not count") for place in node.repeats]
    writer = shown(node.written_by) or "nobody named"
    head = f"{node.event} {node.position}, appended {moment(node.position.appended_at_us)} by {writer}"
    if "unreadable" in node.content:
        details = [Branch(f"cannot be read: {shown(node.content['unreadable'])}")]
    return Branch(head, (*repeats, *details))


def _frame(e: Explanation, moment: Moment) -> Branch | None:
    frame = e.frame_ref
    told = [
        Branch(f"frame {frame.frame_id}"),
        Branch(f"captured {moment(frame.captured_at_us)} by the device's clock"),
        Branch(f"blob sha256/{frame.blob.sha256} ({frame.blob.size_bytes} bytes, {shown(frame.blob.media_type)})"),
    ]
    if e.blob_gone:
        told.append(Branch(f"blob gone: {shown(e.blob_gone)}"))
    if frame.passage_id is not None:
        told.append(Branch(f"passage {shown(frame.passage_id)}"))
    told += [Branch(f"label {shown(k)}={shown(v)}") for k, v in sorted(frame.labels.items())]

    def details(content: Mapping[str, Any]) -> list[Branch]:
        refused = [Branch(f"refused: {shown(content['reason'])}: {shown(content['detail'])}")] if "reason" in content else []
        return [*told, Branch(f"received {moment(content['received_at_us'])} by way of {shown(content['channel'])}"), *refused]

    found = _part(e.frame, "frame", e, moment, details)
    return Branch(found.text, tuple(told)) if found is not None and e.frame is None else found


def _assessment(content: Mapping[str, Any]) -> list[Branch]:
    if "reasons" in content:
        return [Branch(f"rejected: {', '.join(map(shown, content['reasons']))}: {shown(content['detail'])}")]
    measures = ", ".join(f"{shown(k)} {v:g}" for k, v in content["measures"].items())
    out = [Branch(f"{content['width_px']}x{content['height_px']} px; {measures}")]
    if content["warnings"]:
        out.append(Branch(f"warnings: {', '.join(map(shown, content['warnings']))}"))
    if content["missing_before"]:
        out.append(Branch(f"{content['missing_before']} numbers before it never came"))
    return out


def _inference(content: Mapping[str, Any], e: Explanation, moment: Moment) -> list[Branch]:
    out = [_release(e.release, e, moment)] if e.release is not None else []
    if "reason" in content:
        return [*out, Branch(f"skipped: {shown(content['reason'])}")]
    called = (
        f"{shown(content['endpoint']) or 'no server'} at attempt {content['attempts']}, {milliseconds(content['duration_us'])}"
    )
    out.append(Branch(f"called {called}, from {moment(content['started_at_us'])}"))
    if "error_class" in content:
        step = shown(content["failed_step"] or "no named step")
        return [*out, Branch(f"failed: {shown(content['error_class'])} in {step}: {shown(content['error_message'])}")]
    out.append(Branch("steps", tuple(map(_step, e.steps))))
    runtime = tuple(Branch(f"{shown(k)}: {shown(v)}") for k, v in content["runtime"].items())
    out.append(Branch(f"runtime fingerprint ({len(runtime)} entries)", runtime))
    seen = content["observations"]
    out.append(Branch(f"{len(seen)} observations", tuple(map(_observation, seen))))
    out.append(Branch(f"{len(e.left_out)} candidates left out", tuple(_left_out(c, moment) for c in e.left_out)))
    return out


def _release(r: Release, e: Explanation, moment: Moment) -> Branch:
    below = [Branch(f"{p.step}: {shown(p.model)}:{p.version} {p.digest[:16]}") for p in r.pins]
    parts = [Branch("pins", tuple(below))] if below else []
    if r.registered is not None:
        parts.insert(0, Branch(f"registered {_by(r.registered, moment)}"))
    if r.decided is not None:
        before = f", before it {shown(r.previous)}" if r.previous else ""
        parts.insert(0, Branch(f"{_HOW.get(r.how, r.how)} {_by(r.decided, moment)}{before}"))
        parts.insert(1, _verdict(r, moment))
    parts += [Branch(f"{m.part}: missing; {m.why}") for m in e.missing if m.part in ("decision", "registration")]
    parts += [Branch("thresholds", tuple(Branch(_threshold(t, moment)) for t in r.thresholds))] if r.thresholds else []
    said = f"release {shown(r.release)}" if r.release is not None else f"no release of {shown(r.pipeline)} was in force"
    return Branch(f"{said}, as of vision.releases before offset {r.releases_offset}", tuple(parts))


def _verdict(r: Release, moment: Moment) -> Branch:
    if r.verdict is None:
        return Branch("on no recorded verdict")
    said = r.verdict.content
    measures = ", ".join(f"{shown(k)} {v:g}" for k, v in said["measures"].items())
    verdict = f"{shown(said['verdict'])} about {shown(said['release'])} of {moment(said['judged_at_us'])}"
    return Branch(f"on the verdict {verdict} ({r.verdict.position}): {measures}")


def _by(who: SetBy, moment: Moment) -> str:
    why = f": {shown(who.reason)}" if who.reason else ""
    return f"{moment(who.at_us)} by {shown(who.by) or 'nobody named'}{why} ({who.event} {who.position})"


def _threshold(t: Threshold, moment: Moment) -> str:
    if t.in_force is None or t.set_by is None:
        return f"{shown(t.name)}={t.sent:g} was sent; who set it is not known"
    differs = f"; {t.sent:g} was sent" if t.sent is not None and t.sent != t.in_force else ""
    return f"{shown(t.name)}={t.in_force:g}{differs}, set {_by(t.set_by, moment)}"


def _step(s: StepRun) -> Branch:
    pinned = {True: "as pinned", False: "NOT AS PINNED", None: "not held against a pin"}[s.as_pinned]
    digest = (s.ran.digest or "no digest")[:16]
    output = (s.ran.output_sha256 or "-")[:16]
    ran = f"{shown(s.ran.step)}: {shown(s.ran.model)}:{s.ran.version} {shown(s.ran.variant)} {digest} ({pinned})"
    return Branch(f"{ran}, {milliseconds(s.ran.duration_us)}, output {output}")


def _observation(o: Mapping[str, Any]) -> Branch:
    scores = f"confidence {o['confidence']:.3f}, detection {o['detection_score']:.3f}"
    return Branch(f'[{o["index"] + 1}] {shown(o["kind"])} "{shown(o["label"])}" {scores}, box {box(o["polygon_px"])}')


def _left_out(c: LeftOut, moment: Moment) -> Branch:
    what = f'"{shown(c.candidate.label)}"' if c.candidate.label else "unread"
    below = () if c.threshold is None else (Branch(_threshold(c.threshold, moment)),)
    where = f"box {box(c.candidate.polygon_px)}"
    return Branch(f"{shown(c.candidate.stage)}: {what} with {c.score:.3f}: {shown(c.candidate.reason)}, {where}", below)


def _result(content: Mapping[str, Any], e: Explanation, moment: Moment) -> list[Branch]:
    out = [Branch(f"{shown(content['outcome'])}, by the rules {shown(content['rules'])}")]
    if content["detail"]:
        out.append(Branch(shown(content["detail"])))
    out += map(_reading, content["readings"])
    return [*out, _passage(e.passage, moment)] if e.passage is not None else out


def _reading(r: Mapping[str, Any]) -> Branch:
    said = f'{shown(r["kind"])} "{shown(r["label"])}" ({proof(r["valid"])}) {r["confidence"]:.3f}'
    return Branch(f"{said}, from observation [{r['observation_index'] + 1}]")


def _passage(p: PassageVotes, moment: Moment) -> Branch:
    c = p.recorded
    label = f'"{shown(c.label)}" ({proof(c.valid)})' if c.label is not None else "nothing"
    votes = [_vote(v, moment) for v in p.votes]
    tally = [
        Branch(f'"{shown(t.label)}" ({proof(t.valid)}): {t.frames} votes, mean confidence {t.confidence_mean:.3f}')
        for t in p.tally
    ]
    counted = {True: "counted again: the same", False: "counted again: NOT WHAT WAS RECORDED", None: "not counted again"}[
        p.agrees
    ]
    below = [Branch("votes in order", tuple(votes)), Branch(f"tally ({counted})", tuple(tally))]
    if p.note:
        below.append(Branch(shown(p.note)))
    said = f"passage {shown(p.passage_id)} says {label}: {c.votes_for} of {c.votes_total} votes, {c.frames_count} frames"
    return Branch(said, tuple(below))


def _vote(v: Vote, moment: Moment) -> Branch:
    if v.label is not None:
        said = f'"{shown(v.label)}" ({proof(v.valid)}) {v.confidence:.3f}'
    else:
        read = ", ".join(f'"{shown(r)}"' for r in v.readings)
        said = f"no vote ({shown(v.outcome)}{': ' + read if read else ''})"
    mine = " <- this frame" if v.is_asked else ""
    return Branch(f"{v.number}. #{v.sequence} {v.position} {moment(v.position.appended_at_us)}: {said}{mine}")


def _correction(content: Mapping[str, Any]) -> list[Branch]:
    before, now = content["previous"], content["conclusion"]
    return [Branch(f'passage {shown(now["passage_id"])}: "{shown(before["label"])}" becomes "{shown(now["label"])}"')]


def _alert(content: Mapping[str, Any]) -> list[Branch]:
    head = Branch(f"alert {content['alert_id']} {shown(content['kind'])}")
    if "message" not in content:
        return [head, Branch(f"cleared: {shown(content['reason'])}")]
    evidence = tuple(Branch(f"{shown(k)}={shown(v)}") for k, v in content["evidence"].items())
    return [head, Branch(f"{shown(content['severity'])}: {shown(content['message'])}", evidence)]
