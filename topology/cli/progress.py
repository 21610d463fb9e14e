"""Progress of long work on stderr: one line that counts, rewritten on a terminal and printed now and then elsewhere."""

import sys
import time
from typing import TypeVar

T = TypeVar("T")
_PLAIN_EVERY_S = 30.0
_TERMINAL_EVERY_S = 0.1


class Progress:
    """Counts what is done; `total` when it is known. Use it as a context manager."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._began = self._shown = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_terminal and self._done:
            print(file=sys.stderr)

    @property
    def took_s(self) -> float:
        return time.monotonic() - self._began

    def passed(self, done: T) -> T:
        """One more is done, and this is it."""
        self.step()
        return done

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_EVERY_S if self._is_terminal else _PLAIN_EVERY_S):
            return
        self._shown = now
        of = f" of {self._total}" if self._total is not None else ""
        line = f"{self._what}: {self._done}{of}, {self._done / max(1e-9, self.took_s):.1f} a second"
        print(f"\r{line}" if self._is_terminal else line, end="" if self._is_terminal else "\n", file=sys.stderr, flush=True)
