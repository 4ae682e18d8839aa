"""The calculator: exact arithmetic, percentages and units."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from actors.tool_user.calculation.grammar import parse
from actors.tool_user.calculation.showing import show
from actors.tool_user.calculation.words import expression_of, surely_a_sum

MATCH_ORDER = 20
EXAMPLES = {
    "what is 17.5 % of 2,340?": {"expression": "17.5 % of 2,340"},
    "how much is 200 + 10 %": {"expression": "200 + 10 %"},
    "5 km in miles": {"expression": "5 km in miles"},
    "2 to the power of 64": {"expression": "2 ** 64"},
    "square root of 2": {"expression": "sqrt 2"},
}


def calculator(
    expression: Annotated[
        str,
        Field(
            description="what to compute, such as (3 + 4) * 5 ** 2, 17.5 % of 2,340 or 72 F in C"
        ),
    ],
) -> str:
    """Calculates: arithmetic, percentages, powers, roots, logarithms, and conversions of units.

    Exact wherever a result is; one that begins with ≈ is rounded to 15 digits. A comma groups
    thousands, a point begins the decimals. % followed by a number is the remainder.
    """
    return show(parse(expression_of(expression)).compute())


def match(text: str) -> dict[str, Any] | None:
    """Arithmetic, or a question for a conversion, and nothing beside it."""
    expression = surely_a_sum(text)
    return None if expression is None else {"expression": expression}
