"""Which port each listener of the local stack gets; all on 127.0.0.1.

Order of choice: the port that the user set (refused if taken), the port that this stack had last time, the default, any
free one. Free ones come from below the kernel's range for outgoing connections, so that no client's socket sits on one
by chance. `plan.py` asks; what was chosen is recorded in the state file.
"""

import random
import socket
from collections.abc import Iterable, Mapping

from schemas.errors import ConfigurationError

FREE_RANGE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(
    listeners: Iterable[str],
    *,
    fixed: Mapping[str, int],
    preferred: Mapping[str, int],
    among: Iterable[int] = FREE_RANGE,
    seed: int | None = None,
) -> dict[str, int]:
    """A port for each listener, all different and free at this moment.

    Args:
        listeners: Names such as "kafka" or "s3.filer".
        fixed: Ports that the user set.
        preferred: Ports to take if they are free: last time's, or the defaults.
        among: Where other free ports are looked for.
        seed: Makes the order of that search repeatable; None draws it from the system.
    Raises:
        ConfigurationError: A port that the user set is taken, or there are no free ones left.
    """
    chosen: dict[str, int] = {}
    names = list(listeners)
    for name, port in fixed.items():
        if name in names and not is_free(port):
            raise ConfigurationError(
                f"port {port} for {name} is taken by another process",
                setting=f"stack.ports.{name}",
                do="set another port, or leave it unset to have a free one chosen",
            )
    taken = {port for name, port in fixed.items() if name in names}
    candidates = list(among)
    random.Random(seed).shuffle(candidates)
    for name in names:
        if name in fixed:
            chosen[name] = fixed[name]
            continue
        found = _first_free([preferred[name]] if name in preferred else [], candidates, taken)
        if found is None:
            raise ConfigurationError(
                f"no free port was found for {name}", setting=f"stack.ports.{name}", do="stop what holds the ports"
            )
        chosen[name] = found
        taken.add(found)
    return chosen


def _first_free(preferred: list[int], candidates: list[int], taken: set[int]) -> int | None:
    for port in [*preferred, *candidates]:
        if port not in taken and is_free(port):
            return port
    return None
