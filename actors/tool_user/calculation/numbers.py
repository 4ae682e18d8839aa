"""Exact numbers that cannot grow without bound.

Values are fractions. What has no exact value (a root, a logarithm) is computed to `DIGITS`
significant digits and marked. Before each operation the size of its result is estimated, so that
``9 ** 9 ** 9`` ends at once, and not when the memory does.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from protocol.errors import InvalidRequest

MAX_DIGITS = 1000
"""Digits of the largest numerator or denominator: far beyond what is read, computed in no time."""
DIGITS = 34
"""Significant digits of what has no exact value (IEEE 754 decimal128); 15 of them are shown."""

_MAX_BITS = math.ceil(MAX_DIGITS * math.log2(10))
_CONTEXT = decimal.Context(prec=DIGITS, Emax=MAX_DIGITS, Emin=-MAX_DIGITS)
PI = Fraction("3.1415926535897932384626433832795028841971693993751")
E = Fraction("2.7182818284590452353602874713526624977572470936999")


def bounded(value: Fraction) -> Fraction:
    """The value. Raises `InvalidRequest` when it has more than `MAX_DIGITS` digits."""
    if _bits(value) > _MAX_BITS:
        raise _too_large()
    return value


def power(base: Fraction, exponent: Fraction) -> tuple[Fraction, bool]:
    """``base ** exponent`` and whether it is exact."""
    if exponent.denominator == 1:
        return _whole_power(base, exponent.numerator), True
    if base < 0:
        raise InvalidRequest(
            f"{base} to the power of {exponent} is no real number; the base must not be negative"
        )
    if base == 0:
        if exponent < 0:
            raise division_by_zero()
        return Fraction(0), True
    root = exact_root(base, exponent.denominator)
    if root is not None:
        return _whole_power(root, exponent.numerator), True
    return _decimal(lambda c: c.power(to_decimal(base), to_decimal(exponent))), False


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The root of a positive value, where it is a fraction itself and ``degree`` is small."""
    if degree > 64:
        return None
    top, bottom = (_whole_root(part, degree) for part in (value.numerator, value.denominator))
    return None if top is None or bottom is None else Fraction(top, bottom)


def square_root(value: Fraction) -> tuple[Fraction, bool]:
    """The root and whether it is exact."""
    if value < 0:
        raise InvalidRequest(
            f"the square root of {value} is no real number; it must not be negative"
        )
    return power(value, Fraction(1, 2))


def logarithm(value: Fraction, base: int | None) -> tuple[Fraction, bool]:
    """To base 2 or 10, or the natural one (None), and whether it is exact."""
    if value <= 0:
        raise InvalidRequest(f"{value} has no logarithm; it must be above zero")
    if base is None:
        return (
            (Fraction(0), True)
            if value == 1
            else (_decimal(lambda c: c.ln(to_decimal(value))), False)
        )
    whole = round(math.log(value.numerator, base) - math.log(value.denominator, base))
    if _whole_power(Fraction(base), whole) == value:
        return Fraction(whole), True
    return _decimal(lambda c: c.divide(c.ln(to_decimal(value)), c.ln(Decimal(base)))), False


def exponential(value: Fraction) -> tuple[Fraction, bool]:
    """e to the power of the value, and whether it is exact."""
    if value == 0:
        return Fraction(1), True
    return _decimal(lambda c: c.exp(to_decimal(value))), False


def factorial(value: Fraction) -> Fraction:
    """Of a whole number that is not negative."""
    if value.denominator != 1 or value < 0:
        raise InvalidRequest(f"{value} has no factorial; it must be a whole number from 0 on")
    # ln n! by Stirling; from 1e6 on it is too large without looking.
    if value > 10**6 or math.lgamma(int(value) + 1) / math.log(2) > _MAX_BITS:
        raise _too_large()
    return Fraction(math.factorial(int(value)))


def division_by_zero() -> InvalidRequest:
    """The error for it."""
    return InvalidRequest("division by zero has no result; change the divisor")


def to_decimal(value: Fraction) -> Decimal:
    """To `DIGITS` significant digits."""
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    if base == 0 and exponent < 0:
        raise division_by_zero()
    if base not in (0, 1, -1) and (_bits(base) - 1) * abs(exponent) > _MAX_BITS:
        raise _too_large()
    # Of 0, 1 and -1 every power is small, and only whether it is odd counts.
    return bounded(base**exponent if base not in (1, -1) else base ** (exponent % 2))


def _whole_root(value: int, degree: int) -> int | None:
    if value < 2 or degree == 1:
        return value
    # By halving: exact for any size, in as many steps as the root has bits.
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high - 1:
        middle = (low + high) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle
    return low if low**degree == value else None


def _decimal(compute: Callable[[decimal.Context], Decimal]) -> Fraction:
    with decimal.localcontext(_CONTEXT) as context:
        try:
            return bounded(Fraction(compute(context)))
        except (decimal.Overflow, decimal.Underflow):
            raise _too_large() from None
        except decimal.InvalidOperation:
            raise InvalidRequest("that has no real result") from None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"a number on the way has more than {MAX_DIGITS} digits; use smaller numbers or powers"
    )
