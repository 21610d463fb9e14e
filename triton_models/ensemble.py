"""The ensemble of any release: models joined by the names of their tensors, every version pinned.

What one step gives as BOXES, another takes as BOXES. The caller gives IMAGE and PARAMETERS; RESULT and REPORT come back.

Guarantees: each tensor has one source, and its type and shape fit wherever it is taken; no step waits for itself.

Next: `configuration` makes the reference pipeline's with it; `topology.model_folder` everybody else's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from schemas.errors import ContractError

from .wiring import TENSORS, TensorSpec

GIVEN = (TENSORS["IMAGE"], TENSORS["PARAMETERS"])
"""What the caller gives: an encoded picture, and a JSON object of numbers by name."""
WANTED = (TENSORS["RESULT"], TENSORS["REPORT"])
"""What the caller reads: what is seen, and what the steps say of themselves, both JSON."""
_CALLER = "the caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A step of a release: the pinned model version that does its work, and the model's tensors."""

    step: str
    model: str
    version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def hold_joined(name: str, members: tuple[Member, ...]) -> None:
    """Hold the steps of a release to each other.

    Raises:
        ContractError: a tensor has no source, or two, or two types or shapes; or the steps wait for one another in a circle.
    """
    if problem := next(_problems(name, members), None):
        raise ContractError(f"release {name}: {problem}", do="tensors join the steps by their names; see their config.pbtxt")


def ensemble_text(name: str, members: tuple[Member, ...], *, given: tuple[TensorSpec, ...] = GIVEN) -> str:
    """The configuration of an ensemble.

    Args:
        name: Its name. Triton keeps one configuration for all versions of a name, so each release has one of its own.
        members: Steps that `hold_joined` let pass.
        given: What the caller gives.
    Source: Triton's ModelEnsembling; a batched ensemble fails on frames with no crops, hence max_batch_size 0.
    """
    sources = {tensor.name for tensor in given} | {tensor.name for member in members for tensor in member.outputs}
    lines = [f'name: "{name}"', 'platform: "ensemble"', "max_batch_size: 0"]
    lines += [tensors_text("input", given), tensors_text("output", WANTED)]
    lines.append("version_policy { specific { versions: [ 1 ] } }")
    steps = ",\n".join(_step_text(member, sources) for member in members)
    lines.append("ensemble_scheduling { step [\n" + steps + "\n] }")
    return "\n".join(lines) + "\n"


def tensors_text(direction: str, tensors: tuple[TensorSpec, ...]) -> str:
    """The inputs or outputs of a configuration."""
    return f"{direction} [\n" + ",\n".join(_tensor_text(tensor) for tensor in tensors) + "\n]"


def _problems(name: str, members: tuple[Member, ...]) -> Iterator[str]:
    if name in {member.model for member in members}:
        yield f"a model has its name, and {name} would be both in the inference server; give the release another name"
    named = [member.step for member in members]
    if twice := sorted({step for step in named if named.count(step) > 1}):
        yield f"step {', '.join(twice)} stands twice"
    sources: dict[str, tuple[str, TensorSpec]] = {tensor.name: (_CALLER, tensor) for tensor in GIVEN}
    for member in members:
        for tensor in member.outputs:
            if tensor.name in sources:
                yield f"{tensor.name} is given by {sources[tensor.name][0]} and by step {member.step}"
            sources[tensor.name] = (f"step {member.step}", tensor)
    yield from _unfit(members, sources)
    for tensor in WANTED:
        if tensor.name not in sources:
            yield f"no step gives {tensor.name}"
        elif not _fits(sources[tensor.name][1], tensor):
            yield f"{_shown(tensor)} comes back, and {sources[tensor.name][0]} gives {_shown(sources[tensor.name][1])}"
    yield from _circles(members, sources)


def _unfit(members: tuple[Member, ...], sources: Mapping[str, tuple[str, TensorSpec]]) -> Iterator[str]:
    for member in members:
        for tensor in member.inputs:
            if tensor.name not in sources:
                if not tensor.optional:
                    yield f"step {member.step} takes {tensor.name}, and no step gives it"
                continue
            giver, found = sources[tensor.name]
            if not _fits(found, tensor):
                yield f"step {member.step} takes {_shown(tensor)}, and {giver} gives {_shown(found)}"


def _circles(members: tuple[Member, ...], sources: Mapping[str, tuple[str, TensorSpec]]) -> Iterator[str]:
    waits = {
        f"step {m.step}": {sources[t.name][0] for t in m.inputs if t.name in sources and sources[t.name][0] != _CALLER}
        for m in members
    }
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        yield f"steps wait for one another in a circle: {' <- '.join(error.args[1])}"


def _fits(given: TensorSpec, taken: TensorSpec) -> bool:
    if given.data_type != taken.data_type or len(given.dims) != len(taken.dims):
        return False
    return all(-1 in (one, other) or one == other for one, other in zip(given.dims, taken.dims, strict=True))


def _shown(tensor: TensorSpec) -> str:
    return f"{tensor.name} as {tensor.data_type} [{', '.join(map(str, tensor.dims))}]"


def _step_text(member: Member, sources: set[str]) -> str:
    lines = [f'  {{ model_name: "{member.model}" model_version: {member.version}']
    for direction, tensors in (("input", member.inputs), ("output", member.outputs)):
        names = [tensor.name for tensor in tensors if tensor.name in sources]
        lines += [f'    {direction}_map {{ key: "{name}" value: "{name}" }}' for name in names]
    return "\n".join(lines) + " }"


def _tensor_text(tensor: TensorSpec) -> str:
    dims = ", ".join(map(str, tensor.dims))
    optional = " optional: true" if tensor.optional else ""
    return f'  {{ name: "{tensor.name}" data_type: {tensor.data_type} dims: [ {dims} ]{optional} }}'
