"""Walking through tokens: looking, taking, complaining, and reading the unit that stands there."""

from __future__ import annotations

from collections.abc import Sequence

from actors.tool_user.calculation.tokens import Token
from actors.tool_user.calculation.units import LENGTH, TIME, Unit, find_unit
from protocol.errors import InvalidRequest

CONVERT = ("in", "to", "as", "into")
"""Words that a unit to tell the value in follows."""
_EXPONENTS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


class Cursor:
    """A place among tokens, the last of which is an end."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._next = 0

    # --- tokens ---------------------------------------------------------------------------------

    def peek(self) -> Token:
        """The token that comes next; it stays."""
        return self._tokens[self._next]

    def take(self) -> Token:
        """The token that comes next; it is passed, but for the end."""
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        elif self._next == 0:
            raise InvalidRequest("the expression is empty; give one such as 2 + 2")
        return token

    def expect(self, text: str) -> None:
        """Pass this one. Raises `InvalidRequest` when another stands here."""
        if self.peek().text != text:
            raise self.wrong(repr(text))
        self.take()

    def expect_end(self) -> None:
        """Raises `InvalidRequest` when something is left."""
        if self.peek().kind != "end":
            raise self.wrong("an operator or the end")

    def wrong(self, wanted: str) -> InvalidRequest:
        """The error that something else should stand here."""
        token = self.peek()
        where = (
            "at the end"
            if token.kind == "end"
            else f"before {token.text!r}, character {token.at + 1}"
        )
        return InvalidRequest(f"the expression needs {wanted} {where}")

    # --- units ----------------------------------------------------------------------------------

    def unit(self) -> Unit | None:
        """A unit, if one stands here: a name, its square or cube, or a length per time."""
        exponent = _EXPONENTS.get(self.peek().text.lower())
        if exponent is not None:
            self.take()
        token = self.peek()
        unit = find_unit(token.text) if token.kind == "name" else None
        if unit is None:
            if exponent is not None:
                raise self.wrong("a unit of length")
            return None
        if token.text.lower() == "in" and exponent is None and not self._is_inch():
            return None
        self.take()
        if unit.dimension == LENGTH and exponent is None:
            exponent = self._unit_exponent()
        if exponent is not None:
            return unit.to_the(exponent)
        return self._per_time(unit)

    def _is_inch(self) -> bool:
        """``in`` directly behind a number is the inch, unless it is followed by a unit to tell the
        number in: that is an error either way, and better explained there."""
        before = self._tokens[self._next - 1] if self._next else None
        if before is None or (before.kind != "number" and before.text.lower() not in CONVERT):
            return False
        after = self._tokens[self._next + 1]
        return (
            after.text.lower() in CONVERT or after.kind != "name" or find_unit(after.text) is None
        )

    def _unit_exponent(self) -> int | None:
        after = self._tokens[self._next : self._next + 2]
        if len(after) == 2 and after[0].text in ("^", "**") and after[1].text in ("2", "3"):
            self._next += 2
            return int(after[1].text)
        return None

    def _per_time(self, unit: Unit) -> Unit:
        if unit.dimension != LENGTH or self.peek().text not in ("/", "per"):
            return unit
        time = self._tokens[self._next + 1]
        per = find_unit(time.text) if time.kind == "name" else None
        if per is None or per.dimension != TIME:
            return unit
        self._next += 2
        return unit.over(per)
