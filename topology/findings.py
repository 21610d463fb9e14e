"""What a check of `hindsight doctor` is, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from topology.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `do` is empty when there is nothing to do."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    seen: str
    do: str = ""


Check = Callable[[Configuration], Finding]
