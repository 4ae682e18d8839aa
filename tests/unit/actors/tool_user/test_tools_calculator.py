"""The calculator: exact, with percentages and units, and never longer at it than a moment."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tool_user.calculation.grammar import MAX_DEPTH, parse
from actors.tool_user.calculation.tokens import MAX_CHARACTERS
from actors.tool_user.tools.calculator import calculator, match
from protocol.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("2 ** 3 ** 2", "512"),
        ("2 ^ 10", "1024"),
        ("-2 ** 2", "-4"),
        ("2 ** -1", "0.5"),
        ("--3", "3"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("-7 mod 3", "2"),
        ("0.1 + 0.2", "0.3"),
        ("1,234,567.5 * 2", "2469135"),
        ("1_000 + 1", "1001"),
        ("1.5e3 + .5", "1500.5"),
        ("2 × 3 ÷ 4 − 1", "0.5"),
        ("5!", "120"),
        ("3 * 2!", "6"),
        ("10 - 4 - 3", "3"),
        ("100 / 10 / 5", "2"),
        ("2 ** 64", "18446744073709551616"),
    ],
)
def test_arithmetic_is_exact(text: str, result: str) -> None:
    assert calculator(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("17.5 % of 2,340", "409.5"),
        ("200 + 10 %", "220"),
        ("200 - 10%", "180"),
        ("10 % of 50 + 1", "6"),
        ("50 + 10 % of 200", "70"),
        ("5 % + 10 %", "0.15"),
        ("50 % of 80 kg", "40 kg"),
        ("100 percent of 3", "3"),
        ("10 % 3 + 1", "2"),
    ],
)
def test_a_percentage_is_of_what_stands_beside_it(text: str, result: str) -> None:
    assert calculator(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("sqrt 16", "4"),
        ("sqrt(2.25)", "1.5"),
        ("8 ** (1/3)", "2"),
        ("log(1000) + log2(8)", "6"),
        ("ln 1", "0"),
        ("exp 0", "1"),
        ("max(1,200, 3)", "200"),
        ("min(2, -3)", "-3"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(3.14159, 2)", "3.14"),
        ("floor(-1.5) + ceil(1.5)", "0"),
        ("abs(-3 km)", "3 km"),
        ("factorial(5)", "120"),
    ],
)
def test_functions_are_exact_where_they_can_be(text: str, result: str) -> None:
    assert calculator(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("sqrt 2", "≈ 1.4142135623731"),
        ("1 / 3", "≈ 0.333333333333333 (exactly 1/3)"),
        ("exp 1", "≈ 2.71828182845905"),
        ("2 * pi", "≈ 6.28318530717959"),
        ("ln 10", "≈ 2.30258509299405"),
        ("2 ** 0.5 * 2 ** 0.5", "≈ 2"),
        ("1 / 7 ** 40", "≈ 1.57064631394884E-34"),
    ],
)
def test_a_result_that_is_rounded_says_so(text: str, result: str) -> None:
    assert calculator(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("5 km in miles", "≈ 3.10685596118667 mi"),
        ("1 mile in km", "1.609344 km"),
        ("72 F in C", "≈ 22.2222222222222 °C"),
        ("-40 F in C", "-40 °C"),
        ("0 °C in K", "273.15 K"),
        ("12 in in cm", "30.48 cm"),
        ("1 kg in lb", "≈ 2.20462262184878 lb"),
        ("90 minutes in hours", "1.5 h"),
        ("1 GiB in MB", "1073.741824 MB"),
        ("8 Mb in MB", "1 MB"),
        ("1 acre in square meters", "4046.8564224 m^2"),
        ("3 m * 2 m", "6 m^2"),
        ("2 m^3 in liters", "2000 l"),
        ("1 gallon in l", "3.785411784 l"),
        ("100 km / 2 h", "50 km/h"),
        ("36 km/h in m/s", "10 m/s"),
        ("60 mph in km/h", "96.56064 km/h"),
        ("10 km / 2 km", "5"),
        ("3 ft + 12 in", "4 ft"),
        ("2 * 3 kg", "6 kg"),
    ],
)
def test_units_are_converted_and_reckoned_with(text: str, result: str) -> None:
    assert calculator(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0", "5 % 0", "1 // (2 - 2)", "0 ** -1", "0 ** -0.5", "sqrt(-1)", "(-8) ** 0.5", "ln 0",
        "(-3)!", "2.5!", "5 kg in km", "5 kg + 3 m", "20 C * 2", "20 C + 5 C", "2 ** (3 kg)",
        "gcd(1.5, 2)", "round(1, 2, 3)", "5 in kg",
    ],
)  # fmt: skip
def test_what_has_no_result_is_a_clear_error(text: str) -> None:
    with pytest.raises(InvalidRequest):
        calculator(text)


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9", "9**9**9**9**9", "10 ** 1001", "1000000!", "99999999999999!", "1e999999999",
        "2 ** 4000", "(1/3) ** 99999", "exp(99999)", "(10**900) * (10**900)", "1.5 ** 1e9",
        "2 ** 1e500", "exp(exp(exp(9)))", "((((9!)!)!)!)!",
    ],
)  # fmt: skip
def test_what_would_be_huge_is_refused_before_it_is_computed(text: str) -> None:
    # Computed, each of these would take the memory or the test's whole time.
    with pytest.raises(InvalidRequest, match="digits"):
        calculator(text)


def test_powers_of_one_and_nought_are_small_whatever_the_exponent() -> None:
    assert calculator("1 ** 1e900 + (-1) ** 1e900 + 0 ** 1e900") == "2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("2 +", "a number at the end"),
        ("(1 + 2", r"'\)' at the end"),
        ("1 + * 2", "before '\\*', character 5"),
        ("2 (3)", "an operator"),
        ("2 ; 3", "';' at character 3"),
        ("love", "'love' at character 1"),
        ("5 km in", "a unit at the end"),
        ("7 of 9", "a percentage"),
        ("__import__('os')", "'_' at character 1"),
        ("1" * (MAX_CHARACTERS + 1), "characters"),
        ("(" * (MAX_DEPTH + 1) + "1", "within one another"),
        ("-" * 900 + "1", "within one another"),
        ("2**" * 300 + "1", "within one another"),
    ],
)
def test_what_is_no_expression_says_what_and_where(text: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        calculator(text)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("what is 17.5 % of 2,340?", "17.5 % of 2,340"),
        ("What's 2+2", "2+2"),
        ("how much is 3 times 4 plus 2?", "3 * 4 + 2"),
        ("calculate 10 divided by 4", "10 / 4"),
        ("2 to the power of 10", "2 ** 10"),
        ("7 x 8", "7 * 8"),
        ("square root of 16", "sqrt 16"),
        ("how many feet are in 2 miles?", "2 miles in feet"),
        ("convert 5 miles to km.", "5 miles to km"),
        ("12 squared", "12 **2"),
        ("What is 1/0?", "1/0"),
        ("5!", "5!"),
        ("what is 5!?", "5!"),
        ("What is 2+2?!", "2+2"),
        ("2+2 =", "2+2"),
    ],
)
def test_a_question_for_a_sum_is_matched(text: str, expression: str) -> None:
    assert match(text) == {"expression": expression}


@pytest.mark.parametrize(
    "text",
    [
        "what is love?", "what is 42?", "", "42", "what is pi", "2024-05-01", "555-1234", "24/7",
        "what is 9/11?", "7 of 9", "Who was Louis XIV?", "what is 2 in a row?", "5 km", "3 in 1",
        "My 2 cents + 3 more", "what is 2+2 and why?", "Tell me 3 jokes", "C++", "-5", "what is e",
        "what is the meaning of life, 42?",
    ],
)  # fmt: skip
def test_what_is_not_surely_a_sum_is_left_to_others(text: str) -> None:
    assert match(text) is None


_whole = st.integers(-999, 999)


@given(_whole, _whole, _whole, st.sampled_from("+-*"), st.sampled_from("+-*"))
def test_whole_numbers_come_out_as_python_has_them(a: int, b: int, c: int, f: str, g: str) -> None:
    text = f"{a} {f} ({b}) {g} ({c})"
    # Python's own grammar is the reference; the text is made here, of numbers and signs alone.
    assert parse(text).compute().value == Fraction(eval(text))


@given(st.text(alphabet="0123456789 .,+-*/%^()!eEkminofsqrt°C", max_size=40))
def test_any_text_gives_a_result_or_the_one_error(text: str) -> None:
    match(text)
    with contextlib.suppress(InvalidRequest):
        assert calculator(text)
