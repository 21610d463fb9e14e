"""What is said to a command that is not carried out: a code for programs, a sentence for people. Pure."""

from dataclasses import dataclass, replace

from processors.step import Cause
from schemas.types import SourcePosition


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command is not carried out."""

    code: str
    detail: str


def source_at(cause: Cause, index: int) -> SourcePosition:
    """The source of the index-th event of a command."""
    return replace(cause.position, index=index)
