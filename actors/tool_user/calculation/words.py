"""From the words of a question to an expression, and whether it surely is one. Pure."""

from __future__ import annotations

import re

from actors.tool_user.calculation.grammar import parse
from protocol.errors import InvalidRequest

_ASKING = re.compile(
    r"^(?:please\s+)?(?:what(?:'s|’s|\s+is|\s+are|s)|how\s+much\s+(?:is|are)|calculate|compute|evaluate|"
    r"convert|tell\s+me|solve)\s+(?:the\s+(?:result|value)\s+of\s+)?",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(
    r"^how\s+many\s+(?P<unit>.+?)\s+(?:are|is|do|does|make)\s+(?:there\s+)?(?:in\s+)?(?P<what>.*\d.*?)$",
    re.IGNORECASE,
)
# Longer ones first, as "multiplied by" holds "by".
_WORDS = (
    (r"to the power of|raised to(?: the power of)?", "**"),
    (r"multiplied by|times", "*"),
    (r"divided by|over", "/"),
    (r"plus", "+"),
    (r"minus", "-"),
    (r"modulo", "mod"),
    (r"squared", "**2"),
    (r"cubed", "**3"),
    (r"per ?cent", "%"),
    (r"(?:the )?square root(?: of)?", "sqrt"),
    (r"(?:the )?factorial of", "factorial"),
    (r"degrees? (?=celsius|fahrenheit|c\b|f\b)", ""),
    (r"nautical miles?", "nmi"),
)
_REPLACED = tuple(
    (re.compile(rf"\b(?:{words})(?!\w)", re.IGNORECASE), sign) for words, sign in _WORDS
)
# Looks like arithmetic and is none: dates, telephone numbers, and what is a name by now.
_NO_SUM = re.compile(r"^(?:\d{4}-\d{1,2}-\d{1,2}|\d{3}-\d{4}|\d{1,2}/\d{1,2}/\d{2,4}|24/7|9/11)$")
_PRIMED = re.compile(r"(?<=\d)[xX](?=\s*\d)|(?<=\s)[xX](?=\s+[\d(])")


def expression_of(text: str) -> str:
    """The text without the words of a question, its words for signs as signs."""
    question, _, rest = text.partition("?")
    if not rest.strip("?!=. "):
        text = question
    # An exclamation mark stays: it may be a factorial.
    text = text.strip().rstrip("=. ")
    asked = _HOW_MANY.match(text)
    text = f"{asked['what']} in {asked['unit']}" if asked else _ASKING.sub("", text)
    for words, sign in _REPLACED:
        text = words.sub(f" {sign} " if sign else "", text)
    return re.sub(r"\s+", " ", _PRIMED.sub("*", text)).strip()


def surely_a_sum(text: str) -> str | None:
    """The expression that the text surely is, with something to be computed; else None."""
    expression = expression_of(text)
    if not re.search(r"\d", expression) or _NO_SUM.match(expression):
        return None
    try:
        parsed = parse(expression)
    except InvalidRequest:
        return None
    return expression if parsed.operations else None
