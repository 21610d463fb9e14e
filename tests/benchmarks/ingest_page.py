"""The page and the plot that `ingest` makes of its figures."""

import statistics
from typing import Any

Json = dict[str, Any]
_COLORS = ("#57606a", "#0969da", "#1a7f37")
_WIDTH, _HEIGHT = 760, 320


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine, stopped = found["machine"], found["stopped"]
    lines = [
        "<!-- Made by tests/benchmarks/ingest.py: run `make bench-ingest`. -->",
        "",
        "# Speed of ingest",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka, registry and S3 on the same machine.",
        "",
        f"Frames that {found['devices']} devices, each with a stream of its own, bring to safety by way of one gateway: they "
        "count once the blob store and the broker hold them. By hand is a loop that PUTs with the same client from as many "
        "threads as the gateway has and produces with acks=all; it checks nothing and keeps no order. In turns; medians, and "
        "the least and most. Devices, gateway and servers share the cores; by hand there are no devices to feed.",
        "",
        f'<img src="ingest-speed.svg" width="{_WIDTH}" alt="Frames a second by size of a frame; memory without a broker.">',
        "",
        "| frame | way | frames/s | MB/s | of by hand | CPU of the process for a frame | PUTs for a frame |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["sizes"]:
        for name, runs in one["runs"].items():
            lines.append(
                f"| {one['size_bytes'] / 1000:g} kB | {name} | {_spread(runs)} | {_median(runs, 'mb_per_s'):.1f} "
                f"| {_ratio(runs, one['runs']['by hand']):.2f} | {_median(runs, 'cpu_us_per_frame'):,.0f} us "
                f"| {_median(runs, 'puts_per_frame', 1.0):.3g} |"
            )
    return "\n".join([*lines, "", *_memory(stopped)]) + "\n"


def _memory(stopped: Json) -> list[str]:
    return [
        "A ratio is the median of the rounds' own ratios: in each round one ran right after the other.",
        "",
        "## Memory without a broker",
        "",
        f"The broker was stopped (SIGSTOP) for {stopped['seconds']:g} s while all devices pushed frames of "
        f"{stopped['size_bytes'] / 1000:g} kB. The gateway's memory was {stopped['idle_mib']:,.0f} MiB when "
        f"it was idle, {stopped['memory_mib'][0][1]:,.0f} MiB under load, and {stopped['growth_mib']:,.0f} MiB more than idle at "
        f"most; it grew by {stopped['growth_second_half_mib']:,.0f} MiB in the second half. The bound is "
        f"{stopped['bound_mib']:,} MiB more than idle: the byte budget, and a longest message for each stream. When the broker "
        "was back, all "
        f"{stopped['acknowledged']:,} of {stopped['sent']:,} frames sent were acknowledged. Verdict: {stopped['verdict']}.",
    ]


def _median(runs: list[Json], name: str = "frames_per_s", otherwise: float = 0.0) -> float:
    return statistics.median(run.get(name, otherwise) for run in runs)


def _spread(runs: list[Json]) -> str:
    rates = [run["frames_per_s"] for run in runs]
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def _ratio(ours: list[Json], theirs: list[Json]) -> float:
    return statistics.median(a["frames_per_s"] / b["frames_per_s"] for a, b in zip(ours, theirs, strict=True))


def plot(found: Json) -> str:
    """Frames a second by size, and the memory over time, as SVG."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    return "\n".join([*out, *_bars(found["sizes"]), *_line(found["stopped"]), "</svg>"]) + "\n"


def _bars(rows: list[Json]) -> list[str]:
    names = list(rows[0]["runs"])
    most = max(_median(runs) for row in rows for runs in row["runs"].values())
    out = ['<path d="M60 30V260H400" fill="none" stroke="#8c959f"/>', '<text x="60" y="20">frames a second</text>']
    wide = 340 / len(rows)
    for place, row in enumerate(rows):
        left, bar = 70 + place * wide, (wide - 20) / len(names)
        out.append(f'<text x="{left + (wide - 20) / 2:.0f}" y="278" text-anchor="middle">{row["size_bytes"] / 1000:g} kB</text>')
        for n, name in enumerate(names):
            rate = _median(row["runs"][name])
            high, x = 215 * rate / most, left + n * bar
            out.append(f'<rect x="{x:.1f}" y="{260 - high:.1f}" width="{bar - 3:.1f}" height="{high:.1f}" fill="{_COLORS[n]}"/>')
            text = f'<text x="{x + bar / 2:.1f}" y="{255 - high:.1f}" text-anchor="middle" font-size="11">{rate:,.0f}</text>'
            out.append(text)
    out += [f'<text x="{70 + 130 * n}" y="306" fill="{_COLORS[n]}">{name}</text>' for n, name in enumerate(names)]
    return out


def _line(stopped: Json) -> list[str]:
    samples = stopped["memory_mib"]
    most, last = 1.1 * max(stopped["idle_mib"] + stopped["bound_mib"], max(m for _, m in samples)), samples[-1][0]
    points = " L".join(f"{480 + 250 * at / last:.1f} {260 - 220 * mib / most:.1f}" for at, mib in samples)
    bound = 260 - 220 * (stopped["idle_mib"] + stopped["bound_mib"]) / most
    return [
        '<path d="M480 30V260H740" fill="none" stroke="#8c959f"/>',
        '<text x="440" y="20">memory without a broker (MiB)</text>',
        f'<path d="M480 {bound:.1f}H740" stroke="#cf222e" stroke-dasharray="4 4"/>',
        f'<text x="740" y="{bound - 5:.1f}" text-anchor="end" fill="#cf222e">bound</text>',
        f'<path d="M{points}" fill="none" stroke="#0969da" stroke-width="2"/>',
        f'<text x="474" y="{264 - 220 * samples[0][1] / most:.1f}" text-anchor="end" fill="#57606a">{samples[0][1]:.0f}</text>',
        f'<text x="740" y="278" text-anchor="end" fill="#57606a">{last:.0f} s</text>',
    ]
