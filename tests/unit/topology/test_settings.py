"""Settings: which layer wins, what is refused and how it is named, and that secrets stay secret."""

import json
import os
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from topology.configuration import MASK, Configuration, as_settings, load, setting_names, variable_of
from topology.stack.layout import Layout
from topology.stack.processes import key_of
from topology.stack.state import Endpoints, Plan, StackState, write_plan, write_state


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("HINDSIGHT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def running_stack(home: Path, endpoints: Endpoints) -> None:
    """Record endpoints as a stack would that this very process supervises."""
    layout = Layout(home)
    layout.make()
    write_plan(layout.plan_file, Plan(programs=(), endpoints=endpoints, ports={}))
    key = key_of(os.getpid())
    assert key is not None
    write_state(layout.state_file, StackState(supervisor=key, revision=0, programs=()))


def origin(configuration: Configuration, name: str) -> tuple[object, str]:
    found = next(one for one in configuration.origins if one.name == name)
    return found.shown, found.source


def refusal() -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load()
    return caught.value


def test_environment_over_file_over_stack_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer is overridden by the one above it, setting by setting, and every value names the layer it came from."""
    running_stack(
        tmp_path / "home", Endpoints(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:2/0", s3_endpoint="127.0.0.1:3")
    )
    (tmp_path / "hindsight.toml").write_text('[redis]\nurl = "redis://file:6379/0"\n[s3]\nendpoint = "file:9000"\n')
    monkeypatch.setenv("HINDSIGHT_S3__ENDPOINT", "variable:9000")
    configuration = load()
    assert configuration.settings.s3.endpoint == "variable:9000"
    assert origin(configuration, "s3.endpoint") == ("variable:9000", "environment HINDSIGHT_S3__ENDPOINT")
    assert origin(configuration, "redis.url") == ("redis://file:6379/0", f"file {tmp_path / 'hindsight.toml'}")
    assert origin(configuration, "kafka.bootstrap_servers") == (["127.0.0.1:1"], "local stack")
    assert origin(configuration, "s3.region") == ("us-east-1", "default")


def test_a_stack_that_is_down_gives_no_settings(tmp_path: Path) -> None:
    """Endpoints that a dead stack left behind are not used."""
    running_stack(tmp_path / "home", Endpoints(kafka_bootstrap="127.0.0.1:1"))
    Layout(tmp_path / "home").state_file.unlink()
    assert origin(load(), "kafka.bootstrap_servers")[1] == "default"


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several endpoints fit in one variable."""
    monkeypatch.setenv("HINDSIGHT_TRITON__ENDPOINTS", "a:8001, b:8001")
    assert load().settings.triton.endpoints == ("a:8001", "b:8001")


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable stops the start; the error names it and the one that was meant."""
    monkeypatch.setenv("HINDSIGHT_KAFKA__BOOTSTRAP_SERVER", "a:9092")
    error = refusal()
    assert error.setting == "HINDSIGHT_KAFKA__BOOTSTRAP_SERVER"
    assert "did you mean HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS?" in error.do


def test_an_unknown_name_in_the_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    """The same for the file."""
    (tmp_path / "hindsight.toml").write_text("[worker]\natempts = 3\n")
    error = refusal()
    assert error.setting == "worker.atempts"
    assert "is no setting" in str(error)
    assert "did you mean worker.attempts?" in error.do


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS", "nowhere", "kafka.bootstrap_servers"),
        ("HINDSIGHT_GATEWAY__PORT", "70000", "gateway.port"),
        ("HINDSIGHT_WORKER__ATTEMPTS", "0", "worker.attempts"),
        ("HINDSIGHT_WORKER__RETRY_FIRST_S", "60", "worker"),
        ("HINDSIGHT_KAFKA__HEARTBEAT_INTERVAL_S", "5", "kafka"),
        ("HINDSIGHT_TIMEZONE", "Mars/Olympus", "timezone"),
        ("HINDSIGHT_REGISTRY__URL", "registry:8081", "registry.url"),
        ("HINDSIGHT_PIPELINE__RULES", "not a module", "pipeline.rules"),
        ("HINDSIGHT_BLOBS__BUCKET", "No_Bucket", "blobs.bucket"),
        ("HINDSIGHT_HTTP__PORT", "15051", "gateway.port"),
        ("HINDSIGHT_HTTP__MAX_IMAGE_BYTES", "99999999", "http.max_image_bytes"),
        ("HINDSIGHT_TELEMETRY__LOG_LEVEL", "loud", "telemetry.log_level"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    """A value that cannot work stops the start; the error names the setting."""
    monkeypatch.setenv(variable, value)
    error = refusal()
    assert error.setting == setting
    assert setting in str(error)


def test_several_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever corrects settings sees all that is wrong, and which variable each came from."""
    monkeypatch.setenv("HINDSIGHT_GATEWAY__PORT", "0")
    monkeypatch.setenv("HINDSIGHT_WORKER__ATTEMPTS", "many")
    text = str(refusal())
    assert "gateway.port (from environment HINDSIGHT_GATEWAY__PORT)" in text
    assert "worker.attempts (from environment HINDSIGHT_WORKER__ATTEMPTS)" in text


def test_secrets_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is in no printed form of the settings or of their origins, and in no error."""
    secret = "s3cr3t-and-long"
    monkeypatch.setenv("HINDSIGHT_S3__SECRET_KEY", secret)
    monkeypatch.setenv("HINDSIGHT_REDIS__PASSWORD", secret)
    configuration = load()
    assert configuration.settings.s3.secret_key.get_secret_value() == secret
    for text in (repr(configuration), str(configuration.settings), configuration.settings.model_dump_json()):
        assert secret not in text
    assert origin(configuration, "s3.secret_key")[0] == MASK
    assert secret not in json.dumps([one.shown for one in configuration.origins])
    monkeypatch.setenv("HINDSIGHT_REDIS__URL", f"redis://:{secret}@cache:6379/0")
    error = refusal()
    assert error.setting == "redis.url"
    assert secret not in str(error) + error.do


def test_every_setting_has_a_variable_and_a_default() -> None:
    """With nothing set everything is there; each name has one variable of its own."""
    names = list(setting_names())
    assert [one.name for one in load().origins] == sorted(names)
    assert len({variable_of(name) for name in names}) == len(names)


def test_endpoints_have_the_names_of_settings() -> None:
    """What a running stack records is known to the settings, or it would refuse to start."""
    full = Endpoints(**{name: f"{name}:1" for name in Endpoints.__dataclass_fields__})
    given = {f"{group}.{key}" for group, values in as_settings(full).items() for key in values}
    assert given <= set(setting_names())


def test_an_ill_formed_file_is_refused(tmp_path: Path) -> None:
    """A file that is no TOML stops the start and is named."""
    (tmp_path / "hindsight.toml").write_text("kafka = [")
    assert "hindsight.toml" in str(refusal())
