"""From tokens to a result, by precedence climbing: each level is one row of this table.

::

    lowest    in to as             a unit                           5 km in miles
              + -                                                   200 + 10 %
              * / // % mod of      % here: a number or ( follows    17.5 % of 2,340
              - +                  before a value
              ** ^                 from the right                   2 ** 3 ** 2
    highest   ! % and units        after a value; % as in 10 %      5!   12 ft

Parsing builds small functions and computes nothing, so that `parse` can say what an expression is
without the cost, or the error, of its value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from actors.tool_user.calculation import functions
from actors.tool_user.calculation.cursor import CONVERT, Cursor
from actors.tool_user.calculation.numbers import PI, E
from actors.tool_user.calculation.quantities import (
    Quantity,
    add,
    divide,
    floor_divide,
    multiply,
    negate,
    raise_to,
)
from actors.tool_user.calculation.tokens import Token, tokens
from actors.tool_user.calculation.units import Unit
from protocol.errors import InvalidRequest

MAX_DEPTH = 50
"""Parentheses and signs within one another: far below where Python's own stack ends."""

Compute = Callable[[], Quantity]
Binary = Callable[[Quantity, Quantity], Quantity]

_ADDITIVE: dict[str, Binary] = {
    "+": lambda left, right: add(left, right, 1),
    "-": lambda left, right: add(left, right, -1),
}
_MULTIPLICATIVE: dict[str, Binary] = {
    "*": multiply,
    "of": lambda left, right: multiply(replace(left, percent=False), right),
    "/": divide,
    "//": lambda left, right: floor_divide(left, right, remainder=False),
    "%": lambda left, right: floor_divide(left, right, remainder=True),
    "mod": lambda left, right: floor_divide(left, right, remainder=True),
}
_CONSTANTS = {"pi": PI, "π": PI, "e": E}


class Expression:
    """A parsed expression. ``operations`` counts what there is to be done in it."""

    def __init__(self, compute: Compute, operations: int) -> None:
        self.compute = compute
        """Raises `InvalidRequest` where there is no result."""
        self.operations = operations


def parse(text: str) -> Expression:
    """Raises `InvalidRequest` that says what was expected, and where."""
    parser = _Parser(tokens(text))
    compute = parser.conversion()
    parser.expect_end()
    return Expression(compute, parser.operations)


class _Parser(Cursor):
    def __init__(self, found: list[Token]) -> None:
        super().__init__(found)
        self._depth = 0
        self.operations = 0

    # --- the levels, from the lowest ----------------------------------------------------------

    def conversion(self) -> Compute:
        value = self._sum()
        while self.peek().kind == "name" and self.peek().text.lower() in CONVERT:
            self.take()
            unit = self.unit()
            if unit is None:
                raise self.wrong("a unit")
            value = self._converted(value, unit)
        return value

    def _converted(self, value: Compute, unit: Unit) -> Compute:
        self.operations += 1
        return lambda: value().converted(unit)

    def _sum(self) -> Compute:
        return self._level(_ADDITIVE, self._product)

    def _product(self) -> Compute:
        return self._level(_MULTIPLICATIVE, self._signed)

    def _level(self, operators: dict[str, Binary], operand: Callable[[], Compute]) -> Compute:
        left = operand()
        while (operator := self.peek().text.lower()) in operators:
            if operator == "of" and self._tokens[self._next - 1].text != "%":
                # "7 of 9" is a name, or a score, but nothing to be computed.
                raise self.wrong("a percentage")
            self.take()
            left = self._binary(operators[operator], left, operand())
        return left

    def _binary(self, operate: Binary, left: Compute, right: Compute) -> Compute:
        self.operations += 1
        return lambda: operate(left(), right())

    def _signed(self) -> Compute:
        if self.peek().text not in ("-", "+"):
            return self._power()
        sign = self.take().text
        with_sign = self._deeper(self._signed)
        return with_sign if sign == "+" else lambda: negate(with_sign())

    def _power(self) -> Compute:
        base = self._postfix()
        if self.peek().text not in ("**", "^"):
            return base
        self.take()
        # The exponent may have a sign, and takes further powers to its right.
        return self._binary(raise_to, base, self._deeper(self._signed))

    # --- one value and what stands behind it ----------------------------------------------------

    def _postfix(self) -> Compute:
        value = self._with_unit(self._value())
        while True:
            if self.peek().text == "!":
                self.take()
                value = self._applied(functions.factorial, value)
            elif self.peek().text == "%" and not self._begins_value(1):
                self.take()
                value = self._applied(_as_percent, value)
            else:
                return value

    def _applied(self, function: Callable[[Quantity], Quantity], value: Compute) -> Compute:
        self.operations += 1
        return lambda: function(value())

    def _with_unit(self, value: Compute) -> Compute:
        unit = self.unit()
        return value if unit is None else lambda: _measured(value(), unit)

    def _value(self) -> Compute:
        token = self.take()
        if token.kind == "number":
            number = Quantity(token.value)
            return lambda: number
        if token.text == "(":
            inner = self._deeper(self.conversion)
            self.expect(")")
            return inner
        if token.kind == "name":
            return self._named(token)
        if token.kind != "end":
            self._next -= 1
        raise self.wrong("a number")

    def _named(self, token: Token) -> Compute:
        name = token.text.lower()
        if name in functions.FUNCTIONS:
            return self._call(name)
        if name in _CONSTANTS:
            constant = Quantity(_CONSTANTS[name], exact=False)
            return lambda: constant
        raise InvalidRequest(
            f"{token.text!r} at character {token.at + 1} means nothing to the calculator; it knows "
            f"pi, e and {', '.join(sorted(functions.FUNCTIONS))}"
        )

    def _call(self, name: str) -> Compute:
        self.operations += 1
        if self.peek().text != "(":
            # "sqrt 16", "square root of 16"
            if self.peek().text.lower() == "of":
                self.take()
            only = self._deeper(self._postfix)
            return lambda: functions.call(name, [only()])
        self.take()
        arguments = [self._deeper(self.conversion)]
        while self.peek().text == ",":
            self.take()
            arguments.append(self._deeper(self.conversion))
        self.expect(")")
        return lambda: functions.call(name, [one() for one in arguments])

    def _begins_value(self, ahead: int) -> bool:
        token = self._tokens[min(self._next + ahead, len(self._tokens) - 1)]
        named = token.text.lower() in functions.FUNCTIONS or token.text.lower() in _CONSTANTS
        return token.kind == "number" or token.text == "(" or (token.kind == "name" and named)

    def _deeper(self, parse_it: Callable[[], Compute]) -> Compute:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidRequest(f"more than {MAX_DEPTH} parentheses and signs within one another")
        found = parse_it()
        self._depth -= 1
        return found


def _as_percent(one: Quantity) -> Quantity:
    value = functions.plain(one, "a percentage")
    return Quantity(value / 100, one.exact, percent=True)


def _measured(one: Quantity, unit: Unit) -> Quantity:
    made = Quantity.of(functions.plain(one, f"{unit.name}"), unit)
    return replace(made, exact=one.exact)
