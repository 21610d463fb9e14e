"""What `hindsight dlq` prints: rows and lines for people, plain values for programs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from processors.letters import Letter
from processors.lookback.cases import AGAIN, OPEN, SAME, Case, answer_of, refusal
from processors.lookback.words import shown as safe
from processors.redriven import REDRIVABLE
from processors.views.letters import DISCARDED
from schemas.catalogue import COMMANDS
from schemas.envelope import rfc3339
from schemas.plain import to_plain
from streams.past import Past
from topology.cli.tables import table
from topology.moments import show_moment

_HEAD_BYTES = 256
_MESSAGE_SIGNS = 100
_HEADER = ("offset", "when", "processor", "class", "device", "step", "frame", "state", "message")


def row(case: Case, zone: str) -> dict[str, Any]:
    """One letter as plain values."""
    letter = case.letter
    return {
        "offset": letter.offset,
        "when": show_moment(letter.appended_at_us, zone),
        "processor": letter.processor,
        "error_class": letter.error_class,
        "device": case.device,
        "step": case.step,
        "frame": case.frame_id,
        "state": state_of(case),
        "attempts": letter.attempts,
        "message": letter.error_message,
        "of": letter.of,
        "noted": dict(letter.more),
    }


def state_of(case: Case) -> str:
    """The state in a few words."""
    if case.state == AGAIN:
        return f"failed again: {case.other}"
    if case.state == SAME:
        return f"same as {case.other}"
    return case.state if case.letter.attempts == 0 or case.state != OPEN else f"open, redriven {case.letter.attempts}x"


def list_lines(found: Sequence[Case], zone: str, state: str, others: int = 0) -> list[str]:
    """The table, and how many there are of each kind.

    Args:
        others: Open letters that were not asked for, where none is.
    """
    if not found and others:
        return [f"none of the {others} open letters is of that kind; `hindsight dlq list` shows them"]
    if not found:
        return ["no open letters; --state all lists those that are done with" if state == "open" else "no letters"]
    rows = [
        [row(case, zone)[name] for name in ("offset", "when", "processor", "error_class", "device", "step", "frame", "state")]
        + [case.letter.error_message[:_MESSAGE_SIGNS]]
        for case in found
    ]
    kinds = Counter((case.letter.processor, case.letter.error_class, case.step) for case in found)
    devices = len({case.device for case in found})
    return [
        table(_HEADER, [[safe(cell) or "-" for cell in line] for line in rows]),
        "",
        f"{len(found)} letters of {devices} devices:",
        *(f"  {n:>6}  {safe(p) or '-'} {safe(c) or '-'}{f' in {safe(s)}' if s else ''}" for (p, c, s), n in kinds.most_common()),
    ]


def shown(past: Past, case: Case, zone: str, *, attempts_max: int) -> dict[str, Any]:
    """All that is known of one letter, as plain values."""
    letter = case.letter
    copy = case.done.copy_offset
    return {
        **row(case, zone),
        "lay_at": show_moment(letter.lay_at_ms * 1000, zone) if letter.lay_at_ms >= 0 else "",
        "key": None if letter.key is None else _text(letter.key),
        "headers": [[name, _text(value or b"")] for name, value in letter.headers],
        "value_bytes": None if letter.value is None else len(letter.value),
        "event": None if case.event is None else {"type": type(case.event).__name__, **to_plain(case.event)},
        "unreadable": case.unreadable,
        "value_head": "" if case.event is not None or letter.value is None else letter.value[:_HEAD_BYTES].hex(" ", 4),
        "followed": _followed(past, case, letter.of_offset, letter.lay_at_ms) if letter.is_ours else "",
        "done": {} if not case.done.state else {**to_plain(case.done), "at": show_moment(case.done.at_us, zone)},
        "followed_the_copy": _followed(past, case, copy, letter.lay_at_ms) if copy >= 0 else "",
        "do": _next(past, case, attempts_max),
    }


def show_lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    done, event = told["done"], told["event"]
    lines = [
        f"letter {told['offset']}, {told['state']}",
        f"  kept aside  {told['when']} by {safe(told['processor']) or '-'}: {safe(told['error_class']) or '-'}",
        f"  message     {safe(told['message'])}",
        f"  its record  {told['of'] or '-'}, appended {told['lay_at'] or '-'}",
        f"  key         {safe(told['key'])}, value of {told['value_bytes']} bytes",
        f"  device      {safe(told['device']) or '-'}    frame {safe(told['frame']) or '-'}    step {safe(told['step']) or '-'}",
    ]
    lines += [f"  {safe(name):<11} {safe(text)}" for name, text in told["noted"].items()]
    lines += [f"  header      {safe(name)}: {safe(text)}" for name, text in told["headers"]]
    if event is not None:
        lines += [f"  event       {event['type']}", *(f"    {n}: {safe(v)}" for n, v in event.items() if n != "type")]
    else:
        lines += [f"  unreadable  {safe(told['unreadable'])}", f"  begins      {told['value_head'] or '-'}"]
    lines.append(f"  followed    {told['followed'] or 'nothing on the log'}")
    if done:
        lines.append(f"  {done['state']:<11} {done['at']} by {safe(done['by'])}: {safe(done['reason'])}")
    if told["followed_the_copy"]:
        lines.append(f"  then        {told['followed_the_copy']}")
    return [*lines, f"do: {told['do']}"]


def plan_lines(verb: str, chosen: Sequence[Case], left: Sequence[tuple[Case, str]], zone: str, *, dry_run: bool) -> list[str]:
    """What would be done, before it is."""
    past = {"redrive": "redriven", "discard": "discarded"}[verb]
    lines = [f"{'would be' if dry_run else 'to be'} {past}: {len(chosen)} letters"]
    if chosen:
        rows = [
            (c.letter.offset, show_moment(c.letter.appended_at_us, zone), c.letter.processor, c.device, c.letter.of)
            for c in chosen
        ]
        lines.append(table(("offset", "when", "processor", "device", "record"), [[safe(cell) for cell in line] for line in rows]))
    unreadable = sum(bool(c.unreadable) for c in chosen) if verb == "redrive" else 0
    if unreadable:
        lines.append(f"{unreadable} of them cannot be decoded even now: until that is mended they come back as new letters")
    return [*lines, *(f"left out: {c.letter.offset}, {safe(why)}" for c, why in left)]


def settled_rows(events: Sequence[Any]) -> list[dict[str, Any]]:
    """The events that settled the letters."""
    return [{"type": type(event).__name__, **to_plain(event)} for event in events]


def settled_lines(events: Sequence[Any]) -> list[str]:
    """What was done, and what was refused."""
    refused = [e for e in events if type(e).__name__ == "LetterRefused"]
    redriven = [e for e in events if type(e).__name__ == "LetterRedriven"]
    discarded = len(events) - len(refused) - len(redriven)
    lines = [f"redriven: {len(redriven)}"] if redriven else []
    lines += [f"discarded: {discarded}"] if discarded else []
    lines += [f"refused: {e.letter_offset} ({e.refusal}): {safe(e.detail)}" for e in refused]
    if redriven:
        lines.append("they are on their way; `hindsight dlq list` shows those that fail again, as new letters")
    return lines


def _followed(past: Past, case: Case, offset: int, at_ms: int) -> str:
    found = answer_of(past, case, offset, at_ms)
    if found is None:
        return ""
    record, event = found
    return f"{type(event).__name__} at {record.topic}/{record.partition}/{record.offset}, {rfc3339(record.appended_at_ms * 1000)}"


def _next(past: Past, case: Case, attempts_max: int) -> str:
    letter = case.letter
    if case.state == DISCARDED:
        return "nothing; it was discarded"
    if case.state == SAME:
        return f"it is of the same record as letter {case.other}: `hindsight dlq show {case.other}`"
    if case.state == AGAIN:
        return f"it failed again: `hindsight dlq show {case.other}`"
    if case.done.state:
        look = f"`hindsight explain {case.frame_id}`" if case.frame_id else "`hindsight dlq list --state all`"
        return f"nothing more; {look} shows what came of it"
    no = refusal(past, case, attempts_max=attempts_max)
    if no is not None:
        return f"it cannot be redriven ({no.refusal}): {no.detail}"
    return f"{_mend(letter, case)}; then `hindsight dlq redrive --offset {letter.offset} --reason ...`, or discard it"


def _mend(letter: Letter, case: Case) -> str:
    assert letter.topic != COMMANDS, "commands are refused before"
    assert letter.topic in REDRIVABLE, "and so is what no processor takes again"
    if case.unreadable:
        return f"it cannot be decoded now ({safe(case.unreadable)}): mend the schema registry or the worker's version"
    if case.step:
        return f"mend the step {safe(case.step)} or put another release in force"
    return f"mend what made {letter.processor} fail"


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")
