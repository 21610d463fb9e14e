"""One NVIDIA GPU: what it is, memory on it, and time measured by it.

Owns every call of CUDA's runtime that TensorRT's own bindings leave to the caller.

Guarantees: each call's return code is checked; memory and streams are given back by `close`. Where there is no GPU, or
no package to reach one, a `ConfigurationError` says so, before TensorRT is touched: it ends the process without one.

Next: `tensorrt_plan` asks for the facts, `engines` for buffers and a stream.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError

NEEDS = "pip install hindsight-recorder[gpu] on a machine with an NVIDIA GPU"

_DRIVER_VERSION_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What a plan depends on: a plan runs on the same compute capability only."""

    name: str
    compute_capability: str
    memory_bytes: int
    driver_version: str
    driver_cuda_version: str


def runtime() -> Any:
    """CUDA's runtime, as `cuda.bindings.runtime`, once it is sure that a GPU answers.

    Raises:
        ConfigurationError: The package `cuda-bindings`, the driver or a GPU is missing.
    """
    try:
        from cuda.bindings import runtime as cuda
    except ImportError as exc:
        raise ConfigurationError("package cuda-bindings is not installed", do=NEEDS) from exc
    code, count = cuda.cudaGetDeviceCount()
    if code != cuda.cudaError_t.cudaSuccess or not count:
        raise ConfigurationError(f"no NVIDIA GPU answers here ({code.name})", do=NEEDS)
    return cuda


def gpu_facts(device: int = 0) -> GpuFacts:
    """Name, compute capability, memory and versions of a GPU.

    Raises:
        ConfigurationError: As `runtime`.
    """
    cuda = runtime()
    properties = checked(cuda.cudaGetDeviceProperties(device))
    return GpuFacts(
        name=properties.name.rstrip(b"\0").decode(),
        compute_capability=f"{properties.major}.{properties.minor}",
        memory_bytes=int(properties.totalGlobalMem),
        driver_version=_driver_version(),
        driver_cuda_version=version_text(checked(cuda.cudaDriverGetVersion())),
    )


def checked(answer: tuple[Any, ...]) -> Any:
    """What a CUDA call gave, past its return code.

    Raises:
        RuntimeError: The call failed; its code is named.
    """
    code, *values = answer
    if int(code) != 0:
        raise RuntimeError(f"CUDA answered {code.name}")
    return values[0] if len(values) == 1 else tuple(values)


def version_text(number: int) -> str:
    """CUDA's own number as people write it: 13000 is "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


class DeviceBuffers:
    """Host and device memory of one call's tensors, and the stream that moves them.

    Page-locked host memory, because copies of other memory wait for a second copy inside the driver.
    """

    def __init__(self) -> None:
        self._cuda = runtime()
        self.stream: int = int(checked(self._cuda.cudaStreamCreate()))
        self._device: dict[str, tuple[int, int]] = {}
        self._host: dict[str, tuple[int, int]] = {}
        self._views: dict[tuple[str, tuple[int, ...]], NDArray[np.float32]] = {}

    def device(self, name: str, size_bytes: int) -> int:
        """Address of device memory for a tensor; grows when it must."""
        return self._sized(self._device, name, size_bytes, self._cuda.cudaMalloc, self._cuda.cudaFree)

    def host(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Page-locked float32 host memory for a tensor, valid until the next call with this name."""
        if (name, shape) not in self._views:
            size_bytes = int(np.prod(shape)) * 4
            before = self._host.get(name)
            address = self._sized(self._host, name, size_bytes, self._cuda.cudaMallocHost, self._cuda.cudaFreeHost)
            if self._host[name] != before:
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
            flat = (ctypes.c_float * (size_bytes // 4)).from_address(address)
            self._views[name, shape] = np.ctypeslib.as_array(flat).reshape(shape)
        return self._views[name, shape]

    def upload(self, name: str, pixels: NDArray[np.float32]) -> int:
        """Copy a tensor to the device in the stream; gives its address there."""
        staged = self.host(name, pixels.shape)
        np.copyto(staged, pixels)
        address = self.device(name, pixels.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(self._cuda.cudaMemcpyAsync(address, staged.ctypes.data, pixels.nbytes, kind, self.stream))
        return address

    def download(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Copy a tensor back, wait for the stream, and give an array of its own."""
        staged = self.host(name, shape)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = self._device[name][0]
        checked(self._cuda.cudaMemcpyAsync(staged.ctypes.data, address, staged.nbytes, kind, self.stream))
        self.wait()
        return staged.copy()

    def wait(self) -> None:
        """Until the stream has done everything asked of it."""
        checked(self._cuda.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        """Give memory and stream back."""
        for address, _ in self._device.values():
            checked(self._cuda.cudaFree(address))
        for address, _ in self._host.values():
            checked(self._cuda.cudaFreeHost(address))
        self._device.clear()
        self._host.clear()
        self._views.clear()
        checked(self._cuda.cudaStreamDestroy(self.stream))

    def _sized(
        self,
        pool: dict[str, tuple[int, int]],
        name: str,
        size_bytes: int,
        allocate: Callable[[int], Any],
        free: Callable[[int], Any],
    ) -> int:
        address, size = pool.get(name, (0, 0))
        if size < size_bytes:
            if address:
                checked(free(address))
            address = int(checked(allocate(size_bytes)))
            pool[name] = (address, size_bytes)
        return address


def _driver_version() -> str:
    """Of the kernel module, such as "580.159.04"; CUDA's runtime does not tell it."""
    if not _DRIVER_VERSION_FILE.exists():
        return "unknown"
    words = _DRIVER_VERSION_FILE.read_text().split()
    return next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()), "unknown")
