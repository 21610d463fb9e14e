"""Installing what the local stack lacks: what is asked of the user, and what a failed download leaves behind."""

import os
import time
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from topology.stack import install


def commands(folder: Path, **scripts: str) -> str:
    """A PATH that has the shell's own folder and these commands only."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return str(folder)


def test_what_only_the_user_can_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt it says which commands are missing and which packages have them."""
    monkeypatch.setenv("PATH", commands(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        install.install(("kafka", "redis"), tmp_path / "servers", say=print, log_folder=tmp_path)
    for words in ("java", "mvn", "redis-server", "Java 17 or newer"):
        assert words in str(caught.value)
    assert "sudo apt-get install default-jre-headless maven redis-server" in caught.value.do


def test_a_failed_download_shows_its_words_and_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Maven fails, the error has its last lines, and the server does not count as installed."""
    java = install.java_command()
    assert java is not None
    monkeypatch.setenv("JAVA_HOME", str(Path(java).resolve().parent.parent))
    script = 'for a in "$@"; do case "$a" in -DoutputDirectory=*) /bin/mkdir -p "${a#*=}";; esac; done; echo no route; exit 1'
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", mvn=script))
    servers = tmp_path / "servers"
    with pytest.raises(install.InstallError, match="no route"):
        install.install(("kafka",), servers, say=print, log_folder=tmp_path)
    assert not install.kafka_jars(servers).exists()
    assert [path.name for path in servers.iterdir() if path.suffix == ".partial"] != []


def test_nothing_is_run_when_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the servers in place no installer is called, and it takes no time."""
    java = install.java_command()
    assert java is not None
    monkeypatch.setenv("JAVA_HOME", str(Path(java).resolve().parent.parent))
    monkeypatch.setenv("PATH", os.pathsep.join([commands(tmp_path / "bin", **{"redis-server": "exit 0"})]))
    servers = tmp_path / "servers"
    install.kafka_jars(servers).mkdir(parents=True)
    install.registry_jar(servers).parent.mkdir(parents=True)
    said: list[str] = []
    begin = time.monotonic()
    install.install(("kafka", "registry", "redis"), servers, say=said.append, log_folder=tmp_path)
    assert said == []
    assert time.monotonic() - begin < 1.0


def test_java_is_recognised_by_its_release_file(tmp_path: Path) -> None:
    """The version is read without starting Java."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="21.0.4"\n')
    assert install.java_major(str(tmp_path / "bin" / "java")) == 21
