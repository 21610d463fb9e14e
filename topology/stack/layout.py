"""Where everything of one local stack lies, under its home folder.

    .hindsight/
        servers/        installed servers, shared by all stacks of this checkout
        data/<server>/  what the server keeps; survives `down`
        conf/<server>/  settings files written at each `up`
        logs/<name>.log one per program, and supervisor.log
        run/            plan.json, state.json, credentials.json, locks; only of use while the stack runs

The home is HINDSIGHT_HOME, or `.hindsight` in the nearest folder upwards that holds one, a hindsight.toml or a
pyproject.toml; else in the current folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError

_SIGNS = (".hindsight", "hindsight.toml", "pyproject.toml")


def find_home(environment: Mapping[str, str] = os.environ, start: Path | None = None) -> Path:
    """The home folder in force; it need not exist yet."""
    if given := environment.get("HINDSIGHT_HOME"):
        return given_path(given, "HINDSIGHT_HOME")
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if any((folder / sign).exists() for sign in _SIGNS):
            return folder / ".hindsight"
    return here / ".hindsight"


def given_path(text: str, variable: str) -> Path:
    """The path in a variable, whole.

    Raises:
        ConfigurationError: no file system has such a path, or its user is not known.
    """
    try:
        path = Path(text).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as exc:
        raise ConfigurationError(f"{variable} is no path: {exc}"[:300], setting=variable, do=f"correct {variable}") from exc
    return path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one stack."""

    home: Path

    @property
    def servers(self) -> Path:
        return self.home / "servers"

    @property
    def model_repository(self) -> Path:
        """The folder that Triton serves models from."""
        return self.data("triton") / "repository"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def plan_file(self) -> Path:
        return self.run / "plan.json"

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def credentials_file(self) -> Path:
        return self.run / "credentials.json"

    @property
    def command_lock(self) -> Path:
        """Held by `up` and `down`, so that two of them take turns."""
        return self.run / "command.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.run / "supervisor.lock"

    @property
    def supervisor_pid_file(self) -> Path:
        return self.run / "supervisor.pid"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def data(self, server: str) -> Path:
        return self.home / "data" / server

    def conf(self, server: str) -> Path:
        return self.home / "conf" / server

    def make(self) -> None:
        """Create the folders; the run folder only for its owner, since it holds credentials."""
        for folder in (self.home, self.run, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o700)
