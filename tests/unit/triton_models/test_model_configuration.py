"""A model's config.pbtxt: what it may say, and what of it stands for it."""

import pytest

from schemas.errors import ContractError
from triton_models.model_configuration import canonical, inputs_of, parse_configuration, problem_with_configuration

GOOD = """name: "people" backend: "python"
input [ { name: "IMAGE" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "RESULT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


def problem(text: str, versions: tuple[int, ...] = (1,)) -> str | None:
    return problem_with_configuration(parse_configuration(text, where="x"), model="people", versions=versions)


def test_a_configuration_is_the_same_however_it_is_written() -> None:
    """Spaces, order, comments, a left out name and the version policy make no difference; a tensor does."""
    other = """# ours
    backend: "python"
    output { name: "RESULT" data_type: TYPE_STRING dims: 1 }
    input { name: "IMAGE" dims: 1 data_type: TYPE_STRING }
    version_policy { specific { versions: [ 1, 4 ] } }"""
    one, two = (canonical(parse_configuration(text, where="x"), model="people") for text in (GOOD, other))
    assert one == two
    assert canonical(parse_configuration(GOOD.replace("[ 1 ]", "[ 2 ]", 1), where="x"), model="people") != one


def test_a_batched_model_takes_one_dimension_more() -> None:
    """The server adds the batch to the dims that a configuration names."""
    (image,) = inputs_of(parse_configuration(f"{GOOD} max_batch_size: 8", where="x"))
    assert image.dims == (-1, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace('"people"', '"others"'), 'it is named "others", and the model is registered as people'),
        (GOOD.replace('backend: "python"', ""), "it names no backend"),
        (GOOD.replace('backend: "python"', 'platform: "ensemble"'), "it is an ensemble's"),
        (GOOD.replace("output", "input"), "it has no output"),
        (GOOD.replace("dims: [ 1 ]", "", 1), "IMAGE has no data_type, or no dims"),
        (f"{GOOD} version_policy {{ specific {{ versions: 2 }} }}", "its version_policy leaves out version 1"),
    ],
)
def test_what_a_model_cannot_say_is_named(text: str, told: str) -> None:
    """Another name, no backend, an ensemble, no tensors, a version that would not be served."""
    assert problem(GOOD) is None
    assert told in str(problem(text))


def test_what_is_no_configuration_is_refused_with_its_line() -> None:
    """The place of the mistake is in the message."""
    with pytest.raises(ContractError, match=r"c\.pbtxt: 2:1"):
        parse_configuration('name: "x"\nbakcend: "python"', where="c.pbtxt")
