"""Releases of any models: joined by their tensors' names, or refused with the names."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from schemas.errors import ContractError
from triton_models.configuration import ensemble_config
from triton_models.ensemble import GIVEN, WANTED, Member, ensemble_text, hold_joined
from triton_models.repository import RELEASES
from triton_models.wiring import TensorSpec

BOXES = TensorSpec(name="BOXES", data_type="TYPE_FP32", dims=(-1, 4))
FINDS = Member(step="finds", model="finder", version=7, inputs=GIVEN, outputs=(BOXES,))
SAYS = Member(step="says", model="sayer", version=2, inputs=(BOXES,), outputs=WANTED)


def test_the_reference_pipeline_has_the_text_that_it_always_had() -> None:
    """Triton starts anew what was touched: a change here would restart every release that is in use."""
    found = {name: hashlib.sha256(ensemble_config(name, pins).encode()).hexdigest()[:16] for name, pins in RELEASES.items()}
    assert found == {"gate_reader_r1": "dbb954a9ff702398", "gate_reader_r2": "914cdc0b3a0918df"}


def test_steps_are_joined_by_the_names_of_their_tensors_and_pinned() -> None:
    """In whatever order they are named; an optional input that nobody gives is left out."""
    unasked = TensorSpec(name="HINTS", data_type="TYPE_STRING", dims=(1,), optional=True)
    members = (replace(SAYS, inputs=(BOXES, unasked)), FINDS)
    hold_joined("yard_r1", members)
    parsed = text_format.Parse(ensemble_text("yard_r1", members), model_config_pb2.ModelConfig())
    says, finds = parsed.ensemble_scheduling.step
    assert (says.model_name, says.model_version, finds.model_name, finds.model_version) == ("sayer", 2, "finder", 7)
    assert (dict(says.input_map), dict(finds.output_map)) == ({"BOXES": "BOXES"}, {"BOXES": "BOXES"})
    assert [t.name for t in parsed.input] == ["IMAGE", "PARAMETERS"]
    assert [t.name for t in parsed.output] == ["RESULT", "REPORT"]


CASES = {
    "missing": SimpleNamespace(members=(SAYS,), told="step says takes BOXES, and no step gives it"),
    "nothing comes back": SimpleNamespace(members=(FINDS,), told="no step gives RESULT"),
    "twice": SimpleNamespace(
        members=(FINDS, replace(FINDS, step="also"), SAYS), told="BOXES is given by step finds and by step also"
    ),
    "type": SimpleNamespace(
        members=(FINDS, replace(SAYS, inputs=(replace(BOXES, data_type="TYPE_FP16"),))),
        told=r"step says takes BOXES as TYPE_FP16 \[-1, 4\], and step finds gives BOXES as TYPE_FP32 \[-1, 4\]",
    ),
    "shape": SimpleNamespace(
        members=(FINDS, replace(SAYS, inputs=(replace(BOXES, dims=(-1, 5)),))),
        told=r"step says takes BOXES as TYPE_FP32 \[-1, 5\]",
    ),
    "rank": SimpleNamespace(
        members=(FINDS, replace(SAYS, inputs=(replace(BOXES, dims=(-1, -1, 4)),))), told=r"TYPE_FP32 \[-1, -1, 4\]"
    ),
    "batched": SimpleNamespace(
        members=(replace(FINDS, inputs=(replace(GIVEN[0], dims=(-1, 1)),)), SAYS),
        told="and the caller gives IMAGE as TYPE_STRING",
    ),
    "circle": SimpleNamespace(
        members=(
            replace(FINDS, inputs=(BOXES,), outputs=(replace(BOXES, name="A"),)),
            replace(SAYS, inputs=(replace(BOXES, name="A"),), outputs=(*WANTED, BOXES)),
        ),
        told="in a circle: step .* <- step .* <- step",
    ),
    "own name": SimpleNamespace(members=(replace(FINDS, model="yard_r1"), SAYS), told="a model has its name"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_by_name(case: str) -> None:
    """A tensor without a source, with two, with another type or shape; a circle; a name that is taken."""
    with pytest.raises(ContractError, match=CASES[case].told):
        hold_joined("yard_r1", CASES[case].members)
