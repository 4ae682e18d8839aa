"""The functions that an expression may call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from actors.tool_user.calculation import numbers
from actors.tool_user.calculation.quantities import Quantity, plain
from protocol.errors import InvalidRequest

__all__ = ["FUNCTIONS", "call", "factorial", "plain"]

_Pair = tuple[Fraction, bool]


def factorial(one: Quantity) -> Quantity:
    """Of a plain whole number."""
    return Quantity(numbers.factorial(plain(one, "factorial")), one.exact)


def _of_number(name: str, function: Callable[[Fraction], _Pair]) -> Callable[..., Quantity]:
    def apply(one: Quantity) -> Quantity:
        value, exact = function(plain(one, name))
        return Quantity(value, exact and one.exact)

    return apply


def _on_scale(function: Callable[[Fraction], Fraction]) -> Callable[..., Quantity]:
    """Of the number before the unit: floor(2.5 km) is 2 km."""

    def apply(one: Quantity) -> Quantity:
        if one.unit is None:
            return replace(one, value=function(one.value))
        made = Quantity.of(function(one.shown_value()), one.unit)
        return replace(made, exact=one.exact)

    return apply


def _round(one: Quantity, places: Quantity | None = None) -> Quantity:
    digits = Fraction(0) if places is None else plain(places, "round")
    if digits != int(digits) or abs(digits) > 100:
        raise InvalidRequest("round takes from -100 to 100 places, a whole number")
    step = Fraction(10) ** -int(digits)

    def nearest(value: Fraction) -> Fraction:
        # Half away from zero, as taught at school; Python's own goes to the even one.
        return _half_up(value / step) * step

    return _on_scale(nearest)(one)


def _half_up(value: Fraction) -> Fraction:
    whole = Fraction(math.floor(abs(value) + Fraction(1, 2)))
    return whole if value >= 0 else -whole


def _extreme(choose: Callable[..., Any]) -> Callable[..., Quantity]:
    def apply(*several: Quantity) -> Quantity:
        if len({one.dimension for one in several}) > 1:
            raise InvalidRequest("what is compared must have the same kind of unit")
        chosen: Quantity = choose(several, key=lambda one: one.value)
        return chosen

    return apply


def _of_whole(function: Callable[..., int], name: str) -> Callable[..., Quantity]:
    def apply(*several: Quantity) -> Quantity:
        values = [plain(one, name) for one in several]
        if any(value.denominator != 1 for value in values):
            raise InvalidRequest(f"{name} takes whole numbers")
        return Quantity(numbers.bounded(Fraction(function(*(int(value) for value in values)))))

    return apply


# (how many arguments at least and at most, the function)
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Quantity]]] = {
    "abs": (1, 1, _on_scale(abs)),
    "ceil": (1, 1, _on_scale(lambda value: Fraction(math.ceil(value)))),
    "exp": (1, 1, _of_number("exp", numbers.exponential)),
    "factorial": (1, 1, factorial),
    "floor": (1, 1, _on_scale(lambda value: Fraction(math.floor(value)))),
    "gcd": (1, 20, _of_whole(math.gcd, "gcd")),
    "lcm": (1, 20, _of_whole(math.lcm, "lcm")),
    "ln": (1, 1, _of_number("ln", lambda value: numbers.logarithm(value, None))),
    "log": (1, 1, _of_number("log", lambda value: numbers.logarithm(value, 10))),
    "log2": (1, 1, _of_number("log2", lambda value: numbers.logarithm(value, 2))),
    "log10": (1, 1, _of_number("log10", lambda value: numbers.logarithm(value, 10))),
    "max": (1, 20, _extreme(max)),
    "min": (1, 20, _extreme(min)),
    "round": (1, 2, _round),
    "sqrt": (1, 1, _of_number("sqrt", numbers.square_root)),
}


def call(name: str, arguments: list[Quantity]) -> Quantity:
    """The function's value. Raises `InvalidRequest` for a wrong number of arguments too."""
    least, most, function = FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InvalidRequest(f"{name} takes {wanted} arguments, not {len(arguments)}")
    return function(*arguments)
