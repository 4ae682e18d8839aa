"""A number with what it measures, and how such are reckoned with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from actors.tool_user.calculation.numbers import bounded, division_by_zero, power
from actors.tool_user.calculation.units import (
    NOTHING,
    TEMPERATURE,
    Dimension,
    Unit,
    base_unit,
    combined,
    in_words,
)
from protocol.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Quantity:
    """``value`` is in base units; ``unit`` is the one to show it in."""

    value: Fraction
    exact: bool = True
    unit: Unit | None = None
    dimension: Dimension = NOTHING
    percent: bool = False
    """Whether it was written as a percentage: then it is added as a part of the other side."""

    @classmethod
    def of(cls, value: Fraction, unit: Unit) -> Quantity:
        """So many of that unit."""
        return cls(bounded(value * unit.factor + unit.offset), True, unit, unit.dimension)

    def shown_value(self) -> Fraction:
        """The number before its unit."""
        if self.unit is None:
            return self.value
        return (self.value - self.unit.offset) / self.unit.factor

    def converted(self, unit: Unit) -> Quantity:
        """The same in another unit. Raises `InvalidRequest` when that measures something else."""
        if unit.dimension != self.dimension:
            raise InvalidRequest(
                f"{in_words(self.dimension)} cannot be told in {unit.name}, which measures "
                f"{in_words(unit.dimension)}"
            )
        return replace(self, unit=unit)


def add(left: Quantity, right: Quantity, sign: int) -> Quantity:
    """The sum, or with ``sign`` -1 the difference; a percentage is one of the left side."""
    if right.percent and not left.percent:
        right = multiply(left, replace(right, percent=False))
        return _made(left.value + sign * right.value, left, right, left.dimension, left.unit)
    if left.dimension != right.dimension:
        raise InvalidRequest(
            f"{in_words(left.dimension)} and {in_words(right.dimension)} cannot be added or "
            "subtracted; give both the same kind of unit"
        )
    _no_temperature(left)
    unit = left.unit or right.unit
    sum_ = _made(left.value + sign * right.value, left, right, left.dimension, unit)
    return replace(sum_, percent=left.percent and right.percent)


def multiply(left: Quantity, right: Quantity) -> Quantity:
    """The product."""
    _no_temperature(left, right)
    dimension = combined(left.dimension, right.dimension)
    return _made(
        left.value * right.value, left, right, dimension, _product_unit(left, right, dimension)
    )


def divide(left: Quantity, right: Quantity) -> Quantity:
    """The quotient."""
    _no_temperature(left, right)
    if right.value == 0:
        raise division_by_zero()
    dimension = combined(left.dimension, right.dimension, -1)
    unit = left.unit if right.dimension == NOTHING else None
    if unit is None and left.unit and right.unit and dimension != NOTHING:
        unit = left.unit.over(right.unit)
    return _made(left.value / right.value, left, right, dimension, unit)


def floor_divide(left: Quantity, right: Quantity, *, remainder: bool) -> Quantity:
    """The whole quotient, rounded down as in Python, or what remains."""
    _no_temperature(left, right)
    if left.dimension != right.dimension:
        raise InvalidRequest(
            "whole division and remainders need the same kind of unit on both sides"
        )
    if right.value == 0:
        raise division_by_zero()
    if remainder:
        return _made(left.value % right.value, left, right, left.dimension, left.unit)
    return _made(Fraction(left.value // right.value), left, right, NOTHING, None)


def raise_to(left: Quantity, right: Quantity) -> Quantity:
    """The power."""
    if right.dimension != NOTHING:
        raise InvalidRequest("an exponent must be a plain number")
    if left.dimension == NOTHING:
        value, exact = power(left.value, right.value)
        return Quantity(value, exact and left.exact and right.exact)
    _no_temperature(left)
    if right.value not in (1, 2, 3):
        raise InvalidRequest("what has a unit can be raised to 1, 2 or 3 only")
    result = left
    for _ in range(int(right.value) - 1):
        result = multiply(result, left)
    return result


def negate(one: Quantity) -> Quantity:
    """With the other sign. A temperature is negated on its own scale."""
    if one.unit is not None:
        return replace(one, value=-one.shown_value() * one.unit.factor + one.unit.offset)
    return replace(one, value=-one.value)


def plain(one: Quantity, what: str) -> Fraction:
    """The value of something that must have no unit."""
    if one.dimension != NOTHING:
        raise InvalidRequest(f"{what} takes a plain number, not {in_words(one.dimension)}")
    return one.value


def _made(
    value: Fraction, left: Quantity, right: Quantity, dimension: Dimension, unit: Unit | None
) -> Quantity:
    if unit is None and dimension != NOTHING:
        unit = base_unit(dimension)
    return Quantity(
        bounded(value),
        left.exact and right.exact,
        None if dimension == NOTHING else unit,
        dimension,
    )


def _product_unit(left: Quantity, right: Quantity, dimension: Dimension) -> Unit | None:
    if left.unit and right.unit:
        return left.unit.to_the(2) if left.unit == right.unit else base_unit(dimension)
    return left.unit or right.unit


def _no_temperature(*quantities: Quantity) -> None:
    if any(one.dimension == TEMPERATURE for one in quantities):
        raise InvalidRequest(
            "temperatures can be converted but not reckoned with: 20 °C is not twice 10 °C"
        )
