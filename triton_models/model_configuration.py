"""A model's own config.pbtxt, read with Triton's schema and held to what a model of a release may say.

Owns the canonical text of a configuration: what is registered, and compared between versions of one name. It leaves the
version policy out, because the versions that lie there decide it.

Next: `ensemble` joins configured models; `topology.registering` stores the text, `topology.model_folder` writes it.
"""

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from schemas.errors import ContractError

from .wiring import TensorSpec

_PYTHON_BACKENDS = ("python",)
"""Backends of the Triton that comes with this package. Others are known to other builds of the server."""


def parse_configuration(text: str, *, where: str) -> model_config_pb2.ModelConfig:
    """A config.pbtxt as the server reads it.

    Raises:
        ContractError: it is not Triton's text format; the line is named.
    """
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ContractError(f"{where}: {error}", do="see Triton's model configuration") from error


def problem_with_configuration(config: model_config_pb2.ModelConfig, *, model: str, versions: tuple[int, ...]) -> str | None:
    """Why a model of this name and these versions cannot have the configuration; None when it can."""
    if config.name and config.name != model:
        return f'it is named "{config.name}", and the model is registered as {model}'
    if config.platform == "ensemble" or config.HasField("ensemble_scheduling"):
        return "it is an ensemble's; register the models, and make the ensemble with `hindsight releases register`"
    if not config.backend and not config.platform:
        return 'it names no backend, such as backend: "python"'
    if not config.input or not config.output:
        return "it has no input" if not config.input else "it has no output"
    for tensors in (config.input, config.output):
        names = [tensor.name for tensor in tensors]
        if twice := sorted({name for name in names if not name or names.count(name) > 1}):
            return f"a tensor has no name, or one that stands twice: {', '.join(twice) or 'no name'}"
        if without := [t.name for t in tensors if not t.dims or t.data_type == model_config_pb2.TYPE_INVALID]:
            return f"{', '.join(without)} has no data_type, or no dims"
    return _left_out(config, versions)


def canonical(config: model_config_pb2.ModelConfig, *, model: str) -> str:
    """The text that stands for a configuration: the same for every way of writing it, without a version policy."""
    copy = model_config_pb2.ModelConfig()
    copy.CopyFrom(config)
    copy.name = model
    copy.ClearField("version_policy")
    return str(text_format.MessageToString(copy))


def served(text: str) -> str:
    """A canonical configuration as the server is to have it: every version that lies there is served, so that adding one
    changes no file of the others."""
    return f"{text}version_policy {{ all {{}} }}\n"


def is_known_here(config: model_config_pb2.ModelConfig) -> bool:
    """Whether this package's own Triton has the backend; what it lacks cannot be tried here."""
    return config.backend in _PYTHON_BACKENDS


def inputs_of(config: model_config_pb2.ModelConfig) -> tuple[TensorSpec, ...]:
    return tuple(_spec(config, tensor, optional=tensor.optional) for tensor in config.input)


def outputs_of(config: model_config_pb2.ModelConfig) -> tuple[TensorSpec, ...]:
    return tuple(_spec(config, tensor) for tensor in config.output)


def _left_out(config: model_config_pb2.ModelConfig, versions: tuple[int, ...]) -> str | None:
    policy = config.version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and (without := sorted(set(versions) - set(policy.specific.versions))):
        return f"its version_policy leaves out version {', '.join(map(str, without))}"
    return None


def _spec(config: model_config_pb2.ModelConfig, tensor: object, *, optional: bool = False) -> TensorSpec:
    """A tensor with its full shape: the batch of a batched model is its first dimension."""
    kind = model_config_pb2.DataType.Name(tensor.data_type)  # type: ignore[attr-defined]  # one of two generated classes
    batch = (-1,) if config.max_batch_size > 0 else ()
    return TensorSpec(
        name=tensor.name,  # type: ignore[attr-defined]
        data_type=kind,
        dims=(*batch, *tensor.dims),  # type: ignore[attr-defined]
        optional=optional,
    )
