"""In which manner a query is answered: its own word, then its expert's, then what is usual."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actors.orchestrator.experts import manner_of
from actors.orchestrator.prompt import with_system
from configs.actor_settings import OrchestratorSettings
from protocol.errors import NotFound
from protocol.messages.engine import ChatMessage
from protocol.messages.orchestrator import Query


def options(expert: dict[str, Any] | None = None, **usual: Any) -> OrchestratorSettings:
    experts = {} if expert is None else {"poet": expert}
    return OrchestratorSettings.model_validate({"experts": experts} | usual)


POET = {"temperature": 1.5, "max_tokens": 99, "system_prompt": "Rhyme.", "model": "big"}
USUAL = options(POET, temperature=0.2, top_k=7, system_prompt="Be brief.")


def test_what_the_query_says_goes_before_its_expert_and_that_before_what_is_usual() -> None:
    sampling = manner_of(Query(text="q", expert="poet", max_tokens=5), USUAL, ["big"]).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k) == (5, 1.5, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("top_k", 0), ("min_p", 0.0), ("seed", 0), ("presence_penalty", 0.0)],
)
def test_a_nought_that_the_query_says_is_said(name: str, value: float) -> None:
    manner = manner_of(Query.model_validate({"text": "q", name: value}), USUAL, [])
    assert getattr(manner.sampling, name) == value


def test_what_nobody_says_is_the_default_of_sampling() -> None:
    sampling = manner_of(Query(text="q", stop=["."]), options(), []).sampling
    assert (sampling.repeat_penalty, sampling.seed, sampling.stop) == (1.0, None, ["."])


def test_an_expert_brings_its_prompt_and_its_model() -> None:
    manner = manner_of(Query(text="q", expert="poet"), USUAL, ["default", "big"])
    assert (manner.system_prompt, manner.model, manner.expert) == ("Rhyme.", "big", "poet")
    assert manner.missing == []


def test_without_one_the_usual_prompt_and_the_first_model_are_taken() -> None:
    manner = manner_of(Query(text="q"), USUAL, ["default"])
    assert (manner.system_prompt, manner.model, manner.expert) == ("Be brief.", "", "")


def test_an_expert_without_a_prompt_has_the_usual_one_and_one_with_an_empty_prompt_none() -> None:
    def prompt(expert: dict[str, Any]) -> str | None:
        query = Query(text="q", expert="poet")
        return manner_of(query, options(expert, system_prompt="U."), []).system_prompt

    assert prompt({}) == "U."
    assert prompt({"system_prompt": ""}) == ""


def test_a_system_message_of_the_client_s_own_goes_before_the_expert_s_prompt() -> None:
    own = ChatMessage(role="system", content="Mine.")
    asked = ChatMessage(role="user", content="q")
    assert with_system([own, asked], "Rhyme.", [])[0].content == "Mine."
    assert with_system([asked], "Rhyme.", [])[0].content == "Rhyme."
    assert with_system([asked], "", []) == [asked]


def test_an_expert_that_is_not_there_is_missing_and_those_are_named_that_are() -> None:
    manner = manner_of(Query(text="q", expert="cook"), USUAL, [])
    assert manner.expert == ""
    assert manner.missing == [
        "without the expert cook: the settings have none by that name; there are: poet"
    ]
    [none] = manner_of(Query(text="q", expert="cook"), options(), []).missing
    assert none.endswith("there are none")


def test_an_expert_s_model_that_no_engine_has_is_missing() -> None:
    manner = manner_of(Query(text="q", expert="poet"), USUAL, ["default"])
    assert (manner.model, manner.expert) == ("", "poet")
    assert manner.missing == ["without the model big of the expert poet"]


def test_a_model_that_the_query_itself_names_is_there_or_refused() -> None:
    assert manner_of(Query(text="q", model="big"), USUAL, ["big"]).model == "big"
    with pytest.raises(NotFound, match="'huge'; there are: big, default"):
        manner_of(Query(text="q", model="huge"), USUAL, ["default", "big"])


def test_the_query_s_model_goes_before_its_expert_s() -> None:
    manner = manner_of(Query(text="q", expert="poet", model="default"), USUAL, ["default"])
    assert (manner.model, manner.missing) == ("default", [])


def test_as_long_as_the_models_are_not_known_any_may_be_there() -> None:
    assert manner_of(Query(text="q", model="huge"), USUAL, []).model == "huge"
    assert manner_of(Query(text="q", expert="poet"), USUAL, []).missing == []


@pytest.mark.parametrize(
    "usual",
    [
        {"top_p": 0},
        {"temperature": 5.1},
        {"max_tokens": 0},
        {"min_p": 2},
        {"temperature": float("nan")},
    ],
)
def test_whatever_the_settings_take_can_be_sampled_with(usual: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**usual)
    least = {"top_p": 0.01, "temperature": 0, "top_k": 0, "min_p": 0, "max_tokens": 1}
    manner_of(Query(text="q"), OrchestratorSettings.model_validate(least), [])


@pytest.mark.parametrize(
    ("query", "may_lack"),
    [(Query(text="q", expert="poet"), True), (Query(text="q", expert="poet", model="big"), False)],
)
def test_a_model_that_only_the_expert_names_may_lack(query: Query, *, may_lack: bool) -> None:
    manner = manner_of(query, USUAL, ["big"])
    assert (manner.model, manner.model_may_lack) == ("big", may_lack)
