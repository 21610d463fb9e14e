"""How many events a second does a view take, beside Quix Streams and beside a loop by hand? In turns, on one real broker.

    python -m tests.benchmarks.view_hop --rivals PYTHON      writes docs/reference/view-speed.{json,md,svg}

Each is a process of its own that decodes the same Avro records and folds them into a state for each device: ours by way of
Faust's consumer into Redis, each state with its position, repeats dropped; Quix Streams into its own store (RocksDB) with a
changelog, exactly once; the loop by hand into Redis, without dropping repeats. The figure is events for each second of CPU of
the process, all its threads, since the machine does other work, too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.catalogue import ASSESSMENTS
from tests.benchmarks.hops import made
from tests.benchmarks.replay_speed import CHECKOUT, _machine, _stack, say
from topology import wiring
from topology.settings import Settings

Json = dict[str, Any]
HOPS = CHECKOUT / "tests" / "benchmarks" / "hops"
NAMES = ("hindsight", "quix", "by hand")
_COLORS = {"hindsight": "#0969da", "quix": "#cf222e", "by hand": "#57606a"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", required=True, help="Python of the environment that rivals.txt describes")
    parser.add_argument("--sizes", default="20000,60000,180000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "reference")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hindsight-bench-") as home, _stack(Path(home)):
        found: Json = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "sizes": []}
        for size in (int(s) for s in asked.sizes.split(",")):
            found["sizes"].append(_measured(Path(home), asked.rivals, size, asked.rounds))
    (asked.out / "view-speed.json").write_text(json.dumps(found, indent=2) + "\n")
    (asked.out / "view-speed.md").write_text(page(found))
    (asked.out / "view-speed.svg").write_text(plot(found))


def _measured(home: Path, rivals: str, size: int, rounds: int) -> Json:
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(rounds):
        name = f"v{size}x{turn}"
        settings = made.settings_of(home, name)
        records = made.write_assessments(settings, size)
        made.write_schemas(settings, home / "schemas.json")
        for who, command in _commands(home, settings, name, rivals, records).items():
            out = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=300).stdout
            one = json.loads(out.strip().splitlines()[-1])
            rates[who].append(one["events"] / one["cpu_s"])
            say(size, who, f"{rates[who][-1]:,.0f} events a second of CPU, {one['events'] / one['wall_s']:,.0f} of the clock")
    return {"records": size, "rates": {who: [round(r) for r in found] for who, found in rates.items()}}


def _commands(home: Path, settings: Settings, name: str, rivals: str, records: int) -> dict[str, list[str]]:
    servers, topic = wiring.bootstrap_servers(settings), wiring.namespace(settings).topic(ASSESSMENTS)

    def rival(program: str) -> list[str]:
        group = f"{name}-{program}-{time.monotonic_ns()}"
        return [rivals, str(HOPS / program), servers, topic, group, str(home / "schemas.json"), str(records)]

    return {
        "hindsight": [sys.executable, "-m", "tests.benchmarks.hops.view_ours", str(home), name, str(records)],
        "quix": [*rival("view_quix.py"), "exactly-once"],
        "by hand": [*rival("view_plain.py"), settings.redis.url],
    }


def page(found: Json) -> str:
    """The reference page, in Markdown."""
    machine = found["machine"]
    lines = [
        "<!-- Made by tests/benchmarks/view_hop.py: run `make bench-hops`. -->",
        "",
        "# Speed of a view",
        "",
        f"Measured {found['made_at']} on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, "
        f"with a load of {machine['load_average_1m']} from other work. Real Kafka and Redis on the same machine.",
        "",
        "Events that one process decodes and folds into a state for each of 50 devices, for each second of its CPU; in turns, "
        "each on the same records; medians, and the least and most. Ours is the view `device_frames` as a worker keeps it: "
        "Faust's consumer, repeats dropped, states and position stored together in Redis. Quix Streams keeps its states in "
        "RocksDB with a changelog topic, exactly once. The loop by hand stores states and positions in one transaction of Redis "
        "and drops no repeats.",
        "",
        '<img src="view-speed.svg" width="640" alt="Events a second of CPU against the number of events.">',
        "",
        "| events | hindsight | Quix Streams | ratio | by hand | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for one in found["sizes"]:
        ours, quix, hand = (one["rates"][name] for name in NAMES)
        lines.append(
            f"| {one['records']:,} | {_spread(ours)} | {_spread(quix)} | {_ratio(ours, quix):.2f} "
            f"| {_spread(hand)} | {_ratio(ours, hand):.2f} |"
        )
    lines += ["", "A ratio is the median of the rounds' own ratios: in each round one ran right after the other."]
    return "\n".join(lines) + "\n"


def _spread(rates: list[int]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,} to {max(rates):,})"


def _ratio(ours: list[int], theirs: list[int]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def plot(found: Json) -> str:
    """Events a second of CPU against the number of events, as SVG."""
    rows = found["sizes"]
    most = 1.15 * max(statistics.median(r) for row in rows for r in row["rates"].values())
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" font-family="sans-serif" font-size="13">',
        '<rect width="640" height="320" fill="#ffffff"/>',
        '<path d="M70 20V270H500" fill="none" stroke="#8c959f"/>',
    ]
    xs = [110 + n * 360 / max(1, len(rows) - 1) for n in range(len(rows))]
    out += [
        f'<text x="{x:.0f}" y="290" text-anchor="middle" fill="#57606a">{row["records"]:,}</text>'
        for x, row in zip(xs, rows, strict=True)
    ]
    out += [
        f'<text x="62" y="{274 - 250 * part / 4:.0f}" text-anchor="end" fill="#57606a">{most * part / 4:,.0f}</text>'
        for part in range(5)
    ]
    out.append('<text x="285" y="312" text-anchor="middle">events</text>')
    for name in NAMES:
        points = [(x, 270 - 250 * statistics.median(row["rates"][name]) / most) for x, row in zip(xs, rows, strict=True)]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{_COLORS[name]}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_COLORS[name]}"/>' for x, y in points]
        out.append(f'<text x="{points[-1][0] + 10:.0f}" y="{points[-1][1] + 4:.0f}" fill="{_COLORS[name]}">{name}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
