"""A result in words: exact where that can be read, else rounded, and then it says so. Pure."""

from __future__ import annotations

import decimal
from fractions import Fraction

from actors.tool_user.calculation.numbers import to_decimal
from actors.tool_user.calculation.quantities import Quantity

SHOWN_DIGITS = 15
"""Significant digits of a rounded result: what a double holds, and enough for any use."""
_MOST_PLACES = 30
"""An exact result with more decimal places than this is not read by anybody."""


def show(result: Quantity) -> str:
    """Such as ``409.5``, ``≈ 3.10685596118667 mi`` or ``≈ 0.333333333333333 (exactly 1/3)``."""
    value = result.shown_value()
    unit = f" {result.unit.name}" if result.unit is not None else ""
    places = decimal_places(value)
    if result.exact and places is not None:
        return f"{_exact_decimal(value, places)}{unit}"
    rounded = f"≈ {_rounded(value)}{unit}"
    short = max(len(str(value.numerator)), len(str(value.denominator))) <= 6
    return f"{rounded} (exactly {value})" if result.exact and short and not unit else rounded


def decimal_places(value: Fraction) -> int | None:
    """How many an exact decimal takes; None when it never ends, or is too long to read."""
    left, twos, fives = value.denominator, 0, 0
    while left % 2 == 0:
        left, twos = left // 2, twos + 1
    while left % 5 == 0:
        left, fives = left // 5, fives + 1
    places = max(twos, fives)
    return places if left == 1 and places <= _MOST_PLACES else None


def _exact_decimal(value: Fraction, places: int) -> str:
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def _rounded(value: Fraction) -> str:
    short = decimal.Context(prec=SHOWN_DIGITS).plus(to_decimal(value)).normalize()
    # Plain notation while it is short; 1E+20 is easier to read than its zeros.
    return f"{short:f}" if -7 < short.adjusted() < 21 else str(short)
