"""What is asked of a server: OpenAI's fields, and beyond them only those that its kind knows. Pure.

A field that a server does not know is ignored by one and refused by the next; and one that is
ignored may be the grammar that the answer was to keep to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actors.engine.backends import Task
from actors.engine.backends.openai.servers import Kind, Server
from actors.engine.backends.turns import chat_turns
from actors.engine.formats import rest_of_grammar
from protocol.errors import EngineCannotGoOn, InvalidRequest

STRUCTURED_SINCE = (0, 11)
"""vLLM's `structured_outputs`; in 0.12 its `guided_grammar` was gone."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a kind of server takes beyond OpenAI's fields."""

    repeat_penalty: str
    """What it calls the penalty of repeated tokens."""
    no_top_k: int
    """How it is told to consider all tokens."""
    continuing: dict[str, Any] = field(default_factory=dict)
    """So that it goes on with the last turn."""
    goes_on_within_schema: bool = False
    """What it makes of a schema begins at the beginning of that turn, not behind it."""
    goes_on_within_grammar: bool = False
    """A grammar begins behind that turn, and is in GBNF."""
    always: dict[str, Any] = field(default_factory=dict)


DIALECTS: dict[Kind, Dialect] = {
    "llama_cpp": Dialect(
        repeat_penalty="repeat_penalty",
        no_top_k=0,
        # It goes on by itself. An answer that has begun is past its thinking, and with thinking
        # switched on it refuses to.
        continuing={"chat_template_kwargs": {"enable_thinking": False}},
        goes_on_within_schema=True,
        goes_on_within_grammar=True,
        # How far the prompt is read, and with each chunk how many tokens there have been.
        always={"return_progress": True, "timings_per_token": True},
    ),
    "vllm": Dialect(
        repeat_penalty="repetition_penalty",
        no_top_k=-1,
        continuing={"add_generation_prompt": False, "continue_final_message": True},
    ),
    "sglang": Dialect(
        repeat_penalty="repetition_penalty",
        no_top_k=-1,
        continuing={"continue_final_message": True},
    ),
}
"""A server of another kind gets OpenAI's fields alone, and is not asked to go on with anything."""


def chat_request(server: Server, task: Task, max_tokens: int) -> dict[str, Any]:
    """The body for ``/chat/completions``. Raises `EngineCannotGoOn` for an answer that such a
    server cannot go on with, `InvalidRequest` for a format that it does not know."""
    sampling = task.sampling
    request: dict[str, Any] = {
        "model": server.model,
        "messages": chat_turns(task.messages),
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if sampling.stop:
        request["stop"] = list(sampling.stop)
    if task.logprobs is not None:
        request |= {"logprobs": True, "top_logprobs": task.logprobs}
    dialect = DIALECTS.get(server.kind)
    if dialect is not None:
        request |= _beyond(server, dialect, task)
    request |= _format(server, task)
    if task.begun is not None and task.begun.text:
        _go_on(request, server, task)
    return request


def _beyond(server: Server, dialect: Dialect, task: Task) -> dict[str, Any]:
    sampling = task.sampling
    more: dict[str, Any] = {
        "top_k": sampling.top_k or dialect.no_top_k,
        "min_p": sampling.min_p,
        dialect.repeat_penalty: sampling.repeat_penalty,
        **dialect.always,
    }
    if server.kind == "llama_cpp" and task.logprobs is None:
        # Brings the id of each token along. Of the probabilities after sampling, which cost least:
        # see `llama_cpp`.
        more |= {"logprobs": True, "top_logprobs": 1, "post_sampling_probs": True}
    if server.kind in ("vllm", "sglang"):
        # A chunk may be of several tokens, and only the usage says of how many.
        more["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return more


def _format(server: Server, task: Task) -> dict[str, Any]:
    wanted = task.format
    if wanted is None:
        return {}
    if wanted.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": wanted.json_schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if not wanted.grammar:
        return {}
    match server.kind:
        case "llama_cpp":
            return {"grammar": wanted.grammar}
        case "sglang":
            return {"ebnf": wanted.grammar}
        case "vllm" if (0, 0) < server.version < STRUCTURED_SINCE:
            return {"guided_grammar": wanted.grammar}
        case "vllm":
            return {"structured_outputs": {"grammar": wanted.grammar}}
    raise InvalidRequest(
        "OpenAI's API knows no grammars, and what this server knows beyond it is not known; "
        "ask for a JSON schema"
    )


def _go_on(request: dict[str, Any], server: Server, task: Task) -> None:
    """Have it go on with the answer: a last turn of the assistant's that is not complete."""
    assert task.begun is not None
    dialect = DIALECTS.get(server.kind)
    if dialect is None:
        # It would begin anew, or say something about what it takes for a complete turn.
        raise EngineCannotGoOn(
            "a server of this kind is not known to go on with an answer that another began; where "
            "it is one that does behind a proxy, say which in the setting server_kind"
        )
    wanted = task.format
    grammar = wanted is not None and wanted.grammar
    schema = wanted is not None and wanted.json_schema is not None
    if (schema and not dialect.goes_on_within_schema) or (
        grammar and not dialect.goes_on_within_grammar
    ):
        raise EngineCannotGoOn("the server cannot go on within a format: it would begin it anew")
    if grammar:
        request["grammar"] = rest_of_grammar(grammar, task.begun.text)
    request["messages"].append({"role": "assistant", "content": task.begun.text})
    request |= dialect.continuing
