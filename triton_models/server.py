"""The recipe that starts the real Triton server out of the `nvidia-pytriton` wheel, without a container.

Owns the command line and the environment of the server process, and the folder of backends that it loads. Starts
nothing itself and reads no environment: the caller runs the command and watches it.

Guarantees: the environment returned is complete (pass it as it is, not merged into one's own); everything listens on
one address; models are loaded only when asked for; answers are never cached.

Next: `topology`'s local stack runs the command, waits until the server is ready, then loads an ensemble by name.
"""

import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.errors import ConfigurationError

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def prepare_backends(target: Path) -> Path:
    """Lay out the folder of backends that the server loads, as links into the installed wheel.

    The wheel keeps one model process per Python version apart from its Python backend; the server wants the right one
    beside the backend. Links keep the installed package untouched. Idempotent.

    Args:
        target: Folder to make, for instance `state/triton/backends`.
    Returns:
        `target`, absolute.
    Raises:
        ConfigurationError: The wheel is not installed, or has no process for this Python.
    Source: nvidia-pytriton, `pytriton/tritonserver`.
    """
    triton = _triton_folder()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.exists():
        raise ConfigurationError(
            f"nvidia-pytriton has no model process for Python {python}",
            do="use Python 3.11 to 3.13 on x86-64 Linux with glibc 2.35 or newer",
        )
    folder = target.absolute() / "python"
    folder.mkdir(parents=True, exist_ok=True)
    for source in (*sorted((triton / "backends" / "python").iterdir()), stub):
        _link(folder / source.name, source)
    return target.absolute()


def tritonserver_command(
    repository: Path,
    *,
    backends: Path,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
    address: str = "127.0.0.1",
    load: tuple[str, ...] = (),
    threads: int = 1,
    exit_timeout_s: int = 5,
    trace_url: str = "",
) -> tuple[list[str], dict[str, str]]:
    """Say how to start the server.

    Args:
        repository: Model repository, as `repository.build_repository` writes it.
        backends: Folder that `prepare_backends` made.
        grpc_port, http_port, metrics_port: Ports to listen on.
        address: Address to listen on.
        load: Names of models or ensembles to load before the server says that it is ready; more can be loaded later.
        threads: Threads of numeric libraries in each model process (onnxruntime has its own setting, see `repository`).
        exit_timeout_s: How long a stopping server waits for its models; with dead model processes it waits in vain.
        trace_url: Where to send OpenTelemetry spans, OTLP over HTTP; off when empty.
    Returns:
        argv, and the complete environment of the process.
    Raises:
        ConfigurationError: The wheel is not installed.
    """
    triton = _triton_folder()
    argv = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={repository.absolute()}",
        f"--backend-directory={backends.absolute()}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in load),
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={exit_timeout_s}",
        f"--http-address={address}",
        f"--http-port={http_port}",
        f"--grpc-address={address}",
        f"--grpc-port={grpc_port}",
        f"--metrics-address={address}",
        f"--metrics-port={metrics_port}",
        "--allow-gpu-metrics=false",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(grpc_port)}",
    ]
    if trace_url:
        argv += ["--trace-config=mode=opentelemetry", f"--trace-config=opentelemetry,url={trace_url}"]
        argv += ["--trace-config=rate=1", "--trace-config=level=TIMESTAMPS"]
    return argv, _environment(threads)


def shared_memory_prefix(grpc_port: int) -> str:
    """Name prefix of the server's regions under /dev/shm; a server that was killed leaves them behind.

    Remove `/dev/shm/<prefix>*` when no server runs on this port.
    """
    return f"hindsight_triton_{grpc_port}_"


def triton_version() -> str:
    """Version of the server in the wheel, for instance "2.51.0"; "unknown" when the wheel does not say."""
    try:
        return _SERVER_VERSIONS.get(version("nvidia-pytriton"), "unknown")
    except PackageNotFoundError:
        return "unknown"


# The wheel's metadata do not name the server's version; these were asked of the running server.
_SERVER_VERSIONS = {"0.7.0": "2.51.0"}


def _environment(threads: int) -> dict[str, str]:
    site = Path(sysconfig.get_path("purelib"))
    libraries = [str(site / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    return {
        # Model processes find their packages by the first `python` on PATH, and ignore PYTHONPATH.
        "PATH": f"{sysconfig.get_path('scripts')}:{_SYSTEM_PATH}",
        "LD_LIBRARY_PATH": ":".join(libraries),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONNOUSERSITE": "1",
        # NVIDIA's own images set the same name.
        "TRITON_SERVER_VERSION": triton_version(),
        "LANG": "C.UTF-8",
    }


def _triton_folder() -> Path:
    folder = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    if not (folder / "bin" / "tritonserver").exists():
        raise ConfigurationError(
            "the Triton server is not installed in this environment",
            do="install the extra `local` (package nvidia-pytriton)",
        )
    return folder


def _link(path: Path, source: Path) -> None:
    if path.is_symlink() and path.readlink() == source:
        return
    path.unlink(missing_ok=True)
    path.symlink_to(source)
