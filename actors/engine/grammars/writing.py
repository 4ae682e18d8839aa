"""Rules as GBNF again, so that llama.cpp of any version, and llguidance, read the same."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from actors.engine.grammars.rules import ANY, ROOT, Alternative, Chars, Element, Rules

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def write(rules: Rules) -> str:
    """The rules that ``root`` needs, directly or not, in the order in which they are needed."""
    written: dict[str, str] = {}
    todo = [ROOT]
    while todo:
        name = todo.pop()
        if name in written:
            continue
        alternatives = rules[name]
        written[name] = f"{name} ::= {' | '.join(map(_sequence, alternatives))}\n"
        needed = [one for each in alternatives for one in each if isinstance(one, str)]
        todo += reversed(needed)
    return "".join(written.values())


def _sequence(sequence: Alternative) -> str:
    if not sequence:
        return '""'
    parts: list[str] = []
    for single, run in groupby(sequence, _is_single):
        elements = list(run)
        parts += [_literal(elements)] if single else map(_element, elements)
    return " ".join(parts)


def _is_single(element: Element) -> bool:
    """Whether it is one character and no other."""
    if isinstance(element, str) or element.negated or len(element.ranges) != 1:
        return False
    low, high = element.ranges[0]
    return low == high


def _literal(elements: Iterable[Element]) -> str:
    codes = [one.ranges[0][0] for one in elements if isinstance(one, Chars)]
    return f'"{"".join(map(_in_literal, codes))}"'


def _element(element: Element) -> str:
    if isinstance(element, str):
        return element
    if element == ANY:
        return "."
    ranges = (
        _in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}"
        for low, high in element.ranges
    )
    return f"[{'^' if element.negated else ''}{''.join(ranges)}]"


def _in_literal(code: int) -> str:
    return _ESCAPES.get(_plain(code), "") or _plain(code) or _numbered(code)


def _in_class(code: int) -> str:
    # Of the ASCII signs several mean something in a class, and not the same ones everywhere.
    plain = _plain(code)
    sign = code < 0x7F and not plain.isalnum() and plain not in " \n\r\t"
    return _numbered(code) if sign or not plain else _ESCAPES.get(plain, plain)


def _plain(code: int) -> str:
    """The character itself, where it can be read."""
    char = chr(code) if code <= 0x10FFFF else ""
    return char if char in _ESCAPES or char.isprintable() else ""


def _numbered(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
