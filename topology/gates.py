"""A promotion held to a question about the past: `whatif:last-24h` reads a real window with the release, and compares.

Nothing of it is written but the answer, which goes with the command and lies on the log with what came of it.
"""

import math
from collections.abc import Callable, Iterable, Mapping

from schemas.errors import ConfigurationError
from schemas.types import Gate
from topology.configuration import Configuration

_DO = "write it as whatif:last-24h, or as whatif:2026-11-22T00:00Z..2026-11-22T12:00Z"
Say = Callable[[str], None]


def window_of(gate: str, *, zone: str, now_us: int) -> tuple[int, int]:
    """The window that a gate names, microseconds since the epoch.

    Raises:
        ConfigurationError: it is no gate, or ends before it begins.
        ContractError: a moment or a span in it cannot be understood.
    """
    from topology.moments import parse_duration_s, parse_moment

    kind, _, window = gate.partition(":")
    if kind != "whatif" or not window:
        raise ConfigurationError(f"{gate!r} is no gate", setting="--gate", do=_DO)
    if window.startswith("last-"):
        return now_us - round(parse_duration_s(window.removeprefix("last-")) * 1e6), now_us
    since, dots, until = window.partition("..")
    if not dots:
        raise ConfigurationError(f"{gate!r} names no window", setting="--gate", do=_DO)
    from_us, to_us = (parse_moment(text, zone=zone, now_us=now_us) for text in (since, until))
    if to_us <= from_us:
        raise ConfigurationError(f"{gate!r} ends before it begins", setting="--gate", do=_DO)
    return from_us, to_us


def limits_of(given: Iterable[str]) -> Mapping[str, float]:
    """All limits, with those that were given as `name=value`.

    Raises:
        ConfigurationError: there is no limit of a name, or its value is no number from 0 on.
    """
    from processors.whatif.gate import LIMITS

    limits = dict(LIMITS)
    for text in given:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name.strip() not in limits or not (math.isfinite(number) and number >= 0):
            do = f"write it as name=value, with one of {', '.join(LIMITS)}"
            raise ConfigurationError(f"{text!r} is no limit", setting="--gate-limit", do=do)
        limits[name.strip()] = number
    return limits


def asked(configuration: Configuration, release: str, gate: str, limits: Mapping[str, float], *, say: Say) -> Gate:
    """Read the window with the release, beside what was recorded, and hold that to the limits.

    Raises:
        ConfigurationError, ContractError: the gate cannot be understood.
        TransientError: a server does not answer.
    """
    from processors.lookback.releases import ReleaseHistory
    from processors.rules.contract import load as load_rules
    from processors.whatif.gate import held
    from processors.whatif.replay import Question, WhatIf
    from processors.whatif.tally import Tally
    from streams.records import system_clock
    from topology.past import open_past, pipeline_of
    from topology.reading import open_models

    settings = configuration.settings
    from_us, to_us = window_of(gate, zone=settings.timezone, now_us=system_clock())
    tally = Tally(cases=0)
    with open_past(settings, None) as past, open_models(configuration, past) as models:
        history = ReleaseHistory(past, pipeline_of(settings, past))
        question = Question(release=release, thresholds={})
        for frame in WhatIf(past, models, history, load_rules(settings.pipeline.rules), question).frames(from_us, to_us):
            tally.count(frame)
        tally.finish()
    found = held(tally.as_plain(), limits)
    passed = "all conditions hold"
    say(f"gate {gate}: {tally.frames} frames compared; {'; '.join(found.broken) or passed}")
    return Gate(
        name="whatif",
        window_from_us=from_us,
        window_to_us=to_us,
        conditions=limits,
        measures=found.measures,
        passed=not found.broken,
        detail="; ".join(found.broken) or passed,
    )
