"""Naming a rules module: what is there is loaded, what is missing is named."""

import pytest

from processors.rules.contract import load
from schemas.errors import ConfigurationError


def test_the_reference_rules_fulfil_the_contract() -> None:
    """The module that the settings name by default loads."""
    assert load("processors.rules.container_codes").NAME == "container_codes"


@pytest.mark.parametrize(("module", "named"), [("no.such.module", "cannot be imported"), ("json", "NAME, VERSION, read")])
def test_a_module_that_is_none_is_refused_by_name(module: str, named: str) -> None:
    """The setting and what is wrong stand in the error."""
    with pytest.raises(ConfigurationError, match=named) as refusal:
        load(module)
    assert refusal.value.setting == "pipeline.rules"
