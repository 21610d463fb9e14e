"""Makes `generated/` from `frames.proto`: `python -m streams.grpc_gateway.generate`, with grpcio-tools installed.

The generated code is kept in the repository, so that a plain install needs no compiler; a test holds the two together.
"""

import sys
from pathlib import Path

from schemas.errors import ConfigurationError

_HERE = Path(__file__).parent
_INSIDE = "streams/grpc_gateway/generated"


def generate(root: Path) -> None:
    """Write the generated modules under `root`/streams/grpc_gateway/generated.

    Raises:
        ConfigurationError: protoc refuses frames.proto.
    """
    from grpc_tools import protoc

    (root / _INSIDE).mkdir(parents=True, exist_ok=True)
    # The virtual path makes protoc write imports that start at our top-level package.
    arguments = ["protoc", f"-I{_INSIDE}={_HERE}", f"--python_out={root}", f"--pyi_out={root}", f"--grpc_python_out={root}"]
    if protoc.main([*arguments, f"{_INSIDE}/frames.proto"]) != 0:
        raise ConfigurationError("protoc does not take frames.proto", do="read what it printed above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else _HERE.parents[1])
