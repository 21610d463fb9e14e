"""A worker whose live view of devices counts each accepted frame twice: `miscounting_worker.py worker ...`.

The fold in the catalogue is right, so rebuilding and checking are: this is a fault in what runs, as a bad build would be.
"""

from dataclasses import replace
from typing import Any

from processors.views.folds import DeviceFrames
from processors.views.step import ViewStep
from schemas.events import FrameAccepted
from topology.cli import main

_fold = ViewStep.fold


def _counts_twice(self: "ViewStep[Any]", state: Any, event: Any) -> Any:
    folded = _fold(self, state, event)
    if isinstance(folded, DeviceFrames) and isinstance(event, FrameAccepted):
        return replace(folded, accepted_count=folded.accepted_count + 1)
    return folded


if __name__ == "__main__":
    ViewStep.fold = _counts_twice  # type: ignore[method-assign]
    main()
