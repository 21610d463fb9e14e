"""The report of a run: chaos.json as measured, and the page and the plot that are made from it alone.

python -m tests.chaos.page docs/reference     # both anew from the chaos.json there
"""

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.memory import Memory
from tests.chaos.run import Found, as_json
from tests.chaos.verdict import Logged

Json = dict[str, Any]
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 960, 380, 60, 20, 20, 46
_FAULT, _PAIR, _DOT, _BOUND = "#ffebe9", "#fff1d6", "#0969da", "#cf222e"


def report(seed: int, found: Sequence[Found], memory: Memory, logged: Logged, *, disk: str, every_s: float, devices: int) -> Json:
    """All that was measured, as it goes into chaos.json."""
    outcomes = Counter(o.outcome for each in logged.outcomes.values() for o in each.values())
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "cores": os.cpu_count(),
        "load_average_1m": round(os.getloadavg()[0], 1),
        "devices": devices,
        "every_s": every_s,
        "disk": disk,
        "frames": len(logged.captured),
        "acknowledged": sum(one.acknowledged for one in found),
        "outcomes": dict(sorted(outcomes.items())),
        "written": dict(sorted(logged.written.items())),
        "rounds": [as_json(one) for one in found],
        "memory": memory.table(),
    }


def write(measured: Json, folder: Path) -> None:
    """chaos.json, chaos.md and chaos.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.json").write_text(json.dumps(measured, indent=1) + "\n")
    (folder / "chaos.md").write_text(page(measured))
    (folder / "chaos.svg").write_text(plot(measured))


def page(measured: Json) -> str:
    """The reference page, in Markdown."""
    rounds, written = measured["rounds"], measured["written"]
    broken = [one for one in rounds if one["violations"]]
    minutes = rounds[-1]["rested_s"] / 60 if rounds else 0.0
    verdict = "Every claim held after every round." if not broken else f"Broken in {len(broken)} rounds, see below."
    repeats = written.get("accepted", 0) + written.get("results", 0) + written.get("rejected", 0) - _distinct(measured)
    load = f"{measured['devices']} edge clients with a frame each every {measured['every_s']:g} s"
    lines = [
        "<!-- Made by tests/chaos/page.py: run `make chaos`. -->",
        "",
        "# Chaos on the real stack",
        "",
        f"Measured {measured['made_at']} on {measured['cores']} cores with a load of {measured['load_average_1m']}, seed "
        f"{measured['seed']}: {len(rounds)} rounds in {minutes:.0f} minutes, {load}, real Kafka, registry, Redis, S3, "
        f"Triton and models. **{verdict}**",
        "",
        f"{measured['frames']:,} frames on the log, {measured['acknowledged']:,} acknowledgements noted. Outcomes of frames: "
        + ", ".join(f"{count:,} {name}" for name, count in measured["outcomes"].items())
        + f". Redelivery wrote {repeats:,} events a second time under their old ids, and {written.get('repeated', 0):,} frames "
        "were sent again and known as repeats.",
        "",
        f"A disk is full by {measured['disk']}. [How to read this, and run it](../how-to/prove-it.md).",
        "",
        f'<img src="chaos.svg" width="{_WIDTH}" alt="Wait of each frame from acknowledgement to result, over the time '
        'of the run, with the rounds of faults behind it.">',
        "",
        "| round | fault | frames | worst wait | bound | longest in a spool | at rest after healing | claims |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rounds:
        words = "hold" if not one["violations"] else "; ".join(one["violations"])
        full = f" ({one['refused_by_a_full_disk']} frames refused)" if one["refused_by_a_full_disk"] else ""
        rested_s, faults = one["rested_s"] - one["healed_s"], " + ".join(one["faults"]) or "none"
        lines.append(
            f"| {one['number']} | {faults}{full} | {one['acknowledged']} | {one['worst_wait_s']:.1f} s "
            f"| {one['bound_s']:g} s | {one['spooled_most_s']:.1f} s | {rested_s:.1f} s | {words} |"
        )
    lines += [
        "",
        "## Memory",
        "",
        "Resident memory of each program, its processes summed. Growth: the end of its longest life less that life's settled "
        "beginning.",
        "",
        "| program | lives | peak | bound | growth | in |",
        "|---|---|---|---|---|---|",
    ]
    for row in measured["memory"]:
        lines.append(
            f"| {row['program']} | {row['lives']} | {row['peak_mib']} MiB | {row['bound_mib']} MiB | {row['growth_mib']:+g} MiB "
            f"| {row['longest_life_s']} s |"
        )
    return "\n".join(lines) + "\n"


def _distinct(measured: Json) -> int:
    """Events of outcomes and of acceptance without their repeats: an accepted frame has one of each."""
    outcomes: dict[str, int] = measured["outcomes"]
    rejected = sum(count for name, count in outcomes.items() if name.startswith("rejected"))
    return 2 * (sum(outcomes.values()) - rejected) + rejected


def plot(measured: Json) -> str:
    """Each frame's wait over the time of its acknowledgement, as SVG; bands are rounds, red lines their bounds."""
    rounds = measured["rounds"]
    end_s = max([one["rested_s"] for one in rounds], default=1.0)
    top_s = max([1.0, *(one["bound_s"] for one in rounds)])
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(at_s: float) -> float:
        return round(_LEFT + at_s / end_s * wide, 1)

    def y(wait_s: float) -> float:
        # By the root: the usual waits of a second are seen beside bounds of minutes.
        return round(_TOP + high - math.sqrt(wait_s / top_s) * high, 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for one in rounds:
        left, right = x(one["began_s"]), x(one["healed_s"])
        color = {0: "#f6f8fa", 1: _FAULT}.get(len(one["faults"]), _PAIR)
        out.append(f'<rect x="{left}" y="{_TOP}" width="{max(1.0, right - left):.1f}" height="{high}" fill="{color}">')
        out.append(f"<title>round {one['number']}: {' + '.join(one['faults']) or 'no fault'}</title></rect>")
        out.append(f'<path d="M{left} {y(one["bound_s"])}H{x(one["rested_s"])}" stroke="{_BOUND}" stroke-dasharray="4 3"/>')
        out.append(f'<text x="{left}" y="{_TOP - 6}" fill="#57606a" font-size="10">{one["number"]}</text>')
    for mark in (0, 1, 5, 10, 30, 60, 120, 240):
        if mark <= top_s:
            out.append(f'<path d="M{_LEFT} {y(mark)}H{_WIDTH - _RIGHT}" stroke="#d8dee4"/>')
            out.append(f'<text x="{_LEFT - 6}" y="{y(mark) + 4}" text-anchor="end" fill="#57606a">{mark} s</text>')
    minutes = range(0, int(end_s // 60) + 1, max(1, int(end_s // 600)))
    out += [f'<text x="{x(60 * m)}" y="{_HEIGHT - 28}" text-anchor="middle" fill="#57606a">{m} min</text>' for m in minutes]
    for one in rounds:
        out += [f'<circle cx="{x(at_s)}" cy="{y(wait_s)}" r="1.6" fill="{_DOT}"/>' for at_s, wait_s in one["waits"]]
    legend = (
        "each dot a frame: its wait from acknowledgement to result; red: the stated bound; bands: rounds of one fault, of two"
    )
    out.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}" fill="#57606a">{legend}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    write(json.loads((Path(sys.argv[1]) / "chaos.json").read_text()), Path(sys.argv[1]))
