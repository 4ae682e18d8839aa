"""Results and reports: JSON that crosses the wire, and is never taken for what it is not."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tool_user.limits import Limits
from actors.tool_user.orders import Order, read_report, told_end, told_error, told_value, unpacked
from actors.tool_user.results import NoJson, Shaped, shape
from protocol.errors import InvalidRequest, NotFound, ToolFailed

LIMITS = Limits()


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "plain", "text"),
    [
        ("hello", "hello", "hello"),
        (None, None, "null"),
        ({"a": [1, 2.5, True]}, {"a": [1, 2.5, True]}, '{"a": [1, 2.5, true]}'),
        (date(2024, 2, 29), "2024-02-29", "2024-02-29"),
        (Point(3), {"x": 3}, '{"x": 3}'),
        ((1, 2), [1, 2], "[1, 2]"),
        (2**64, "18446744073709551616", "18446744073709551616"),
        ({1: "é"}, {"1": "é"}, '{"1": "é"}'),
    ],
)
def test_a_value_becomes_json_and_text(value: object, plain: object, text: str) -> None:
    assert shape(value, 1000) == Shaped(plain, text)


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], object(), lambda: 1],
    ids=["nan", "infinity", "object", "lambda"],
)
def test_what_has_no_json_form_is_said(value: object) -> None:
    with pytest.raises(NoJson):
        shape(value, 1000)


def test_a_value_that_holds_itself_is_said() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NoJson):
        shape(endless, 1000)


def test_half_a_surrogate_pair_cannot_stop_the_wire() -> None:
    shaped = shape({"a": "\ud800b"}, 1000)
    assert msgspec.msgpack.encode([shaped.value, shaped.text])
    assert shaped.value["a"].endswith("b")


def test_what_is_exactly_as_long_as_allowed_is_whole() -> None:
    assert shape("x" * 100, 100) == Shaped("x" * 100, "x" * 100)


def test_what_is_too_long_is_cut_between_characters_and_says_so() -> None:
    shaped = shape("é" * 100, 101)
    assert shaped.truncated
    assert shaped.text.startswith("é" * 50 + "\n…")
    assert shaped.text.endswith("(cut: the first 100 of 200 bytes)")
    assert shaped.value == shaped.text


# --- reports --------------------------------------------------------------------------------


def failure(data: bytes, limits: Limits = LIMITS) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        read_report("greet", limits, data)
    return caught.value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_comes_through_as_it_was(value: object) -> None:
    shaped = shape(value, 10_000)
    assert read_report("greet", LIMITS, told_value(shaped) + told_end(0, b"printed")) == shaped


def test_an_exception_is_told_with_its_kind_place_and_what_was_printed() -> None:
    error = failure(
        told_error("greet", KeyError("Ann"), " (greet.py, line 3)") + told_end(0, b"hm")
    )
    assert error.message == "greet raised KeyError: 'Ann' (greet.py, line 3)"
    assert error.details == {"tool": "greet", "kind": "KeyError", "printed": "hm"}


def test_a_request_error_of_the_tool_comes_back_as_itself() -> None:
    with pytest.raises(NotFound, match="nobody"):
        read_report("greet", LIMITS, told_error("greet", NotFound("nobody"), "") + told_end(0, b""))


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (-signal.SIGSEGV, "crash", "killed by SIGSEGV"),
        (-signal.SIGXCPU, "cpu", "more than its 30 s of CPU time"),
        (3, "exit", "code 3"),
        (0, "no result", "only return it"),
        (-200, "crash", "signal 200"),
    ],
)
def test_an_end_without_a_result_says_how_it_ended(status: int, kind: str, told: str) -> None:
    error = failure(told_end(status, b"tail"))
    assert error.details == {"tool": "greet", "kind": kind, "printed": "tail"}
    assert told in error.message


def test_a_result_of_a_process_that_then_crashed_is_no_result() -> None:
    data = told_value(Shaped("x", "x")) + told_end(-signal.SIGKILL, b"")
    assert failure(data).details["kind"] == "crash"


@pytest.mark.parametrize(
    "junk",
    [b"", b"junk", b"\n\n\n", b'{"value": 1}', b'{"status": 0}\n', b"[" * 5000, b"\xff\0",
     json.dumps({"error": {"code": "overloaded", "message": "x"}}).encode()],
)  # fmt: skip
def test_whatever_a_tool_writes_into_the_channel_is_no_result(junk: bytes) -> None:
    assert failure(junk + told_end(0, b"")).details["kind"] == "no result"
    assert failure(junk).details["kind"] == "lost"


def test_an_order_comes_through_as_it_was() -> None:
    order = Order(
        "greet", {"name": "Ann", "n": [1, None]}, {"word": "hi"}, "/tmp/x", Limits(cpu_s=3)
    )
    assert unpacked(order.packed()) == order


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"], ids=["object", "huge", "surrogate"])
def test_arguments_that_cannot_be_passed_on_are_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="greet"):
        Order("greet", {"x": value}, {}, "/tmp/x", LIMITS).packed()
