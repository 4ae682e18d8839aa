"""From text to tokens: numbers, names and signs, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from actors.tool_user.calculation.numbers import MAX_DIGITS
from protocol.errors import InvalidRequest

MAX_CHARACTERS = 1000
"""Of an expression: nobody types a longer one, and what follows need not be fast."""

Kind = Literal["number", "name", "sign", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """One piece. ``value`` is set for a number."""

    kind: Kind
    text: str
    at: int
    """The character it begins at, from 0."""
    value: Fraction = Fraction(0)
    spaced: bool = False
    """Whether white space stands before it."""


_GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[_']\d{3})+(?!\d)"
_EXPONENT = r"(?:[eE][+-]?\d+(?![A-Za-z\d]))?"
_NUMBER = re.compile(rf"(?:(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+){_EXPONENT}")
_UNGROUPED = re.compile(rf"(?:\d+(?:\.\d+)?|\.\d+){_EXPONENT}")
SEVERAL = ("gcd", "lcm", "max", "min", "round")
"""Functions of several arguments: in their parentheses a comma separates, it groups nothing."""
_NAME = re.compile(r"km/h|°[CFcf]|[A-Za-zµ]+[²³]?")
_UNIT_WITH_DIGIT = re.compile(r"(?:k|c)?m[23](?!\d)|ft[23](?!\d)|log(?:2|10)(?!\d)")
_SIGN = re.compile(r"\*\*|//|[-+*/%^(),!]")
_SAME = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "＋": "+", "μ": "µ"})


def tokens(text: str) -> list[Token]:
    """All tokens and an end. Raises `InvalidRequest` that names what has no meaning, and where."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"the expression has {len(text)} characters, at most {MAX_CHARACTERS} are taken"
        )
    text = text.translate(_SAME)
    found: list[Token] = []
    separating: list[bool] = []
    at = 0
    while True:
        start = at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return [*found, Token("end", "", at)]
        number = _UNGROUPED if separating and separating[-1] else _NUMBER
        token = _token(text, at, number, spaced=at > start)
        if token.text == "(":
            separating.append(bool(found) and found[-1].text.lower() in SEVERAL)
        elif token.text == ")" and separating:
            separating.pop()
        found.append(token)
        at += len(token.text)


def _token(text: str, at: int, numbers: re.Pattern[str], *, spaced: bool) -> Token:
    number = numbers.match(text, at)
    if number:
        return Token("number", number[0], at, _value(number[0]), spaced)
    name = _UNIT_WITH_DIGIT.match(text, at) or _NAME.match(text, at)
    if name:
        return Token("name", name[0], at, spaced=spaced)
    sign = _SIGN.match(text, at)
    if sign:
        return Token("sign", sign[0], at, spaced=spaced)
    raise InvalidRequest(f"{text[at]!r} at character {at + 1} means nothing to the calculator")


def _value(text: str) -> Fraction:
    digits, _, exponent = re.sub(r"[,_']", "", text).lower().partition("e")
    # Looked at before it is computed: 1e999999999 is short.
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise InvalidRequest(f"{text} has more than {MAX_DIGITS} digits; use a smaller number")
    return Fraction(digits) * Fraction(10) ** int(exponent or 0)
