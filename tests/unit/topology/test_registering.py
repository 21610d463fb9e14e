"""What `hindsight releases register` takes for a step, a parameter and limits."""

import pytest

from schemas.errors import ConfigurationError
from topology.registering import _limits, _parameter, _step


def test_a_step_has_the_models_name_unless_it_is_given_another() -> None:
    """people:1 and detection=people:1."""
    assert _step("people:1") == ("people", "people", 1)
    assert _step("detection=people:12") == ("detection", "people", 12)


@pytest.mark.parametrize("text", ["people", "people:", ":1", "people:0", "people:-1", "people:latest", "detection=people"])
def test_what_pins_no_version_is_no_step(text: str) -> None:
    """There is no "latest" in a release."""
    with pytest.raises(ConfigurationError, match="is no step"):
        _step(text)


def test_parameters_and_limits_are_finite_numbers() -> None:
    """Each is written name=number, and name=least..most."""
    assert _parameter("speed=30") == ("speed", 30.0)
    assert _limits("speed=-1.5..80") == ("speed", (-1.5, 80.0))
    for text in ("speed", "speed=", "speed=nan", "speed=fast"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            _parameter(text)
    for text in ("speed=1", "speed=1..", "speed=..2", "speed=1..inf"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            _limits(text)
