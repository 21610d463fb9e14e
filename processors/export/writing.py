"""What every format shares: the one call that it is, files that appear whole or not at all, and the count of what went in."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from processors.export.moments import Moment
from processors.export.window import Window
from schemas.envelope import rfc3339
from schemas.errors import ConfigurationError
from streams.past import Past

_REASONS_KEPT = 10


@dataclass(slots=True, kw_only=True)
class Tally:
    """What an export read and wrote. `missing` counts frames without their image by reason, the first ten reasons by name."""

    records: int = 0
    repeats: int = 0
    unreadable: int = 0
    images: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    said: Callable[[int], None] = lambda records: None

    def count(self, moment: Moment) -> None:
        """Count a record that was read."""
        self.records += 1
        self.said(self.records)
        if moment.event is None:
            self.unreadable += 1
            return
        self.repeats += moment.is_repeat
        self.events[type(moment.event).__name__] += 1

    def count_image(self, trouble: str) -> None:
        """Count a frame's image, or why there is none."""
        if not trouble:
            self.images += 1
        elif trouble in self.missing or len(self.missing) < _REASONS_KEPT:
            self.missing[trouble] += 1
        else:
            self.missing["other reasons"] += 1


class Output:
    """The files of one export. They are written as `<file>.partial` and get their names together, once all is well.

    Args:
        target: The file or folder that was asked for.
        overwrite: Whether files that are there may be replaced.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        self.target = target
        self._overwrite = overwrite
        self._made: dict[Path, Path] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """What was asked for so far, in that order."""
        return tuple(self._made)

    def partial(self, file: Path) -> Path:
        """Where to write what becomes `file`.

        Raises:
            ConfigurationError: it is there already, or it or its folder cannot be made.
        """
        self.hold_free(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{file.parent} cannot be made: {error.strerror}", setting="--output", do="name a folder that is yours"
            ) from error
        partial = file.with_name(file.name + ".partial")
        try:
            partial.touch()
        except OSError as error:
            do = "name a file in a folder that is there and yours"
            raise ConfigurationError(f"{file} cannot be written: {error.strerror}", setting="--output", do=do) from error
        self._made[file] = partial
        return partial

    def hold_free(self, file: Path) -> None:
        """Refuse to replace what nobody said may be replaced.

        Raises:
            ConfigurationError: the file is there already, or is a device or a pipe: to rename over it would take it away.
        """
        if file.exists() and not file.is_file() and not file.is_dir():
            raise ConfigurationError(f"{file} is no plain file", setting="--output", do="name a file; exports go to no stream")
        if file.is_dir() or (file.exists() and not self._overwrite):
            do = "name a file in it" if file.is_dir() else "name another file, or add --overwrite"
            raise ConfigurationError(f"{file} is there already", setting="--output", do=do)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file, partial in self._made.items():
            if error is None:
                partial.replace(file)
            else:
                partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What formats may be told. `longest_gap_ms` bounds how long one frame of a video stands; 0 does not."""

    longest_gap_ms: int = 10_000


class Export(Protocol):
    """One format."""

    def __call__(self, past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
        """Write the window to `output`, one record at a time, and count.

        Raises:
            ConfigurationError: a library is not installed, or a file cannot be written.
            TransientError: the log, the registry or the blob store does not answer.
        """


def needs(extra: str, library: str) -> ConfigurationError:
    """The error for a library that is not installed."""
    return ConfigurationError(f"this format needs {library}", do=f"pip install 'hindsight-recorder[{extra}]'")


def describe(past: Past, window: Window) -> dict[str, str]:
    """What a file says of itself: who wrote it, from what, and which window."""
    return {
        "written_by": f"hindsight {version('hindsight-recorder')}",
        "source": past.source,
        "from": "" if window.from_us is None else rfc3339(window.from_us),
        "to": "" if window.to_us is None else rfc3339(window.to_us),
        "devices": ",".join(sorted(window.devices)),
    }
