"""The challenges of Fix: their pieces, and the only way to put them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import LabError


class NoSuchPiece(LabError):
    """The answer does not consist of the given pieces."""


@dataclass(frozen=True)
class Line:
    """A place in the view. options: what can stand there; "" leaves it out. model: the number of
    the right one. moves: whether it may change places with the others that move."""

    key: str
    options: list[str]
    model: int = 0
    moves: bool = False


@dataclass(frozen=True)
class Challenge:
    """lines: in the order in which the reader finds them. prelude: what stands above them.
    model_order: the right order of the lines that move."""

    key: str
    title: str
    story: str
    prelude: str
    hints: list[str]
    explanation: str
    lines: list[Line]
    model_order: list[str] = field(default_factory=list)

    def assemble(self, order: Sequence[object], choices: Mapping[str, object]) -> str:
        """The program that the reader has put together. Raises NoSuchPiece for anything else.

        order: the keys of the lines that move. choices: for lines with several options, which.
        """
        moving = [line.key for line in self.lines if line.moves]
        if sorted(map(str, order)) != sorted(moving):
            raise NoSuchPiece
        by_key = {line.key: line for line in self.lines}
        places = iter(map(str, order))
        keys = [next(places) if line.moves else line.key for line in self.lines]
        texts = [_chosen(by_key[key], choices.get(key, 0)) for key in keys]
        return "\n".join([self.prelude.strip(), "\n", *filter(None, texts), ""])

    def model(self) -> str:
        """The lines of the model answer, without the prelude."""
        choices = {line.key: line.model for line in self.lines}
        whole = self.assemble(self.model_order, choices)
        return whole[len(self.prelude.strip()) :].strip()


def _chosen(line: Line, number: object) -> str:
    if type(number) is not int or not 0 <= number < len(line.options):
        raise NoSuchPiece
    return line.options[number]
