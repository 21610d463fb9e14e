"""Makes docs/assets/scrub.svg: two moments of one device, before and after a promotion, from a real run.

Run it on a stack where `hindsight demo` has ended: `python docs/assets/make_picture.py`. Every line under a prompt is
what the command printed; only whole lines are left out (shown as an ellipsis) and long ones are cut at the edge. The bar
above each prompt is made of the same log: one tick a result, in the colour of the release that read it.
"""

import html
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

DEVICE = "gate-1"
COLUMNS = 90
BAR = 64
COLOURS = ("cyan", "yellow", "magenta", "green")
CELL_PX = 12.2
TEXT = re.compile(
    r'(?P<head><text class="scrub-r\d+" )x="(?P<x>[\d.]+)"(?P<y> y="[\d.]+" )textLength="[\d.]+"'
    r"(?P<tail>[^>]*>)(?P<content>[^<]*)</text>"
)
TARGET = Path(__file__).with_name("scrub.svg")
KEPT = re.compile(r"as known at|^last|container_code|^passage|^release|detection:|recognizer:")


def hindsight(*arguments: str) -> str:
    """What the command prints.

    Raises:
        CalledProcessError: it ended with something else than 0.
    """
    command = [sys.executable, "-m", "topology.cli", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run_of_results() -> list[dict[str, Any]]:
    """Results of the device's latest session, oldest first."""
    lines = hindsight("results", "--device", DEVICE, "--format", "json").splitlines()
    found = [r for line in lines if (r := json.loads(line))["event"] == "ResultDerived"]
    latest = found[-1]["frame"]["session_id"]
    return sorted((r for r in found if r["frame"]["session_id"] == latest), key=appended_ms)


def appended_ms(result: dict[str, Any]) -> int:
    return int(result["position"]["appended_at_ms"])


def moments(results: list[dict[str, Any]]) -> tuple[int, int]:
    """Milliseconds: just after the last result of the first release, and just after the last one of all."""
    first = results[0]["release"]
    return max(appended_ms(r) for r in results if r["release"] == first) + 1, appended_ms(results[-1]) + 1


def bar(results: list[dict[str, Any]], at_ms: int, colours: dict[str, str]) -> Text:
    """The session on a line; results that were not known yet are dim."""
    start, end = appended_ms(results[0]), appended_ms(results[-1]) + 1
    cells: list[tuple[str, str]] = [("─", "grey35")] * BAR
    for result in results:
        cell = (appended_ms(result) - start) * (BAR - 1) // (end - start)
        known = appended_ms(result) <= at_ms
        cells[cell] = ("┃", colours[result["release"]] if known else "grey35")
    here = min(BAR - 1, (at_ms - start) * (BAR - 1) // (end - start))
    cells[here] = ("●", "bold white")
    line = Text()
    for sign, style in cells:
        line.append(sign, style)
    for release, colour in colours.items():
        line.append(f"   {release.rpartition('_')[2]}", colour)
    return line


def show(console: Console, results: list[dict[str, Any]], at_ms: int, colours: dict[str, str]) -> None:
    """One moment: the bar, the command, and what it printed."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    console.print(bar(results, at_ms, colours))
    console.print(Text.assemble(("$ ", "grey62"), (f'hindsight at "{moment}" --device {DEVICE}', "bold")))
    left_out = False
    for line in hindsight("at", moment, "--device", DEVICE).splitlines():
        if line.startswith("events around"):
            break
        if not KEPT.search(line):
            left_out = True
            continue
        if left_out and not line.startswith(("last", "release", "passage")):
            console.print(Text("             ...", "grey62"))
        left_out = False
        console.print(styled(line, colours), no_wrap=True, overflow="ellipsis", crop=True)
    console.print(Text("             ...", "grey62"))


def styled(line: str, colours: dict[str, str]) -> Text:
    text = Text(line)
    for release, colour in colours.items():
        text.highlight_words([release], colour)
    text.highlight_regex(r"[A-Z]{3}[UJZ]\d{7}", "bold white")
    text.highlight_regex(r"^(last frame|last result|passage|release)", "bright_blue")
    text.highlight_regex(r"\bvalid\b", "green")
    return text


def by_words(found: re.Match[str]) -> str:
    """A text element as one for each word: some viewers give a row of spaces no width."""
    head, x, tail, content = found["head"], float(found["x"]), found["tail"], html.unescape(found["content"])
    words = (
        (x + word.start() * CELL_PX, len(word[0]) * CELL_PX, html.escape(word[0])) for word in re.finditer(r"[^\s\xa0]+", content)
    )
    return "".join(
        f'{head}x="{at_px:.1f}"{found["y"]}textLength="{long_px:.1f}"{tail}{word}</text>' for at_px, long_px, word in words
    )


def main() -> None:
    results = run_of_results()
    names = list(dict.fromkeys(r["release"] for r in results))
    colours = dict(zip(names, COLOURS, strict=False))
    console = Console(record=True, width=COLUMNS, force_terminal=True, color_system="truecolor", file=io.StringIO())
    before, after = moments(results)
    show(console, results, before, colours)
    console.print()
    show(console, results, after, colours)
    # The fonts that rich names lie on other hosts; a reader's own monospaced one does.
    template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="what was known, and when", theme=MONOKAI, code_format=template, unique_id="scrub")
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")
    TARGET.write_text("\n".join(line.rstrip() for line in TEXT.sub(by_words, svg).splitlines()) + "\n")
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
