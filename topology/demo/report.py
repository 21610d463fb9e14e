"""The demo's summary: what came in and out, what was right, and what was known before and after the promotion. Pure."""

from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher

from processors.lookback.at import DeviceAt
from schemas.envelope import rfc3339
from schemas.events import ResultDerived
from topology.demo.run import FIRST, SECOND, Demo, Sent
from topology.demo.sources import GATE_DEVICE

_CODE = "container_code"


def summary(demo: Demo, *, command: str) -> list[str]:
    """The lines that `hindsight demo` ends with; `command` is how a person calls hindsight from where they are."""
    outcomes = Counter(r.outcome for r in demo.results.values())
    return [
        f"frames in    {len(demo.sent)} ({_by_device(demo)})",
        f"results out  {len(demo.results)} ({', '.join(f'{n} {o}' for o, n in sorted(outcomes.items()))}) in {demo.took_s:.0f} s",
        *_truth(demo),
        "",
        "what gate-1 was known to be",
        *_known("before the promotion", demo.before),
        *_known("after it", demo.after),
        "",
        *_differences(demo),
        "",
        "look for yourself:",
        f'  {command} at "{rfc3339(demo.before.at_us)}" --device gate-1',
        f'  {command} at "{rfc3339(demo.after.at_us)}" --device gate-1',
        f"  {command} results --device gate-1",
        f"  {command} releases history",
        f"  {command} views check",
    ]


def _by_device(demo: Demo) -> str:
    counts = Counter(one.frame.device_id for one in demo.sent)
    return ", ".join(f"{device} {count}" for device, count in sorted(counts.items()))


def _truth(demo: Demo) -> Iterator[str]:
    """Frames of the gate whose code was read as painted, under each release, easy and hard apart."""
    yield "readings right against the truth (gate-1, one frame each)"
    for release in (FIRST, SECOND):
        for hard in (False, True):
            mine = [
                one
                for one in demo.sent
                if one.frame.truth is not None and one.frame.truth.hard is hard and demo.results[one.frame_id].release == release
            ]
            right = sum(_read_right(one, demo.results[one.frame_id]) for one in mine)
            kind = "hard to read" if hard else "clear"
            if mine:
                yield f"  {release}  {kind:<13} {right:>3} of {len(mine)}"
    passages = {one.frame.passage_id: one for one in demo.sent if one.frame.truth is not None}
    right = sum(_concluded_right(one, demo.results[one.frame_id]) for one in passages.values())
    yield f"  passages by vote of their frames {right:>9} of {len(passages)}"


def _read_right(one: Sent, result: ResultDerived) -> bool:
    truth = one.frame.truth
    return truth is not None and any(
        r.kind == _CODE and r.label == truth.code and r.valid is truth.code_valid for r in result.readings
    )


def _concluded_right(last: Sent, result: ResultDerived) -> bool:
    truth = last.frame.truth
    return truth is not None and result.conclusion is not None and result.conclusion.label == truth.code


def _known(when: str, state: DeviceAt) -> Iterator[str]:
    frame, result = state.frames.last_frame, state.results.last_result
    releases = state.releases
    yield f"  {when}: {rfc3339(state.at_us)}"
    yield f"    release in force  {releases.in_force}, promoted by {releases.promoted_by} ({releases.promoted_reason})"
    if releases.in_force is not None:
        steps = releases.releases[releases.in_force].steps
        yield f"    models            {', '.join(f'{s.model}:{s.version} {s.digest[:8]}' for s in steps)}"
    if frame is not None:
        yield f"    last frame        #{frame.sequence}, blob {frame.blob.sha256[:16]} ({frame.blob.size_bytes} bytes)"
    if result is not None:
        yield f"    last result       {result.outcome} by {result.release}: {_labels(result)}"
    if state.results.last_conclusion is not None:
        c = state.results.last_conclusion
        yield f"    passage           {c.label or 'unread'}, {c.votes_for} of {c.votes_total} votes, valid: {c.valid}"
    for alert in state.alerts.open[-1:]:
        yield f"    alert             {alert.kind}: {alert.message}"


def _differences(demo: Demo) -> Iterator[str]:
    """Images that both releases read, and what each said where they differ."""
    by_image: dict[str, dict[str, ResultDerived]] = {}
    for one in demo.sent:
        result = demo.results[one.frame_id]
        if one.frame.device_id != GATE_DEVICE and result.release is not None:
            by_image.setdefault(result.frame.blob.sha256, {})[result.release] = result
    pairs = [(sha256, r[FIRST], r[SECOND]) for sha256, r in sorted(by_image.items()) if FIRST in r and SECOND in r]
    different = [p for p in pairs if _labels(p[1]) != _labels(p[2])]
    yield f"images read by both releases: {len(pairs)}, read differently: {len(different)}"
    for sha256, first, second in sorted(different, key=_likeness)[:1]:
        yield f"  blob {sha256[:16]} of {first.frame.device_id}"
        yield f"    {FIRST}  {_labels(first)}"
        yield f"    {SECOND}  {_labels(second)}"


def _likeness(pair: tuple[str, ResultDerived, ResultDerived]) -> float:
    """How alike two readings are, 0 to 1; the least alike are worth showing."""
    return SequenceMatcher(None, _labels(pair[1]), _labels(pair[2])).ratio()


def _labels(result: ResultDerived) -> str:
    return ", ".join(f'"{r.label}"' for r in result.readings) or "nothing"
