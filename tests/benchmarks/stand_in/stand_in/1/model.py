"""A model that reads nothing and answers after `delay_ms`, as a card elsewhere would: it takes time, and none of this machine's.

With a delay below a millisecond it answers at once, and what is measured is everything around it.
"""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils  # exists only inside the server

RESULT = b'{"candidates":[],"image":{"height_px":160,"width_px":224},"observations":[]}'


class TritonPythonModel:
    """What the Python backend looks for."""

    def initialize(self, args):
        """The digest of this version's folder: the one that the release pins."""
        total = hashlib.sha256()
        folder = Path(args["model_repository"]) / args["model_version"]
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
            total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        step = {
            "step": "stand_in",
            "model": args["model_name"],
            "version": int(args["model_version"]),
            "variant": "none",
            "digest": total.hexdigest(),
            "output_sha256": hashlib.sha256(RESULT).hexdigest(),
        }
        self.step = step

    def execute(self, requests):
        """Answer each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        started_ns = time.monotonic_ns()
        parameters = json.loads(bytes(pb_utils.get_input_tensor_by_name(request, "PARAMETERS").as_numpy().reshape(-1)[0]))
        delay_s = float(parameters.get("delay_ms", 0)) / 1000
        if delay_s >= 0.001:
            time.sleep(delay_s)
        report = {
            "steps": [{**self.step, "duration_us": (time.monotonic_ns() - started_ns) // 1000}],
            "runtime": {"device": "none"},
        }
        tensors = (("RESULT", RESULT), ("REPORT", json.dumps(report).encode()))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.array([text], dtype=object)) for name, text in tensors])
