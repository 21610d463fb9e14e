"""The reference pages are what the code says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from topology.cli import build_app

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["events.md", "topics.md", "settings.md", "cli.md", "errors.md", "metrics.md"])
def test_a_reference_page_is_what_its_generator_writes(name: str) -> None:
    """Whoever changes a schema, a setting, a command or a metric makes the page anew."""
    made = generator().page(name)
    assert (DOCS / "reference" / name).read_text() == made, "run python docs/reference/generate.py"


def test_every_generated_page_is_tested() -> None:
    """The list above is the generator's."""
    assert sorted(generator().PAGES) == ["cli.md", "errors.md", "events.md", "metrics.md", "settings.md", "topics.md"]


def pages() -> list[Path]:
    root = DOCS.parent
    return [*sorted(DOCS.rglob("*.md")), root / "README.md", root / "CHANGELOG.md"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the repository leads to a file, and to a heading in it where one is named."""
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if link.startswith("http"):
            continue
        name, _, heading = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{link} leads nowhere"
        if heading:
            assert heading in anchors(file), f"{file.name} has no heading {heading}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_on_a_page_exist(page: Path) -> None:
    """A command that a page names is one that the program has."""
    import typer

    group = typer.main.get_command(build_app())
    for line in code(page):
        words = re.findall(r"(?:^|[\s`(])hindsight ((?:[a-z][a-z-]* ?)+)", line)
        for found in words:
            names = found.split()
            command = getattr(group, "commands", {}).get(names[0])
            assert command is not None, f"there is no hindsight {names[0]}: {line}"
            children = getattr(command, "commands", None)
            if children is not None and len(names) > 1:
                assert names[1] in children, f"there is no hindsight {names[0]} {names[1]}: {line}"


def code(page: Path) -> list[str]:
    """What stands in fences and between backticks."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:console|bash|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    typed = [line for block in fenced for line in block.splitlines() if line.startswith("$ ") or not block.startswith("$ ")]
    return [*typed, *re.findall(r"`(hindsight [^`]+)`", text)]
