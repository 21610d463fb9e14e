"""A worker whose models fail while a file named `broken` lies in its folder: else it is `hindsight worker ...`."""

import os
from typing import Any

from schemas.errors import StepFailedError
from streams.triton import TritonInference
from topology.cli import main

_infer = TritonInference.infer


async def infer(self: TritonInference, *arguments: Any, **named: Any) -> Any:
    if os.path.exists("broken"):  # noqa: ASYNC240  # one look
        raise StepFailedError("in ensemble: Stub process 'recognizer_0_0' is not healthy", step="recognizer", endpoint="planted")
    return await _infer(self, *arguments, **named)


if __name__ == "__main__":
    TritonInference.infer = infer  # type: ignore[method-assign]  # the plant
    main()
