"""The detection network on several engines, each called the same way.

Owns how a check runs the network: onnxruntime on the CPU or on CUDA, and a TensorRT plan; from a float32 array in host
memory to the map in host memory, copies included, as a server's step does it.

Guarantees: every engine waits until its answer is in host memory; an engine that cannot run here says why instead of
falling back in silence (onnxruntime would put a network on the CPU when CUDA fails).

Next: `check_gpu` calls the engines in turn, `measuring` takes the times.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigurationError

from .cuda_device import NEEDS, DeviceBuffers
from .tensorrt_plan import MANIFEST_FILE, PLAN_FILE, PlanManifest, tensorrt

Pixels = NDArray[np.float32]


class Engine(Protocol):
    """A network ready to run."""

    name: str

    def __call__(self, pixels: Pixels) -> Pixels:
        """From [N, 3, H, W] to the map [N, 1, H, W], both in host memory."""
        ...

    def versions(self) -> dict[str, str]:
        """What it computes with."""
        ...


class OnnxEngine:
    """An ONNX file on onnxruntime.

    Args:
        provider: "CPUExecutionProvider", or "CUDAExecutionProvider" with all its defaults (TF32 allowed).
        threads: Threads of one call on a CPU.
    Raises:
        ConfigurationError: The provider is not in this build of onnxruntime, or it cannot start.
    """

    def __init__(self, onnx: Path, *, name: str, provider: str, threads: int = 1) -> None:
        import onnxruntime

        self.name = name
        self._runtime = onnxruntime
        if provider not in onnxruntime.get_available_providers():
            raise ConfigurationError(
                f"onnxruntime {onnxruntime.__version__} has no {provider}", do="pip install onnxruntime-gpu in its place"
            )
        if provider == "CUDAExecutionProvider":
            onnxruntime.preload_dlls()  # CUDA and cuDNN out of their packages
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(onnx), options, providers=[provider])
        except Exception as exc:  # onnxruntime raises its own classes, one for each of its status codes
            raise ConfigurationError(f"{provider} cannot start: {str(exc)[:300]}", do=NEEDS) from exc
        if self._session.get_providers()[0] != provider:
            raise ConfigurationError(f"{provider} did not start, onnxruntime fell back", do="see what it printed above")
        self._provider = provider
        self._input = self._session.get_inputs()[0].name
        self._threads = threads

    def __call__(self, pixels: Pixels) -> Pixels:
        result: Pixels = self._session.run(None, {self._input: pixels})[0]
        return result

    def versions(self) -> dict[str, str]:
        versions = {"onnxruntime": self._runtime.__version__, "provider": self._provider}
        return versions | ({"threads": str(self._threads)} if self._provider == "CPUExecutionProvider" else {})


class PlanEngine:
    """A TensorRT plan.

    Raises:
        ConfigurationError: TensorRT or a GPU is missing, or the plan belongs to another GPU or version.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.name = name
        self._trt = tensorrt()
        self._buffers = DeviceBuffers()
        self._manifest = PlanManifest.from_json((folder / MANIFEST_FILE).read_bytes())
        self._plan_runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.WARNING))
        self._engine = self._plan_runtime.deserialize_cuda_engine((folder / PLAN_FILE).read_bytes())
        if self._engine is None:
            raise ConfigurationError(
                f"the plan was built by {self._manifest.builder} for {self._manifest.gpu.name}", do="rebuild it"
            )
        self._contexts: dict[int, Any] = {}

    def __call__(self, pixels: Pixels) -> Pixels:
        self.enqueue(pixels)
        return self._buffers.download("output", self._map_shape(pixels))

    def enqueue(self, pixels: Pixels) -> None:
        """Copy in and start; the answer is on the device once the stream is done."""
        context = self._context(pixels.shape[0])
        context.set_input_shape(self._manifest.input_name, pixels.shape)
        shape = self._map_shape(pixels)
        context.set_tensor_address(self._manifest.input_name, self._buffers.upload("input", pixels))
        context.set_tensor_address(self._manifest.output_name, self._buffers.device("output", int(np.prod(shape)) * 4))
        if not context.execute_async_v3(self._buffers.stream):
            raise RuntimeError(f"TensorRT refused to run {pixels.shape}")

    def versions(self) -> dict[str, str]:
        return {"tensorrt": self._trt.__version__, "precision": self._manifest.precision}

    def _context(self, batch: int) -> Any:
        """An execution context with the profile of this batch; contexts are dear, so one is kept for each."""
        if batch not in self._contexts:
            index = next((i for i, profile in enumerate(self._manifest.profiles) if profile.batch == batch), None)
            if index is None:
                raise ConfigurationError(f"the plan has no profile of batch {batch}", setting="profiles")
            context = self._engine.create_execution_context()
            context.set_optimization_profile_async(index, self._buffers.stream)
            self._contexts[batch] = context
        return self._contexts[batch]

    @staticmethod
    def _map_shape(pixels: Pixels) -> tuple[int, ...]:
        return (pixels.shape[0], 1, *pixels.shape[2:])
