"""The derive processor: nothing to ask, everything to decide."""

from typing import Any

from processors.derive import core
from processors.metrics import FRAME_TO_RESULT_SECONDS
from processors.rules.contract import Rules
from processors.step import Cause
from schemas.catalogue import INFERENCES


class DeriveStep:
    """Reads vision.inferences. State: each device's latest passages.

    Args:
        rules: The pipeline's business rules.
    """

    name = "derive"
    topic = INFERENCES
    state_type = core.DevicePassages
    initial = core.INITIAL

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def key(self, event: Any) -> str | None:
        return str(event.frame.device_id)

    def decide(self, state: core.DevicePassages, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        FRAME_TO_RESULT_SECONDS.observe(max(0.0, (cause.now_us - event.frame.captured_at_us) / 1e6))
        return core.decide(self._rules, state, event, cause)

    def fold(self, state: core.DevicePassages, event: Any) -> core.DevicePassages:
        return core.fold(self._rules, state, event)
