"""What is said to a command that is not carried out: a code for programs, a sentence for people. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command is not carried out."""

    code: str
    detail: str
