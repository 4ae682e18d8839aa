"""What a query and its sampling may say: the rest is refused, with its place."""

from __future__ import annotations

import math
from typing import Any

import pytest

from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import InvalidMessage
from protocol.messages.engine import ChatMessage, Generate, Sampling
from protocol.messages.orchestrator import Function, Query

NAN, INF = math.nan, math.inf
SAMPLED: list[tuple[str, Any]] = [
    *((name, value)
      for name in ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty",
                   "frequency_penalty")
      for value in (NAN, INF, -INF)),
    ("temperature", -0.1), ("temperature", 5.1), ("top_p", 0), ("top_p", 1.1), ("top_k", -1),
    ("min_p", -0.1), ("repeat_penalty", 0), ("presence_penalty", 2.1), ("frequency_penalty", -2.1),
    ("max_tokens", 0), ("max_tokens", 1_000_001), ("seed", -1), ("seed", 2**32),
    ("stop", ["."] * 17),
]  # fmt: skip


@pytest.mark.parametrize("model", [Sampling, Query])
@pytest.mark.parametrize(("name", "value"), SAMPLED)
def test_sampling_out_of_bounds_is_refused_with_its_place(
    model: type[Sampling] | type[Query], name: str, value: Any
) -> None:
    with pytest.raises(InvalidMessage) as refused:
        model.from_body({name: value})
    assert [error["at"].split(".")[0] for error in refused.value.details["errors"]] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_alive_s", NAN), ("keep_alive_s", -1), ("logprobs", -1), ("logprobs", 21),
        ("id", "no spaces"), ("id", ""), ("user", "u" * 257), ("function_choice", "f" * 65),
        ("functions", [{"name": "no spaces"}]), ("functions", [{"name": "f"}] * 129),
        ("messages", [{"role": "nobody"}]), ("format", {"grammar": "g" * 65_537}),
    ],
)  # fmt: skip
def test_all_else_out_of_bounds_is_too(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage) as refused:
        Query.from_body({name: value})
    assert refused.value.details["errors"][0]["at"].split(".")[0] == name


HALF = "half \ud83d"


@pytest.mark.parametrize(
    "message",
    [
        Query.model_construct(text=HALF),
        Query.model_construct(messages=[ChatMessage.model_construct(role="user", content=HALF)]),
        Query.model_construct(functions=[Function.model_construct(name="f", description=HALF)]),
        Generate.model_construct(messages=[], sampling=Sampling.model_construct(stop=[HALF])),
    ],
)
def test_half_a_character_is_refused_before_it_is_sent(message: Query | Generate) -> None:
    with pytest.raises(InvalidMessage, match="cannot be packed"):
        Codec().encode(
            Envelope(new_id(), Kind.REQUEST, message.operation, "s", "e", "t", body=message)
        )
