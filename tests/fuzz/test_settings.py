"""Settings files and environment variables of any kind: settings, or a refusal that names the setting and says what to do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from topology.configuration import Configuration, load, setting_names, variable_of

SETTINGS = sorted(setting_names())
GROUPS = sorted({name.partition(".")[0] for name in SETTINGS})
VALUES = st.one_of(
    st.sampled_from(
        ["", " ", "0", "-1", "1e999", "nan", "inf", "true", "null", "[]", "{}", "[1", '{"a":', '{"a":{"b":[]}}', "[" * 5000,
         "{" * 5000, "http://", "http://[", "http://a:b:c", "redis://:x@y", "a:99999", "::1", "é" * 300, "x" * 9000, "../..",
         "~nobody_at_all/x", "\udcff", "99999999999999999999999", "1_000", "٣", "localhost:9092,,", "gate-[", "Europe/../.."]
    ),
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def nothing_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("settings")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("HINDSIGHT_")]:
            patch.delenv(name)
        patch.setenv("HINDSIGHT_HOME", str(folder / "home"))
        patch.chdir(folder)
        yield folder


def settings_or_refusal() -> Configuration | ConfigurationError:
    try:
        return load()
    except ConfigurationError as error:
        refusal = error
    assert str(refusal)
    assert refusal.setting
    assert refusal.do
    return refusal


@example(name="HINDSIGHT_KAFKA", value="no json")
@example(name="HINDSIGHT_KAFKA", value="[" * 5000)
@example(name="HINDSIGHT_STACK__PORTS", value="{")
@example(name="HINDSIGHT_CONFIG", value="~nobody_at_all/x")
@example(name="HINDSIGHT_CONFIG", value="x" * 9000)
@example(name="HINDSIGHT_HOME", value="~nobody_at_all/x")
@example(name="HINDSIGHT_HOME", value="x" * 9000)
@example(name="HINDSIGHT_TIMEZONE", value="x" * 9000)
@given(
    name=st.sampled_from(
        [*map(variable_of, SETTINGS), *map(variable_of, GROUPS), "HINDSIGHT_CONFIG", "HINDSIGHT_HOME", "HINDSIGHT_X"]
    ),
    value=VALUES,
)
def test_any_variable_is_a_setting_or_refused_by_name(name: str, value: str) -> None:
    """Whatever is set, alone: settings, or one error with the setting's name and what to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        found = settings_or_refusal()
    if isinstance(found, ConfigurationError) and name.startswith("HINDSIGHT_S3__SECRET"):
        assert value.strip() == "" or value not in str(found)


_ODD_FILES = [
    b"a = " + b"[" * 3000,
    b"a = " + b"{b=" * 3000,
    b"[kafka",
    b"[[kafka]]",
    b"kafka = 1",
    b"\xff",
    b"[kafka]\n" * 2,
    b"\0",
]
_ODD_VALUES = ["1979-05-27", "[[1]]", "{a=1}", "nan", "-inf", "'''x'''", "[1,'a']", "0x10", "true"]
_TOML = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(_ODD_FILES),
    st.tuples(st.sampled_from(SETTINGS), st.one_of(VALUES, st.sampled_from(_ODD_VALUES))).map(
        lambda pair: f"{pair[0]} = {pair[1]}".encode("utf-8", "replace")
    ),
)


@example(b"a = " + b"[" * 3000)
@given(_TOML)
def test_any_file_is_settings_or_refused(nothing_set: Path, content: bytes) -> None:
    """Bytes that are no text, texts that are no TOML, TOML without end, and values of every type: settings, or a refusal."""
    file = nothing_set / "hindsight.toml"
    file.write_bytes(content)
    try:
        settings_or_refusal()
    finally:
        file.unlink()


def test_a_folder_or_a_pipe_is_no_settings_file(nothing_set: Path) -> None:
    """HINDSIGHT_CONFIG that names what cannot be read as a file is refused by its name."""
    os.mkfifo(nothing_set / "pipe")
    for given_path in (nothing_set, nothing_set / "pipe", Path("/dev/null/x")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HINDSIGHT_CONFIG", str(given_path))
            found = settings_or_refusal()
        assert isinstance(found, ConfigurationError)
        assert found.setting == "HINDSIGHT_CONFIG"
