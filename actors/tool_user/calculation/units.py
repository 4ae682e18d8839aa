"""Units: what each measures and how many of the base unit it is, exactly.

A dimension is the exponents of length, mass, time, temperature and data, so that km / h is a
speed and m * m an area without being told. Factors are the international definitions (inch 25.4 mm,
pound 0.45359237 kg, US gallon 231 cubic inches); a year is the Julian one, 365.25 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Dimension = tuple[int, int, int, int, int]

NOTHING: Dimension = (0, 0, 0, 0, 0)
LENGTH: Dimension = (1, 0, 0, 0, 0)
AREA: Dimension = (2, 0, 0, 0, 0)
VOLUME: Dimension = (3, 0, 0, 0, 0)
MASS: Dimension = (0, 1, 0, 0, 0)
TIME: Dimension = (0, 0, 1, 0, 0)
SPEED: Dimension = (1, 0, -1, 0, 0)
TEMPERATURE: Dimension = (0, 0, 0, 1, 0)
DATA: Dimension = (0, 0, 0, 0, 1)

_WORDS = {
    NOTHING: "a plain number", LENGTH: "a length", AREA: "an area", VOLUME: "a volume",
    MASS: "a mass", TIME: "a time", SPEED: "a speed", TEMPERATURE: "a temperature",
    DATA: "an amount of data",
}  # fmt: skip
_BASES = ("m", "kg", "s", "K", "B")


@dataclass(frozen=True, slots=True)
class Unit:
    """``value`` of it are ``value * factor + offset`` of the base units."""

    name: str
    dimension: Dimension
    factor: Fraction
    offset: Fraction = Fraction(0)

    def over(self, other: Unit) -> Unit:
        """This unit per the other one."""
        return Unit(f"{self.name}/{other.name}", combined(self.dimension, other.dimension, -1),
                    self.factor / other.factor)  # fmt: skip

    def to_the(self, exponent: int) -> Unit:
        """Its square or cube."""
        dimension: Dimension = NOTHING
        for _ in range(exponent):
            dimension = combined(dimension, self.dimension)
        return Unit(f"{self.name}^{exponent}", dimension, self.factor**exponent)


def combined(one: Dimension, other: Dimension, sign: int = 1) -> Dimension:
    """The dimension of a product, or with ``sign`` -1 of a quotient."""
    a, b, c, d, e = (x + sign * y for x, y in zip(one, other, strict=True))
    return (a, b, c, d, e)


def in_words(dimension: Dimension) -> str:
    """Such as ``a length``."""
    return _WORDS.get(dimension) or f"something in {base_unit(dimension).name}"


def base_unit(dimension: Dimension) -> Unit:
    """What results are shown in when nobody named a unit."""
    above = [_raised(b, n) for b, n in zip(_BASES, dimension, strict=True) if n > 0]
    below = [_raised(b, -n) for b, n in zip(_BASES, dimension, strict=True) if n < 0]
    name = "·".join(above) or "1"
    return Unit(f"{name}/{'/'.join(below)}" if below else name, dimension, Fraction(1))


def _raised(name: str, exponent: int) -> str:
    return name if exponent == 1 else f"{name}^{exponent}"


def find_unit(name: str) -> Unit | None:
    """The unit of that name: as it is written (MB is no Mb), else in small letters."""
    return _UNITS.get(name) or _UNITS.get(name.lower())


# (dimension, factor, names: the first is the one shown)
_TABLE: list[tuple[Dimension, str, str]] = [
    (LENGTH, "1", "m meter meters metre metres"),
    (LENGTH, "1000", "km kilometer kilometers kilometre kilometres"),
    (LENGTH, "0.1", "dm decimeter decimeters decimetre decimetres"),
    (LENGTH, "0.01", "cm centimeter centimeters centimetre centimetres"),
    (LENGTH, "0.001", "mm millimeter millimeters millimetre millimetres"),
    (LENGTH, "0.000001", "µm um micrometer micrometers micrometre micrometres micron microns"),
    (LENGTH, "0.000000001", "nm nanometer nanometers nanometre nanometres"),
    (LENGTH, "0.0254", "in inch inches"),
    (LENGTH, "0.3048", "ft foot feet"),
    (LENGTH, "0.9144", "yd yard yards"),
    (LENGTH, "1609.344", "mi mile miles"),
    (LENGTH, "1852", "nmi"),
    (MASS, "1", "kg kilo kilos kilogram kilograms"),
    (MASS, "0.001", "g gram grams gramme grammes"),
    (MASS, "0.000001", "mg milligram milligrams"),
    (MASS, "1000", "t tonne tonnes"),
    (MASS, "0.45359237", "lb lbs pound pounds"),
    (MASS, "0.028349523125", "oz ounce ounces"),
    (MASS, "6.35029318", "st stone stones"),
    (TIME, "1", "s sec secs second seconds"),
    (TIME, "0.001", "ms millisecond milliseconds"),
    (TIME, "0.000001", "µs us microsecond microseconds"),
    (TIME, "0.000000001", "ns nanosecond nanoseconds"),
    (TIME, "60", "min mins minute minutes"),
    (TIME, "3600", "h hr hrs hour hours"),
    (TIME, "86400", "d day days"),
    (TIME, "604800", "week weeks"),
    (TIME, "31557600", "year years"),
    (DATA, "1/8", "bit bits"),
    (DATA, "1", "B byte bytes"),
    (DATA, "1000", "kB KB kilobyte kilobytes"),
    (DATA, "1000000", "MB megabyte megabytes"),
    (DATA, "1000000000", "GB gigabyte gigabytes"),
    (DATA, "1000000000000", "TB terabyte terabytes"),
    (DATA, "1000000000000000", "PB petabyte petabytes"),
    (DATA, "1024", "KiB kibibyte kibibytes"),
    (DATA, "1048576", "MiB mebibyte mebibytes"),
    (DATA, "1073741824", "GiB gibibyte gibibytes"),
    (DATA, "1099511627776", "TiB tebibyte tebibytes"),
    (DATA, "125", "kbit kilobit kilobits"),
    (DATA, "125000", "Mbit Mb megabit megabits"),
    (DATA, "125000000", "Gbit Gb gigabit gigabits"),
    (AREA, "1", "m² m2 sqm"),
    (AREA, "1000000", "km² km2"),
    (AREA, "0.0001", "cm² cm2"),
    (AREA, "10000", "ha hectare hectares"),
    (AREA, "4046.8564224", "acre acres"),
    (AREA, "0.09290304", "sqft ft² ft2"),
    (VOLUME, "1", "m³ m3"),
    (VOLUME, "0.000001", "cm³ cm3 cc"),
    (VOLUME, "0.001", "l liter liters litre litres"),
    (VOLUME, "0.0001", "dl deciliter deciliters decilitre decilitres"),
    (VOLUME, "0.00001", "cl centiliter centiliters centilitre centilitres"),
    (VOLUME, "0.000001", "ml milliliter milliliters millilitre millilitres"),
    (VOLUME, "0.003785411784", "gal gallon gallons"),
    (VOLUME, "0.000946352946", "qt quart quarts"),
    (VOLUME, "0.000473176473", "pt pint pints"),
    (VOLUME, "0.0002365882365", "cup cups"),
    (SPEED, "0.44704", "mph"),
    (SPEED, "5/18", "km/h kmh kph"),
    (SPEED, "1852/3600", "kn knot knots"),
]
_UNITS: dict[str, Unit] = {
    name: Unit(names.split()[0], dimension, Fraction(factor.split("/")[0]) / Fraction(
        factor.partition("/")[2] or "1"
    ))
    for dimension, factor, names in _TABLE
    for name in names.split()
}  # fmt: skip
# Absolute temperatures: the offset is that of the scale's zero.
for _name, _factor, _offset, _names in (
    ("°C", Fraction(1), Fraction("273.15"), "°C °c C c celsius centigrade"),
    ("°F", Fraction(5, 9), Fraction("273.15") - Fraction(160, 9), "°F °f F f fahrenheit"),
    ("K", Fraction(1), Fraction(0), "K kelvin kelvins"),
):
    for _one in _names.split():
        _UNITS[_one] = Unit(_name, TEMPERATURE, _factor, _offset)
