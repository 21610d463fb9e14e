"""One onnxruntime session on the CPU, with every setting that can change its bits fixed and named.

Guarantees: one array in, one array out; sequential, all graph optimisations, prepacking on; bit-equal for any number
of threads (measured), so that threads are a setting of the deployment and not of the model version.

Next: `detection`, `classifier` and `recognizer` call it, each in its batch form.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

MODEL_FILE = "model.onnx"


class OnnxSession:
    """A network of one input and one output.

    Raises:
        FileNotFoundError: The folder holds no model.onnx.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        path = folder / MODEL_FILE
        if not path.exists():
            raise FileNotFoundError(path)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # crops of many widths would make the arena grow for good
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network once; shapes are those of the network."""
        result: NDArray[np.float32] = self._session.run([self._output], {self._input: pixels})[0]
        return result

    def runtime(self) -> dict[str, str]:
        """Library version and the settings that can change bits."""
        return {
            "onnxruntime": onnxruntime.__version__,
            "provider": self._session.get_providers()[0],
            "graph_optimization": "all",
            "prepacking": "on",
        }
