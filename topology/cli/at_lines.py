"""How `hindsight at` prints what it found, for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from topology.cli.tables import table

if TYPE_CHECKING:
    from processors.lookback.at import DeviceAt
    from processors.lookback.difference import Changed, Difference
    from processors.lookback.true import Late
    from schemas.events import ResultDerived

_RULE = "-" * 78
_WIDE = 60
_LATE_SHOWN = 10
_PLUMBING = {"event_id", "inference_id", "source", "blob", "polygon_px", "observation_index"}


def device_lines(found: "DeviceAt", zone: str, erased: str = "") -> list[str]:
    """A device at a moment.

    Args:
        erased: The order that its last frame fell under, as a sentence.
    """
    head = [f"{found.device_id} {_as_of(found.answers, found.at_us, zone)}", _RULE, *_note_lines(found.notes)]
    if found.frames.last_frame is None and found.frames.last_rejected is None:
        return [
            *head,
            "nothing was known of this device then",
            "do: check the name and the moment; `hindsight at now` shows today's",
        ]
    return [
        *head,
        *_frame_lines(found, zone, erased),
        *_result_lines(found),
        *_feature_lines(found),
        *_release_lines(found, zone),
        *_alert_lines(found, zone),
        *_late_lines(found.late, found.late_count, zone),
        *_around_lines(found, zone),
    ]


def key_lines(plain: dict[str, Any], found: Any, zone: str) -> list[str]:
    """One key of a view at a moment, field by field."""
    from processors.lookback.difference import flat

    head = [
        f"{plain['view']} {plain['key']} {_as_of(plain['answers'], plain['at_us'], zone)}",
        _RULE,
        *_note_lines(plain["notes"]),
    ]
    if not plain["is_known"]:
        return [*head, "nothing was known then"]
    fields = [(name, _short(value)) for name, value in flat(plain["state"]).items()]
    return [
        *head,
        *table(("field", "value"), fields).splitlines(),
        *_late_lines(plain_late(found), plain.get("late_count", 0), zone),
    ]


def plain_late(found: Any) -> "Sequence[Late]":
    """What arrived late, where the answer counts it."""
    return getattr(found, "late", ())


def difference_lines(found: "list[Difference]", zone: str) -> list[str]:
    """What changed between two moments."""
    from topology.moments import show_moment

    first = found[0]
    lines = [f"{first.key} from {show_moment(first.from_us, zone)} to {show_moment(first.to_us, zone)}, as known at each", _RULE]
    for one in found:
        lines += [*_note_lines(one.notes), f"{one.view} {one.key}: {one.events_count} events"]
        shown = [c for c in one.changed if not _PLUMBING & set(c.field.split("."))]
        if shown:
            rows = [(c.field, _short(c.before), _short(c.after), _by(c)) for c in shown]
            lines += [f"  {line}" for line in table(("field", "before", "after", "changed by"), rows).splitlines()]
        if left := len(one.changed) - len(shown):
            lines.append(f"  {left} ids, positions and outlines changed too; --format json has them")
        lines.append("" if one.changed else "  nothing changed\n")
    return lines[:-1]


def _by(changed: "Changed") -> str:
    if not changed.by:
        return "-"
    last = changed.by[-1]
    more = f", and {changed.by_count - 1} before" if changed.by_count > 1 else ""
    return f"{last.type} {last.topic}/{last.partition}/{last.offset}{more}"


def _short(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}..."


def _as_of(answers: str, at_us: int, zone: str) -> str:
    """The moment with which of the two questions is answered."""
    from topology.moments import show_moment

    what, _, how = answers.partition(",")
    return f"{what} {show_moment(at_us, zone)}{',' if how else ''}{how}"


def _note_lines(notes: "Sequence[str]") -> list[str]:
    return [f"note         {note}" for note in notes]


def _late_lines(late: "Sequence[Late]", count: int, zone: str) -> list[str]:
    from topology.moments import show_moment

    if not count:
        return []
    rows = [
        (
            show_moment(one.happened_at_us, zone),
            show_moment(one.appended_at_us, zone),
            one.type,
            f"{one.topic}/{one.partition}/{one.offset}",
        )
        for one in late[:_LATE_SHOWN]
    ]
    said = f"{count} events were not known then" + (f"; the first {_LATE_SHOWN}:" if count > _LATE_SHOWN else ":")
    return [said, *table(("happened", "appended", "event", "position"), rows).splitlines(), ""]


def _frame_lines(found: "DeviceAt", zone: str, erased: str) -> list[str]:
    from topology.moments import show_moment

    frames = found.frames
    counts = f"{frames.accepted_count} accepted, {frames.rejected_count} rejected"
    counts += f", {frames.repeated_count} repeated, {frames.missing_count} missing"
    if frames.last_frame is None:
        return ["last frame   none accepted", f"             {counts}", ""]
    frame = frames.last_frame
    warned = f"; warnings: {', '.join(frames.last_warnings)}" if frames.last_warnings else ""
    return [
        f"last frame   #{frame.sequence} of session {frame.session_id}, captured {show_moment(frame.captured_at_us, zone)}",
        f"             {frames.last_width_px}x{frames.last_height_px} px{warned}",
        f"             frame {frame.frame_id}",
        f"             blob sha256/{frame.blob.sha256} ({frame.blob.size_bytes} bytes, {frame.blob.media_type})",
        *([f"             {erased}"] if erased else []),
        f"             {counts}",
        "",
    ]


def _result_lines(found: "DeviceAt") -> list[str]:
    result = found.results.last_result
    if result is None:
        return ["last result  none", ""]
    said = [f"last result  {result.outcome} by {result.release or 'no release'}, frame #{result.frame.sequence}"]
    if result.detail:
        said.append(f"             {result.detail}")
    said += [f"             {line}" for line in _readings(result)]
    if result.conclusion is not None:
        c = result.conclusion
        verdict = {True: "valid", False: "check digit wrong", None: "not verifiable"}[c.valid]
        label = c.label if c.label is not None else "nothing"
        said.append(
            f"passage      {c.passage_id}: {label} ({verdict}), {c.votes_for} of {c.votes_total} votes, {c.frames_count} frames"
        )
    return [*said, ""]


def _feature_lines(found: "DeviceAt") -> list[str]:
    from processors.views.features import HOURS_KEPT, features

    if not found.features.hours:
        return []
    windows = [("hour", features(found.features, hours=1)), ("day", features(found.features, hours=HOURS_KEPT))]
    rows = [
        (name, f.results_count, *(f"{v:.3f}" if v is not None else "-" for v in (f.read_rate, f.valid_rate, f.mean_confidence)))
        for name, f in windows
    ]
    lines = table(("last", "results", "read", "valid", "mean confidence"), rows).splitlines()
    return [f"{'features' if n == 0 else '':<12} {line}" for n, line in enumerate(lines)] + [""]


def _readings(result: "ResultDerived") -> list[str]:
    rows = [
        (r.kind, r.label, f"{r.confidence:.3f}", {True: "valid", False: "invalid", None: "-"}[r.valid], _box(r.polygon_px))
        for r in result.readings
    ]
    return table(("kind", "text", "confidence", "proof", "box px"), rows).splitlines() if rows else []


def _box(polygon: tuple[float, ...]) -> str:
    xs, ys = polygon[0::2], polygon[1::2]
    return f"{min(xs):.0f},{min(ys):.0f} to {max(xs):.0f},{max(ys):.0f}" if xs else "-"


def _release_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    state = found.releases
    if state.in_force is None:
        return [f"release      none of {found.pipeline} was in force", ""]
    entry = state.releases[state.in_force]
    promoted = f"promoted {show_moment(state.promoted_at_us, zone)} by {state.promoted_by}"
    why = f": {state.promoted_reason}" if state.promoted_reason else ""
    rows = [(s.step, f"{s.model}:{s.version}", s.digest[:16]) for s in entry.steps]
    thresholds = ", ".join(f"{name}={value:g}" for name, value in sorted(state.thresholds().items()))
    return [
        f"release      {state.in_force}, {promoted}{why}",
        *(f"             {line}" for line in table(("step", "model", "digest"), rows).splitlines()),
        f"             thresholds: {thresholds or 'none'}",
        "",
    ]


def _alert_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    if not found.alerts.open:
        return []
    return [
        f"alert        {a.kind} since {show_moment(a.raised_at_us, zone)}: {a.message} (passage {a.passage_id})"
        for a in found.alerts.open[-5:]
    ] + [""]


def _around_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    if not found.around:
        return []
    shown = [
        (
            f"{'>' if e.appended_at_us <= found.at_us else ' '} {show_moment(e.appended_at_us, zone)}",
            e.type,
            f"{e.topic}/{e.partition}/{e.offset}",
            e.summary,
        )
        for e in found.around
    ]
    return [
        "events around the moment (> was known by then)",
        *table(("appended", "event", "position", "what"), shown).splitlines(),
    ]
