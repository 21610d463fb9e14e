"""Runs the ```console blocks of a page as a reader would: one shell for the whole page, block after block.

A line that begins with `$ ` is typed (with the `> ` lines that follow); what stands under it must be printed, stdout and
stderr together. `...` stands for anything within a line, and alone on a line for any number of lines; runs of spaces
count as one, and empty lines do not count. A command must end with 0. A comment on the line before a block says more:

    <!-- exits 1 -->        the last command of the block ends with 1
    <!-- again 60 -->       tried again for up to 60 s until it prints what the page says
    <!-- not run: why -->   left to the reader
"""

import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page with what the page says it prints."""

    line: int
    typed: str
    printed: str
    exits: int = 0
    again_s: float = 0.0


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page that are to be run, in order."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        mark = block["mark"] or ""
        if mark.startswith("not run: "):
            continue
        parts = re.split(r"^\$ ", block["text"], flags=re.MULTILINE)
        assert parts[0] == "", f"{page.name}: a console block begins with something that is no command"
        line = text.count("\n", 0, block.start("text")) + 1
        for number, part in enumerate(parts[1:], start=1):
            typed, printed = _typed_and_printed(part)
            last = number == len(parts) - 1
            yield Command(
                line=line,
                typed=typed,
                printed=printed,
                exits=int(found[1]) if last and (found := re.fullmatch(r"exits (\d+)", mark)) else 0,
                again_s=float(found[1]) if last and (found := re.fullmatch(r"again (\d+)", mark)) else 0.0,
            )
            line += part.count("\n")


def _typed_and_printed(part: str) -> tuple[str, str]:
    lines = part.splitlines()
    end = 1
    while end < len(lines) and lines[end].startswith("> "):
        end += 1
    return "\n".join([lines[0], *(line[2:] for line in lines[1:end])]), "\n".join(lines[end:])


def _as_at_a_prompt(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what `make test` adds to it, by which a `make` inside would announce itself."""
    return {name: value for name, value in environment.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


class Shell:
    """A bash that stays, so that variables and the current folder hold from one command to the next."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env={**_as_at_a_prompt(os.environ), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, typed: str, *, timeout_s: float) -> tuple[str, int]:
        """What a command printed, and how it ended.

        Raises:
            TimeoutError: it did not end in time; what it printed is in the message.
        """
        mark = f"--end-{time.monotonic_ns()}--"
        assert self._process.stdin is not None
        self._process.stdin.write(f"{typed} </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n".encode())
        self._process.stdin.flush()
        out = self._read_until(mark.encode(), timeout_s)
        printed, _, ended = out.rpartition(f"\n{mark} ")
        return printed, int(ended)

    def _read_until(self, mark: bytes, timeout_s: float) -> str:
        assert self._process.stdout is not None
        found, deadline = b"", time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not re.search(re.escape(mark) + rb" \d+\n", found):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"not done after {timeout_s:g} s:\n{found.decode(errors='replace')}")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise AssertionError(f"the shell ended:\n{found.decode(errors='replace')}")
                found += piece
        return found.decode(errors="replace")


def follow(page: Path, shell: Shell, *, timeout_s: float, instead: Mapping[str, str] | None = None) -> None:
    """Run every command of the page and hold what it prints against the page.

    Args:
        instead: Commands that another one stands for here.
    Raises:
        AssertionError: a command ended or printed otherwise than the page says.
    """
    for command in commands(page):
        typed = (instead or {}).get(command.typed, command.typed)
        deadline = time.monotonic() + command.again_s
        while True:
            printed, ended = shell.run(typed, timeout_s=timeout_s)
            if (as_said := says(command, printed, ended)) or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
        where = f"{page.name} line {command.line}: $ {typed}"
        assert as_said, f"{where}\nended with {ended}, printed:\n{printed}\nthe page says:\n{command.printed}"


def says(command: Command, printed: str, ended: int) -> bool:
    """Whether a command did what the page says."""
    lines = "".join(f"{line}\n" for line in map(_spaced, printed.splitlines()) if line)
    wanted = "".join(_pattern(line) for line in map(_spaced, command.printed.splitlines()) if line)
    return ended == command.exits and re.fullmatch(wanted, lines) is not None


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*?"
    return re.escape(line).replace(r"\ \.\.\.", r"\ ?.*").replace(r"\.\.\.", ".*") + r"\n"


def _spaced(line: str) -> str:
    return " ".join(line.split())
