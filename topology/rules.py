"""The business rules for those who look back: a past may be asked on a machine that does not have them."""

from collections.abc import Callable

from processors.rules.contract import Rules, load
from schemas.errors import ConfigurationError
from topology.settings import Settings


def rules_at_hand(settings: Settings, say: Callable[[str], None]) -> Rules | None:
    """The rules of the settings; None, and a word about it, where they cannot be imported."""
    try:
        return load(settings.pipeline.rules)
    except ConfigurationError as error:
        say(f"{error}; votes are not shown")
        return None
