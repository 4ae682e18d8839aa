"""Functions of clients: what the model is told, what counts as a call, and who is shown what."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.formats import check_format
from actors.orchestrator.functions import CallFilter, Functions, as_said
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import InvalidRequest
from protocol.messages.engine import ChatMessage, FunctionCall
from protocol.messages.orchestrator import Function, Text

WEATHER = Function(
    name="weather", description="The weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)  # fmt: skip
TIME = Function(name="time")
CALL = '{"name": "weather", "arguments": {"city": "Köln"}}'


def functions(choice: str = "auto", *given: Function) -> Functions:
    return Functions(given or (WEATHER, TIME), choice)


# --- which there are --------------------------------------------------------------------------


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="same name"):
        Functions([TIME, TIME], "auto")


def test_a_choice_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match=r"'wether'.*auto, none, required, weather, time"):
        functions("wether")


def test_a_call_cannot_be_required_where_there_is_no_function() -> None:
    with pytest.raises(InvalidRequest, match="no functions are given"):
        Functions([], "required")


@pytest.mark.parametrize(
    ("choice", "offered", "required"),
    [("auto", True, False), ("none", False, False), ("required", True, True), ("time", True, True)],
)
def test_what_may_be_called_and_what_must(choice: str, offered: bool, required: bool) -> None:
    chosen = functions(choice)
    assert (chosen.offered, chosen.required) == (offered, required)
    assert (chosen.format() is not None) == required
    assert bool(chosen.told()) == offered


def test_without_functions_nothing_is_told() -> None:
    none = Functions([], "auto")
    assert (none.offered, none.told(), none.format()) == (False, "", None)


def test_the_model_is_told_of_the_one_alone_that_must_be_called() -> None:
    assert "weather" in functions().told()
    assert "weather" not in functions("time").told()


def test_a_function_that_is_called_like_a_choice_does_not_hide_the_others() -> None:
    chosen = functions("auto", Function(name="auto"), WEATHER)
    assert "weather" in chosen.told()
    assert not chosen.required


# --- what a required call looks like ------------------------------------------------------------

NESTED = Function(
    name="nested",
    parameters={
        "type": "object",
        "$defs": {"P": {"type": "object", "properties": {"next": {"$ref": "#/$defs/P"}}}},
        "properties": {
            "p": {"$ref": "#/$defs/P"},
            "all": {"type": "array", "items": {"$ref": "#"}},
        },
        "required": ["p"],
    },
)  # fmt: skip


@pytest.mark.parametrize("given", [[TIME], [WEATHER, TIME], [NESTED], [TIME, NESTED]])
def test_the_schema_of_a_required_call_can_be_kept_to(given: list[Function]) -> None:
    check_format(functions("required", *given).format())


def test_references_within_parameters_still_mean_what_they_meant() -> None:
    format_ = functions("required", TIME, NESTED).format()
    assert format_ is not None
    assert format_.json_schema is not None
    parameters = format_.json_schema["anyOf"][1]["properties"]["arguments"]
    at = "#/anyOf/1/properties/arguments"
    assert parameters["properties"]["p"] == {"$ref": f"{at}/$defs/P"}
    assert parameters["properties"]["all"]["items"] == {"$ref": at}
    assert NESTED.parameters["properties"]["p"] == {"$ref": "#/$defs/P"}


# --- what is a call -------------------------------------------------------------------------------


def test_a_call_is_read_with_its_arguments_as_json() -> None:
    call = functions().call_in(CALL, "call-1")
    assert call == FunctionCall(id="call-1", name="weather", arguments='{"city": "Köln"}')


@pytest.mark.parametrize(
    "text",
    [
        "", "It rains.", "[]", "3", '"name"', "{}", '{"name": "weather"}',
        '{"name": "weather", "arguments": "Köln"}', '{"name": "wether", "arguments": {}}',
        '{"name": {}, "arguments": {}}', '{"name": [], "arguments": {}}', CALL[:-1], CALL + "!",
        '{"name": "weather", "arguments": {"x": NaN}}',
        '{"name": "weather", "arguments": {"x": ' + "[" * 100_000,
        '{"name": "weather", "arguments": {"x": ' + "9" * 10_000 + "}}",
    ],
)  # fmt: skip
def test_what_is_no_call_of_these_is_none(text: str) -> None:
    assert functions().call_in(text, "call-1") is None


def test_halves_of_characters_in_arguments_can_be_sent() -> None:
    call = functions().call_in('{"name": "time", "arguments": {"x": "\\ud83d"}}', "call-1")
    assert call is not None
    assert json.loads(call.arguments) == {"x": "\ud83d"}
    Codec().encode(Envelope(new_id(), Kind.END.value, "a.b", "s", "e", "t", body=call))


# --- turns with calls -----------------------------------------------------------------------------


def called(*calls: FunctionCall, content: str = "") -> ChatMessage:
    return ChatMessage(role="assistant", content=content, calls=list(calls))


def test_calls_and_results_are_put_as_the_model_says_and_reads_them() -> None:
    turns = [
        ChatMessage(role="user", content="Weather?"),
        called(FunctionCall(id="1", name="weather", arguments='{"city": "Köln"}'), content="So:"),
        ChatMessage(role="tool", call_id="1", content="rain"),
    ]
    said = as_said(turns)
    assert said[0] is turns[0]
    assert said[1] == ChatMessage(role="assistant", content=f"So:\n{CALL}")
    assert said[2] == ChatMessage(role="user", content="The function weather returned: rain")


def test_several_calls_stand_one_below_the_other() -> None:
    calls = [FunctionCall(id=str(n), name="time", arguments="{}") for n in range(2)]
    [said] = as_said([called(*calls)])
    assert said.content.splitlines() == ['{"name": "time", "arguments": {}}'] * 2


def test_a_result_of_a_call_that_nobody_made_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no call '2'"):
        as_said([called(FunctionCall(id="1", name="time", arguments="{}")),
                 ChatMessage(role="tool", call_id="2", content="noon")])  # fmt: skip


# --- who is shown what ----------------------------------------------------------------------------


def filtered(text: str, cuts: list[int], begun: str = "", choice: str = "auto") -> list[Text]:
    """The text cut there, as it is passed on."""
    calls = CallFilter(functions(choice), begun)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [Text(text=text[a:b]) for a, b in itertools.pairwise(places)]
    return [one for piece in pieces for one in calls.take(piece)] + calls.rest()


def shown(pieces: list[Text]) -> str:
    return "".join(piece.text for piece in pieces if not piece.is_call)


cuts = st.lists(st.integers(0, 1000), max_size=20)
CALLS = [CALL, '\n {"name" :\t"time","arguments":{}}', '{"name": "weather" and more']
ANSWERS: list[Any] = [
    "It rains.", "", " ", "{", '{"name"', '{"name": "Bob", "age": 3}', '{"names": []}', "[1]",
    '{"name": "weat', '{"name": "weathers"}', '{"name": 3}', '```{"name": "weather"}```',
]  # fmt: skip


@given(text=st.sampled_from(CALLS), cuts=cuts)
def test_nothing_of_a_call_is_shown_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    pieces = filtered(text, cuts)
    assert "".join(piece.text for piece in pieces) == text
    assert shown(pieces) == ""


@given(text=st.sampled_from(ANSWERS), cuts=cuts)
def test_all_of_what_only_looks_like_a_call_is_shown(text: str, cuts: list[int]) -> None:
    assert shown(filtered(text, cuts)) == text


@given(text=st.text(), cuts=cuts)
def test_no_text_is_lost_or_put_in_another_order(text: str, cuts: list[int]) -> None:
    assert "".join(piece.text for piece in filtered(text, cuts)) == text


def test_an_answer_is_not_held_back_longer_than_it_may_be_a_call() -> None:
    calls = CallFilter(functions(), "")
    assert calls.take(Text(text='{"name":')) == []
    assert shown(calls.take(Text(text=' "B'))) == '{"name": "B'
    assert shown(calls.take(Text(text='ob"}'))) == 'ob"}'


@pytest.mark.parametrize("at", range(len(CALL)))
def test_a_call_that_was_begun_elsewhere_goes_on_as_one(at: int) -> None:
    assert shown(filtered(CALL[at:], [3, 7], begun=CALL[:at])) == ""


def test_an_answer_that_was_begun_elsewhere_goes_on_as_one() -> None:
    assert shown(filtered(CALL, [5], begun="As JSON: ")) == CALL


def test_where_a_call_is_required_all_is_a_call() -> None:
    assert shown(filtered("anything", [2], choice="required")) == ""


def test_where_none_may_be_called_nothing_is() -> None:
    assert shown(filtered(CALL, [2], choice="none")) == CALL
