"""The adapter between Triton's Python backend and a step; copied as model.py into every version's folder.

Owns the translation of tensors and errors, and nothing else. Runs in a model process of the server, where `steps` is
the folder that was copied beside it.

Next: `steps.run` runs the step.
"""

import json
import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # exists only inside the server
from steps.contract import StepError  # the copy beside this file
from steps.run import load_step


class TritonPythonModel:
    """What the Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the step of this version's folder; an error here makes the load fail with its message."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self._step = load_step(
            folder,
            model=args["model_name"],
            version=int(args["model_version"]),
            threads=int(config["parameters"]["threads"]["string_value"]),
            server=os.environ.get("TRITON_SERVER_VERSION", "unknown"),
        )
        self._inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        given = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
        tensors = {name: tensor.as_numpy() for name, tensor in given.items() if tensor is not None}
        try:
            outputs = self._step.run(tensors)
        except StepError as exc:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(exc)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])
