"""What servers are asked, and told apart by. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.engine.backends import Piece, Prefill, Task
from actors.engine.backends.openai.chunks import ChunkReader
from actors.engine.backends.openai.errors import Place, refusal
from actors.engine.backends.openai.requests import chat_request
from actors.engine.backends.openai.servers import Kind, Server, find_server, version_of
from protocol.errors import EngineFailed, InvalidRequest
from protocol.messages.engine import ChatMessage, Continuation, Format, FunctionCall, Sampling

OPENAIS_OWN = {
    "model", "messages", "max_tokens", "temperature", "top_p", "presence_penalty",
    "frequency_penalty", "stream", "stream_options", "seed", "stop", "logprobs", "top_logprobs",
    "response_format",
}  # fmt: skip
SCHEMA = {"type": "object"}
GRAMMAR = 'root ::= "yes" | "no"'
URL = "http://127.0.0.1:8080/v1"


def task(**more: Any) -> Task:
    sampling = Sampling(seed=3, stop=["\n"], top_k=0, min_p=0.1, repeat_penalty=1.1)
    return Task([ChatMessage(role="user", content="Hi")], sampling, **more)


def test_a_server_that_is_not_known_gets_openais_fields_alone() -> None:
    asked = task(format=Format(json_schema=SCHEMA), logprobs=2)
    request = chat_request(Server("other", "m"), asked, 7)
    assert request.keys() == OPENAIS_OWN
    assert request["max_tokens"] == 7
    assert request["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama_cpp", {"top_k": 0, "min_p": 0.1, "repeat_penalty": 1.1, "return_progress": True}),
        ("vllm", {"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1}),
        ("sglang", {"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1}),
    ],
)
def test_a_server_that_is_known_gets_what_it_knows(kind: Kind, more: dict[str, Any]) -> None:
    request = chat_request(Server(kind, "m"), task(), 7)
    assert request | more == request


@pytest.mark.parametrize(
    ("server", "field"),
    [
        (Server("llama_cpp", "m"), {"grammar": GRAMMAR}),
        (Server("sglang", "m"), {"ebnf": GRAMMAR}),
        (Server("vllm", "m"), {"structured_outputs": {"grammar": GRAMMAR}}),
        (Server("vllm", "m", version=(0, 11)), {"structured_outputs": {"grammar": GRAMMAR}}),
        (Server("vllm", "m", version=(0, 10)), {"guided_grammar": GRAMMAR}),
    ],
)
def test_a_grammar_has_its_own_field_in_each(server: Server, field: dict[str, Any]) -> None:
    request = chat_request(server, task(format=Format(grammar=GRAMMAR)), 7)
    assert request | field == request


def test_a_grammar_is_refused_where_it_would_be_ignored() -> None:
    with pytest.raises(InvalidRequest, match="knows no grammars"):
        chat_request(Server("other", "m"), task(format=Format(grammar=GRAMMAR)), 7)


@pytest.mark.parametrize(
    ("kind", "wanted", "goes"),
    [
        ("llama_cpp", Format(json_schema=SCHEMA), True),
        ("vllm", Format(json_schema=SCHEMA), False),
        ("vllm", Format(grammar=GRAMMAR), False),
        ("sglang", Format(grammar=GRAMMAR), False),
    ],
)
def test_a_format_is_gone_on_within_only_where_the_server_can(
    kind: Kind, wanted: Format, goes: bool
) -> None:
    asked = task(format=wanted, begun=Continuation(text="{"))
    if goes:
        request = chat_request(Server(kind, "m"), asked, 7)
        assert request["messages"][-1] == {"role": "assistant", "content": "{"}
    else:
        with pytest.raises(EngineFailed, match="within a format"):
            chat_request(Server(kind, "m"), asked, 7)


def test_where_a_grammar_begins_behind_the_answer_so_far_its_rest_is_asked_for() -> None:
    asked = task(format=Format(grammar=GRAMMAR), begun=Continuation(text="y"))
    request = chat_request(Server("llama_cpp", "m"), asked, 7)
    assert request["messages"][-1] == {"role": "assistant", "content": "y"}
    assert request["grammar"] == 'root ::= rest-1\nrest-1 ::= "es"\n'


def test_a_grammar_in_lark_is_not_gone_on_within() -> None:
    lark = Format(grammar='%llguidance {}\nstart: "yes"')
    with pytest.raises(EngineFailed, match="in Lark; write the grammar in GBNF"):
        chat_request(Server("llama_cpp", "m"), task(format=lark, begun=Continuation(text="y")), 7)


def test_calls_and_their_results_are_turns() -> None:
    call = FunctionCall(id="1", name="weather", arguments="{}")
    asked = task()
    asked.messages = [
        ChatMessage(role="assistant", calls=[call]),
        ChatMessage(role="tool", content="It rains.", call_id="1"),
    ]
    turns = chat_request(Server("other", "m"), asked, 7)["messages"]
    assert turns[0]["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}
    assert turns[1] == {"role": "tool", "content": "It rains.", "tool_call_id": "1"}


# --- which server it is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "kind"),
    [("llamacpp", "llama_cpp"), ("vllm", "vllm"), ("sglang", "sglang"), ("library", "other"),
     (None, "other"), (3, "other")],
)  # fmt: skip
def test_a_server_is_known_by_the_owner_of_its_models(owner: Any, kind: str) -> None:
    models = {"data": [{"id": "m", "owned_by": owner}]}
    assert find_server(models, "", "auto", URL).kind == kind
    assert find_server(models, "", "vllm", URL).kind == "vllm"


def test_a_model_is_found_by_its_name_or_another_of_its_names() -> None:
    models = {"data": [{"id": "a"}, {"id": "/m/b.gguf", "aliases": ["b"], "max_model_len": 99}]}
    assert find_server(models, "", "auto", URL).model == "a"
    found = find_server(models, "b", "auto", URL)
    assert (found.model, found.context_tokens) == ("b", 99)
    assert find_server(models, "/m/b.gguf", "auto", URL).model_name == "b"
    assert Server("vllm", "org/model-8B").model_name == "org/model-8B"


def test_of_many_models_some_are_named() -> None:
    models = {"data": [{"id": f"m{number}"} for number in range(50)]}
    with pytest.raises(EngineFailed, match=r"m0, m1, .* m9 and others"):
        find_server(models, "zzz", "auto", URL)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ({"version": "0.10.2"}, (0, 10)),
        ({"version": "1.2rc1"}, (1, 2)),
        ({}, (0, 0)),
        (None, (0, 0)),
    ],
)
def test_a_version_is_read_or_not_known(answer: Any, version: tuple[int, int]) -> None:
    assert version_of(answer) == version


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 512 tokens. However, you requested 739 tokens (731 "
        "in the messages, 8 in the completion). Please reduce the length of the messages.",
        "This model's maximum context length is 512 tokens. However, you requested 8 output tokens "
        "and your prompt contains at least 731 input tokens, for a total of at least 739 tokens.",
        "This model's maximum context length is 512 tokens. However, your messages resulted in 731 "
        "tokens.",
        "'max_tokens' is too large: 8. This model's maximum context length is 512 tokens and your "
        "request has 731 input tokens (8 > 512 - 731).",
        "The input (731 tokens) is longer than the model's context length (512 tokens).",
        "Requested token count exceeds the model's maximum context length of 512 tokens. You "
        "requested a total of 739 tokens: 731 tokens from the input messages and 8 tokens for the "
        "completion.",
    ],
)
@pytest.mark.parametrize("wrap", ["error", "whole", "text"])
def test_both_numbers_are_found_however_a_server_words_them(text: str, wrap: str) -> None:
    bodies = {"error": {"error": {"message": text}}, "whole": {"object": "error", "message": text},
              "text": {"error": text}}  # fmt: skip
    body = json.dumps(bodies[wrap]).encode()
    error = refusal(400, body, Place(URL), now=datetime.now(UTC))
    assert error.details == {"prompt_tokens": 731, "context_tokens": 512}


# --- chunks ---------------------------------------------------------------------------------


def read(*chunks: dict[str, Any], logprobs: int | None = None) -> list[Prefill | Piece]:
    told: list[Prefill | Piece] = []
    reader = ChunkReader(task(logprobs=logprobs), told.append, Place(URL), 0.0)
    for chunk in chunks:
        reader.take(json.dumps(chunk), 1.0)
    return told


def delta(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_tokens_are_counted_by_the_usage_of_each_chunk() -> None:
    told = read(
        delta(content="one two") | {"usage": {"completion_tokens": 2}},
        delta(content=" three") | {"usage": {"completion_tokens": 3}},
    )
    assert told == [Piece("one two", [], 2), Piece(" three", [], 1)]


def test_a_token_without_text_is_counted_with_the_next() -> None:
    chunks = [
        delta(content="") | {"timings": {"predicted_n": 1}},
        delta(content="é") | {"timings": {"predicted_n": 2}},
    ]
    assert read(*chunks) == [Piece("é", [], 2)]


def test_ids_are_told_only_where_all_of_them_came() -> None:
    named = {"content": [{"id": 7, "token": "x", "logprob": -1.0}]}
    whole, half = delta(content="x"), delta(content="y")
    for chunk in (whole, half):
        chunk["choices"][0]["logprobs"] = named
    whole["timings"], half["timings"] = {"predicted_n": 1}, {"predicted_n": 3}
    assert read(whole, half) == [Piece("x", [7], 1), Piece("y", [], 2)]


def test_a_thought_that_is_kept_apart_is_work_and_no_part_of_the_answer() -> None:
    told = read(
        delta(reasoning_content="Hm", content=None), delta(reasoning="so"), delta(content="Yes")
    )
    assert told == [Prefill(1, 2), Prefill(2, 3), Piece("Yes", [], 1)]
