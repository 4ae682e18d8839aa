"""Which tool a text is meant for. Pure.

First the tools' own matchers, in their order: the first that says yes has it. Then the nearest by
vectors, if it is near enough. That none fits is a normal outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

from actors.tool_user.catalogue import Catalogue
from actors.tool_user.tool import Tool

Vector = Sequence[float]


MATCHED_CHARACTERS = 500
"""Of a text that matchers are asked about. What is surely meant for a tool is short, and patterns
on a long text can take a time that grows with its square."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A tool that says itself that the text is meant for it."""

    tool: Tool
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The tool that the text is most like, near or far."""

    tool: str
    score: float
    """Cosine, from -1 to 1."""


def find_exact(
    catalogue: Catalogue, text: str, complain: Callable[[str, str], None]
) -> Exact | None:
    """The first tool whose matcher takes the text with arguments that its function takes.

    A matcher that raises, or gives what its function would refuse, counts as no; ``complain`` is
    called with the tool's name and the problem.
    """
    if len(text) > MATCHED_CHARACTERS:
        return None
    for tool in catalogue.matchers():
        assert tool.match is not None
        try:
            arguments = tool.match(text)
            if arguments is None:
                continue
            tool.check(arguments)
        except Exception as error:  # noqa: BLE001 - code of the tool's author: must not stop others
            complain(tool.name, f"its matcher fails: {type(error).__name__}: {error}")
            continue
        return Exact(tool, arguments)
    return None


def texts_of(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Everything a text is compared with, and the tool it stands for."""
    return [
        (tool.name, text) for tool in catalogue for text in (_summary(tool), *sorted(tool.examples))
    ]


def _summary(tool: Tool) -> str:
    """The first paragraph: what follows is for whoever calls it."""
    return tool.description.split("\n\n")[0]


class Similarity:
    """Vectors of `texts_of`, and what is nearest among them.

    Raises ValueError when the vectors are not one for each text, all of one length.
    """

    def __init__(self, texts: Sequence[tuple[str, str]], vectors: Sequence[Vector]) -> None:
        if len(texts) != len(vectors) or len({len(one) for one in vectors}) > 1:
            raise ValueError(
                f"{len(vectors)} vectors for {len(texts)} texts, or of several lengths"
            )
        self._rows = [(name, _unit(one)) for (name, _), one in zip(texts, vectors, strict=True)]

    def nearest(self, vector: Vector) -> Nearest | None:
        """The nearest tool: its best text counts. None when there is no tool at all."""
        wanted = _unit(vector)
        scored = [
            Nearest(name, sum(map(mul, row, wanted)))
            for name, row in self._rows
            if len(row) == len(wanted)
        ]
        return max(scored, key=lambda one: one.score, default=None)


def _unit(vector: Vector) -> Vector:
    """Of length 1, so that a product is a cosine; a zero vector is like nothing and stays zero."""
    length = math.sqrt(sum(map(mul, vector, vector)))
    return [one / length for one in vector] if length > 0 else list(vector)
