"""People in a picture, found by OpenCV's own HOG detector: a whole pipeline as one Triton Python model.

IMAGE is an encoded picture, PARAMETERS a JSON object with `hit_threshold`; RESULT and REPORT are JSON, as README.md says.
"""

import hashlib
import json
import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils  # exists only inside the server

STEP = "people_detector"
CANDIDATES_MAX = 16


class TritonPythonModel:
    """What the Python backend looks for."""

    def initialize(self, args):
        """Make the detector, and the digest of this version's folder: the one that the release pins."""
        cv2.setNumThreads(1)  # with more, boxes come in another order from one time to the next
        self.hog = cv2.HOGDescriptor()
        self.hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
        self.model, self.version = args["model_name"], int(args["model_version"])
        self.digest = digest_of(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests):
        """Answer each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        try:
            image, parameters = (text_of(request, name) for name in ("IMAGE", "PARAMETERS"))
            started_ns = time.monotonic_ns()
            result = as_json(self.read(image, json.loads(parameters or b"{}")))
            report = self.report(result, (time.monotonic_ns() - started_ns) // 1000)
        except Exception as error:
            # Whoever reads the log looks for the step that failed in these words.
            told = f"step {STEP} (model {self.model} version {self.version}): {error}"
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(told))
        tensors = [
            pb_utils.Tensor(name, np.array([text], dtype=object)) for name, text in (("RESULT", result), ("REPORT", report))
        ]
        return pb_utils.InferenceResponse(tensors)

    def read(self, image, parameters):
        """Every person, as an observation; those below the threshold as candidates."""
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("the picture cannot be decoded")
        threshold = float(parameters.get("hit_threshold", 0.5))
        boxes, weights = self.hog.detectMultiScale(pixels, hitThreshold=0.0, winStride=(8, 8), padding=(8, 8), scale=1.05)
        found = sorted(zip(map(tuple, np.reshape(boxes, (-1, 4)).tolist()), np.ravel(weights).tolist(), strict=True))
        seen = [(box, weight) for box, weight in found if weight >= threshold]
        rest = sorted((f for f in found if f[1] < threshold), key=lambda f: -f[1])[:CANDIDATES_MAX]
        return {
            "image": {"width_px": pixels.shape[1], "height_px": pixels.shape[0]},
            "observations": [
                {"index": index, **person(box, weight), "measures": {"height_px": box[3]}}
                for index, (box, weight) in enumerate(seen)
            ],
            "candidates": [
                {"stage": STEP, "reason": f"detection_score below hit_threshold {threshold:g}", **person(box, weight)}
                for box, weight in rest
            ],
        }

    def report(self, result, duration_us):
        """What this step says of itself; a pipeline of several steps has one entry for each."""
        step = {
            "step": STEP,
            "model": self.model,
            "version": self.version,
            "variant": "opencv_cpu",
            "digest": self.digest,
            "duration_us": duration_us,
            "output_sha256": hashlib.sha256(result).hexdigest(),
        }
        runtime = {
            "triton": os.environ.get("TRITON_SERVER_VERSION", "unknown"),
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "device": "cpu",
            "threads": "1",
        }
        return as_json({"steps": [step], "runtime": runtime})


def person(box, weight):
    x, y, width, height = box
    return {
        "kind": "person",
        "label": "person",
        "confidence": 1 / (1 + math.exp(-weight)),
        "detection_score": weight,
        "polygon_px": [x, y, x + width, y, x + width, y + height, x, y + height],
    }


def digest_of(folder):
    """sha256 over the lines "<path>\\0<sha256 of the content>\\n", sorted by path; compiled Python does not count."""
    total = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def text_of(request, name):
    return bytes(pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0])


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
