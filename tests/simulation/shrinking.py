"""From a failing seed to a small world that fails alike, and the command that runs it again."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.shape import Shape

Troubles = Callable[[int, Shape], list[str]]
_OTHER_SEEDS = 6


@dataclass(frozen=True, slots=True)
class Small:
    """A world that fails, and in how many tries it was found."""

    seed: int
    shape: Shape
    trouble: str
    tries: int

    def command(self, plant: str = "") -> str:
        planted = f" --plant {plant}" if plant else ""
        return f"python -m tests.simulation {self.seed} {self.shape.words()}{planted}"


def shrink(seed: int, troubles: Troubles, *, shape: Shape | None = None, tries: int = 200) -> Small:
    """The smallest world that is found. A smaller world is another one: seeds beside are tried too.

    Args:
        troubles: What is wrong with the world of a seed and a shape; the kind of the first one is held on to.
        tries: Most worlds that are run.
    """
    shape = shape or Shape.of(seed)
    found = troubles(seed, shape)
    assert found, f"the world of seed {seed} does not fail"
    best, done = Small(seed, shape, found[0], 1), 1
    going = True
    while going:
        going = False
        for smaller in best.shape.smaller():
            for other in (best.seed, *range(_OTHER_SEEDS)):
                if done >= tries:
                    return Small(best.seed, best.shape, best.trouble, done)
                done += 1
                alike = [t for t in troubles(other, smaller) if kind_of(t) == kind_of(best.trouble)]
                if alike:
                    best, going = Small(other, smaller, alike[0], done), True
                    break
            if going:
                break
    return Small(best.seed, best.shape, best.trouble, done)


def kind_of(trouble: str) -> str:
    """A trouble without its names and numbers."""
    return " ".join(word for word in trouble.split() if word.isalpha())
