"""docker-compose.yml, held against a real parser, the settings, and the local stack. No container engine runs here."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from topology.configuration import load
from topology.stack import install
from topology.stack.servers import kafka

CHECKOUT = Path(__file__).resolve().parents[3]
FILE = CHECKOUT / "docker-compose.yml"
EXAMPLE = CHECKOUT / ".env.example"
DOCKERFILE = CHECKOUT / "topology" / "deploy" / "Dockerfile"
OURS = ("gateway", "http", "worker")
ONE_OFF = {"minio-bucket"}


def raw() -> dict[str, Any]:
    value = yaml.safe_load(FILE.read_text())
    assert isinstance(value, dict)
    return value


def example_variables() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def parse(*arguments: str, env_file: Path = EXAMPLE) -> subprocess.CompletedProcess[str]:
    # Variables of this shell would hide what the file itself lacks.
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    assert shutil.which("docker-compose"), "install Debian's docker-compose, as `make test` does"
    command = ["docker-compose", "--file", str(FILE), "--env-file", str(env_file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=CHECKOUT, timeout=60, check=False)


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The configuration as the parser understands it, with the example's variables and every profile."""
    answer = parse("--profile", "gpu", "config")
    assert answer.returncode == 0, answer.stderr
    value = yaml.safe_load(answer.stdout)
    assert isinstance(value, dict)
    return value


def test_a_real_parser_accepts_it(resolved: dict[str, Any]) -> None:
    """With the example's variables the file resolves to all the parts of the design."""
    assert set(resolved["services"]) == {
        *("kafka", "registry", "redis", "minio", "minio-bucket", "triton", "triton-gpu"),
        *OURS,
    }
    assert {name for name, service in resolved["services"].items() if service.get("profiles")} == {"triton-gpu"}


@pytest.mark.parametrize("secret", ["REDIS_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"])
def test_a_missing_secret_stops_it(tmp_path: Path, secret: str) -> None:
    """There is no default password: without the variable nothing starts, and the message names it."""
    left = {name: value for name, value in example_variables().items() if name != secret}
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in left.items()))
    answer = parse("config", env_file=env_file)
    assert answer.returncode != 0
    assert secret in answer.stderr


def test_no_secret_is_written_down() -> None:
    """Whatever looks like a secret comes from a variable that must be set; the example's values are nowhere else."""
    for name, service in raw()["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|ROOT_USER|AUTH", key):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name}: {key}"
    text = FILE.read_text()
    for key, value in example_variables().items():
        if re.search(r"PASSWORD|SECRET|USER|ACCESS", key):
            assert value not in text


def test_every_variable_of_ours_is_a_real_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What compose sets for our processes is accepted by the settings, which refuse unknown names and impossible values."""
    for variable in [name for name in os.environ if name.startswith("HINDSIGHT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    variables = example_variables()
    for name in OURS:
        with monkeypatch.context() as patch:
            for key, value in raw()["services"][name]["environment"].items():
                assert key.startswith("HINDSIGHT_"), key
                patch.setenv(key, _substituted(value, variables))
            settings = load().settings
        assert settings.kafka.bootstrap_servers == ("kafka:9092",)
        assert settings.s3.secret_key.get_secret_value() == variables["S3_SECRET_KEY"]


def test_our_doors_listen_where_compose_publishes_them() -> None:
    """The container's ports are those of the settings, in the published ports and in the health checks."""
    services = raw()["services"]
    environment = services["gateway"]["environment"]
    for name, setting in (("gateway", "GATEWAY__PORT"), ("gateway", "GATEWAY__METRICS_PORT"), ("http", "HTTP__PORT")):
        port = environment[f"HINDSIGHT_{setting}"]
        assert any(published.endswith(f":{port}") for published in services[name]["ports"]), setting
    for name, setting in (("gateway", "GATEWAY__METRICS_PORT"), ("http", "HTTP__PORT"), ("worker", "WORKER__METRICS_PORT")):
        assert f"127.0.0.1:{environment[f'HINDSIGHT_{setting}']}/" in services[name]["healthcheck"]["test"][-1]


