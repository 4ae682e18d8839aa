"""GBNF as llama.cpp reads it, down to what it takes for the end of a rule.

::

    grammar      rules, each in lines of its own; # begins a comment
    rule         name ::= alternatives              a name: letters, digits and -
    alternatives sequence | sequence | …            a new line only after ::= and |, or in ( )
    sequence     items, each maybe with * + ? {m} {m,} {m,n} behind it
    item         "text"  [a-z]  [^a-z]  .  name  ( alternatives )
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from actors.engine.grammars.rules import ANY, ROOT, Alternative, Chars, Element, Rules
from protocol.errors import InvalidRequest

MAX_REPETITIONS = 2000
"""As in llama.cpp: more of them are refused, and an upper bound above it is taken for none."""
MAX_DEPTH = 100
"""Groups within one another: far below where Python's own stack ends."""
MAX_ELEMENTS = 200_000
"""With repetitions written out. A grammar of the longest that a request may have, all text, has a
third of it."""

_NAME = re.compile(r"[A-Za-z0-9-]+")
_NUMBER = re.compile(r"[0-9]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_LINE_END = re.compile(r"\r\n?|\n|\Z")
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def parse(grammar: str) -> Rules:
    """Raises `InvalidRequest` that says what was expected, and where."""
    return _Parser(grammar).grammar()


class Names:
    """New names for rules, none of them one of ``taken``. Case makes no difference, as llguidance
    makes none."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name.lower() for name in taken}
        self._numbers: dict[str, int] = {}

    def new(self, base: str) -> str:
        """One that begins with ``base``."""
        while True:
            number = self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}-{number}"
            if name.lower() not in self._taken:
                return name


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._names = Names(_NAME.findall(text))
        self._rules: Rules = {}
        self._mentioned: dict[str, int] = {ROOT: 0}
        """Each rule's name, and where it is first wanted."""
        self._elements = 0
        self._depth = 0

    def grammar(self) -> Rules:
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            self._rule()
        for name, at in self._mentioned.items():
            if name not in self._rules:
                raise self._wrong(f"there is no rule {name}", at)
        return self._rules

    def _rule(self) -> None:
        name = self._take(_NAME, "the name of a rule")
        self._skip(_SPACE)
        self._expect("::=")
        self._skip(_SPACE_AND_LINES)
        # Where a name comes twice, the last one counts, as in llama.cpp.
        self._rules[name] = self._alternatives(name, _SPACE)
        self._take(_LINE_END, "the end of the line")
        self._skip(_SPACE_AND_LINES)

    def _alternatives(self, name: str, space: re.Pattern[str]) -> tuple[Alternative, ...]:
        found = [self._sequence(name, space)]
        while self._next() == "|":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            found.append(self._sequence(name, space))
        return tuple(found)

    def _sequence(self, name: str, space: re.Pattern[str]) -> Alternative:
        sequence: list[Element] = []
        last: Alternative = ()
        """What a repetition is one of."""
        while (sign := self._next()) and sign not in "|)\r\n":
            if sign in "*+?{":
                if not last:
                    raise self._wrong(f"there is nothing before {sign} to be repeated")
                least, most = self._times(space)
                del sequence[len(sequence) - len(last) :]
                last = self._repeated(name, last, least, most)
            else:
                last = self._item(name, sign)
            sequence += last
            self._count(len(last))
            self._skip(space)
        return tuple(sequence)

    # --- items ----------------------------------------------------------------------------

    def _item(self, name: str, sign: str) -> Alternative:
        if sign == '"':
            return self._literal()
        if sign == "[":
            return (self._class(),)
        if sign == ".":
            self._at += 1
            return (ANY,)
        if sign == "(":
            return (self._group(name),)
        if sign in "<!":
            raise self._wrong(
                "tokens of a model (<…>) have no place here: another model has none of them; "
                "write the text"
            )
        at = self._at
        mentioned = self._take(_NAME, "text, [characters], a rule's name or a group")
        self._mentioned.setdefault(mentioned, at)
        return (mentioned,)

    def _literal(self) -> Alternative:
        self._at += 1
        found: list[Element] = []
        while self._next() != '"':
            code = self._char()
            found.append(Chars(((code, code),)))
        self._at += 1
        return tuple(found)

    def _class(self) -> Chars:
        begins = self._at
        self._at += 1
        negated = self._next() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while self._next() != "]":
            low = high = self._char()
            if self._next() == "-" and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._char()
            if high < low:
                raise self._wrong("a range goes from the lower character to the higher one")
            ranges.append((low, high))
        self._at += 1
        if not ranges:
            raise self._wrong("[] has no character", begins)
        return Chars(tuple(ranges), negated)

    def _char(self) -> int:
        char = self._next()
        if not char:
            raise self._wrong('a " or ] that closes it is missing')
        self._at += 1
        if char != "\\":
            return ord(char)
        kind = self._next()
        digits = _HEX_DIGITS.get(kind)
        if digits is None:
            if kind not in _ESCAPED:
                raise self._wrong(f"\\{kind} is no escape")
            self._at += 1
            return ord(_ESCAPED[kind])
        self._at += 1
        pattern = re.compile(f"[0-9A-Fa-f]{{{digits}}}")
        return int(self._take(pattern, f"{digits} hexadecimal digits"), 16)

    def _group(self, name: str) -> str:
        if self._depth == MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} groups within one another")
        self._depth += 1
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        group = self._new(name, *self._alternatives(name, _SPACE_AND_LINES))
        self._expect(")")
        self._depth -= 1
        return group

    # --- repetitions ----------------------------------------------------------------------

    def _times(self, space: re.Pattern[str]) -> tuple[int, int | None]:
        """How often at least, and at most; None is no bound."""
        sign = self._next()
        self._at += 1
        if sign != "{":
            return (1 if sign == "+" else 0), (1 if sign == "?" else None)
        self._skip(space)
        least = self._number()
        most: int | None = least
        self._skip(space)
        if self._next() == ",":
            self._at += 1
            self._skip(space)
            most = None if self._next() == "}" else self._number()
            self._skip(space)
        if least > MAX_REPETITIONS:
            raise self._wrong(f"more than {MAX_REPETITIONS} repetitions")
        if most is not None and most < least:
            raise self._wrong(f"at most {most} cannot be at least {least}")
        self._expect("}")
        return least, None if most is None or most > MAX_REPETITIONS else most

    def _repeated(self, name: str, item: Alternative, least: int, most: int | None) -> Alternative:
        if len(item) > 1:
            item = (self._new(name, item),)
        always = item * least
        if most is None:
            again = self._names.new(name)
            self._rules[again] = ((*item, again), ())
            self._count(2)
            return (*always, again)
        maybe: Alternative = ()
        for _ in range(most - least):
            maybe = (self._new(name, item + maybe, ()),)
            self._count(2)
        return always + maybe

    def _new(self, base: str, *alternatives: Alternative) -> str:
        name = self._names.new(base)
        self._rules[name] = alternatives
        return name

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > MAX_ELEMENTS:
            raise self._wrong(
                f"the grammar has more than {MAX_ELEMENTS} elements up to here, with what is "
                "repeated written out; let rules or numbers of repetitions go"
            )

    # --- the text -------------------------------------------------------------------------

    def _next(self) -> str:
        """The next character; none at the end."""
        return self._text[self._at : self._at + 1]

    def _skip(self, space: re.Pattern[str]) -> None:
        found = space.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._wrong(f"expected {what}")
        self._at = found.end()
        return found.group()

    def _expect(self, sign: str) -> None:
        if not self._text.startswith(sign, self._at):
            raise self._wrong(f"expected {sign}")
        self._at += len(sign)

    def _number(self) -> int:
        digits = self._take(_NUMBER, "a number")
        # Python refuses to read numbers of thousands of digits.
        return int(digits) if len(digits) < 10 else MAX_REPETITIONS + 1

    def _wrong(self, why: str, at: int | None = None) -> InvalidRequest:
        before = self._text[: self._at if at is None else at]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return InvalidRequest(f"the grammar, line {line}, column {column}: {why}")
