"""The page and the plot that `replay_speed` writes from its figures."""

import math
from typing import Any

Json = dict[str, Any]
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 400, 70, 30, 170, 50
_LINES = (("with_snapshots", "with snapshots", "#1a7f37"), ("from_the_start", "from the start", "#cf222e"))


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine, largest = found["machine"], found["looking_back"][-1]
    lines = [
        "<!-- Made by tests/benchmarks/replay_speed.py: run `make bench-replay`. -->",
        "",
        "# Speed of replay",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka, registry, Redis and S3 on the same machine.",
        "",
        "## Looking back",
        "",
        "The state of a random device at a random moment (`device_at`: five views and the events around the moment), with "
        "clients made anew for each question. Snapshots are taken and thinned as the default settings say.",
        "",
        f'<img src="replay-speed.svg" width="{_WIDTH}" alt="Seconds for one answer against the events on the log, with snapshots '
        'and from the start of the log.">',
        "",
        "| events | snapshots | median with them | 95 of 100 | median from the start | compared | different |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["looking_back"]:
        quick, slow = one["with_snapshots"], one["from_the_start"]
        lines.append(
            f"| {one['events']:,} | {one['snapshots']} | {quick['median_s']:.3f} s | {quick['p95_s']:.3f} s "
            f"| {slow['median_s']:.3f} s | {one['compared']} | {one['different']} |"
        )
    lines += [
        "",
        f"Taking all snapshots of the largest log in one go took {largest['snapshots_took_s']:g} s; "
        "a worker takes them as it goes.",
        "",
        "## Rebuilding a view",
        "",
        "Events per second of CPU (all threads of the process) of one partition of the largest log: `hindsight views rebuild`, "
        "which reads, decodes, folds, writes to Redis and swaps in, beside a loop that only reads and decodes the same records. "
        "In turns, in one process; medians of three.",
        "",
        "| view | events | only read and decoded | rebuilt | ratio |",
        "|---|---|---|---|---|",
    ]
    for one in found["rebuilding"]:
        rates = f"{one['plain_per_cpu_s']:,} | {one['rebuild_per_cpu_s']:,}"
        lines.append(f"| `{one['view']}` | {one['events']:,} | {rates} | {one['ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def plot(found: Json) -> str:
    """Seconds against events, both logarithmic, as SVG."""
    rows = found["looking_back"]
    xs = [math.log10(row["events"]) for row in rows]
    ys = [math.log10(row[name]["median_s"]) for row in rows for name, _, _ in _LINES]
    low_x, high_x = math.floor(min(xs)), math.ceil(max(xs) - 0.05)
    low_y, high_y = math.floor(min([*ys, 0])), math.ceil(max([*ys, 0.1]))

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return (
            round(_LEFT + (x - low_x) / max(high_x - low_x, 1) * wide, 1),
            round(_TOP + (high_y - y) / max(high_y - low_y, 1) * high, 1),
        )

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for y in range(low_y, high_y + 1):
        (x1, y1), (x2, _) = at(low_x, y), at(high_x, y)
        out.append(f'<path d="M{x1} {y1}H{x2}" stroke="{"#8c959f" if y == 0 else "#d8dee4"}"/>')
        out.append(f'<text x="{x1 - 8}" y="{y1 + 4}" text-anchor="end" fill="#57606a">{10.0**y:g} s</text>')
    for x in range(low_x, high_x + 1):
        x1, y1 = at(x, low_y)
        out.append(f'<text x="{x1}" y="{y1 + 20}" text-anchor="middle" fill="#57606a">{10**x:,}</text>')
    out.append(f'<text x="{at((low_x + high_x) / 2, low_y)[0]}" y="{_HEIGHT - 8}" text-anchor="middle">events on the log</text>')
    for name, label, color in _LINES:
        points = [at(math.log10(row["events"]), math.log10(row[name]["median_s"])) for row in rows]
        out.append(f'<path d="M{" L".join(f"{x} {y}" for x, y in points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{color}"/>' for x, y in points]
        x, y = points[-1]
        out.append(f'<text x="{x + 10}" y="{y + 4}" fill="{color}">{label}: {rows[-1][name]["median_s"]:.2g} s</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