def test_versions_are_those_of_the_local_stack() -> None:
    """Kafka and the registry are the same versions in both ways to run; the images' tags are all pinned."""
    services = raw()["services"]
    assert services["kafka"]["image"] == f"apache/kafka:{install.version('kafka')}"
    assert services["registry"]["image"].endswith(f":{install.version('apicurio')}")
    for name, service in services.items():
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest"), name


def test_kafka_is_configured_as_the_local_one() -> None:
    """What decides behaviour is equal: no topics by accident, no delay of groups, one replica, the same heap."""
    environment = raw()["services"]["kafka"]["environment"]
    ports = {"kafka": 1, "kafka.controller": 2}
    local = {key: str(value) for key, value in kafka.properties(ports, Path("/x")).items()}
    same = (
        *("process.roles", "node.id", "auto.create.topics.enable", "group.initial.rebalance.delay.ms"),
        *("offsets.topic.replication.factor", "transaction.state.log.replication.factor", "transaction.state.log.min.isr"),
        *("share.coordinator.state.topic.replication.factor", "share.coordinator.state.topic.min.isr"),
    )
    for key in same:
        assert environment["KAFKA_" + key.upper().replace(".", "_")] == local[key], key


def test_every_port_is_published_on_loopback_only() -> None:
    """No service is reachable from other machines through a published port."""
    for name, service in raw()["services"].items():
        for published in service.get("ports", []):
            assert published.startswith("127.0.0.1:"), f"{name}: {published}"


def test_what_runs_on_is_checked_and_restarted() -> None:
    """Every service has a health check and is restarted; what keeps state keeps it in a named volume."""
    compose = raw()
    for name, service in compose["services"].items():
        if name in ONE_OFF:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name
    mounted = {entry.split(":")[0] for service in compose["services"].values() for entry in service.get("volumes", [])}
    assert {"kafka", "redis", "minio"} == set(compose["volumes"]) == mounted & set(compose["volumes"])


def test_the_gpu_profile_uses_tritons_own_backends() -> None:
    """The profile gpu asks for a GPU and for the configurations named gpu, which `triton_models` writes."""
    service = raw()["services"]["triton-gpu"]
    assert service["profiles"] == ["gpu"]
    assert "--model-config-name=gpu" in service["command"]
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    from triton_models.configuration import model_config

    assert 'backend: "dali"' in model_config("dali_preprocess", model="m", versions=(1,), threads=1, variant="gpu")


def test_images_are_built_from_stages_that_exist() -> None:
    """Each build names the Dockerfile and one of its stages; the image of Triton is one version everywhere."""
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE.read_text(), flags=re.MULTILINE))
    for name, service in raw()["services"].items():
        if build := service.get("build"):
            assert CHECKOUT / build["dockerfile"] == DOCKERFILE, name
            assert build["target"] in stages, name
    triton = set(re.findall(r"nvcr\.io/nvidia/tritonserver:(\S+)", DOCKERFILE.read_text() + FILE.read_text()))
    assert len(triton) == 1


def test_what_the_images_copy_is_there() -> None:
    """Every path that the Dockerfile copies from the project exists and is not kept out of the build's context."""
    let_in = {
        line[1:] for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if re.match(r"COPY (?!--from)", line)]
    paths = {path for paths in copied for path in paths}
    assert paths == let_in
    for path in paths:
        assert (CHECKOUT / path).exists(), path


def test_the_example_names_every_variable_that_must_be_set() -> None:
    """Copying .env.example is enough to start."""
    required = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert required <= set(example_variables())


def _substituted(value: str, variables: dict[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, _, default = match.group(1).partition(":")
        return variables.get(name, default.lstrip("-") if default.startswith("-") else "")

    return re.sub(r"\$\{([^}]+)\}", replace, value)
