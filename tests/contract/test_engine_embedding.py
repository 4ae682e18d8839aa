"""What every engine backend promises of the vectors of texts, on every one that embeds."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Sequence

import pytest

from actors.engine.backends import BATCH_TEXTS, Backend, Vectors
from actors.memory.reference import SENTENCE, cosine_to_reference
from protocol.errors import EngineFailed, InvalidRequest, UnusableModel
from tests.support.benches import (
    BENCHES,
    CONTEXT_TOKENS,
    MODEL,
    OPTIONS,
    LlamaCppBench,
    TransformersBench,
    kinds,
)
from tests.support.model import model_path

EMBED = [name for name in sorted(BENCHES) if name != "transformers"]
REAL = [name for name in EMBED if name != "simulated"]


@pytest.fixture(scope="module", params=EMBED)
def backend(request: pytest.FixtureRequest) -> Backend:
    bench = BENCHES[request.param]
    assert not issubclass(bench, TransformersBench)
    return bench.embedder()


def embed(backend: Backend, *texts: str) -> Vectors:
    found = backend.embed(texts, threading.Event())
    assert found is not None
    return found


def numbers(vector: bytes) -> Sequence[float]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def cosine(one: bytes, other: bytes) -> float:
    return math.fsum(a * b for a, b in zip(numbers(one), numbers(other), strict=True))


def test_each_text_has_a_vector_of_unit_length_and_its_tokens_are_counted(backend: Backend) -> None:
    found = embed(backend, "the sea", "a ship on the sea")
    assert len(found.vectors) == 2
    for vector in found.vectors:
        assert len(numbers(vector)) == found.dimension > 1
        assert math.hypot(*numbers(vector)) == pytest.approx(1, abs=1e-5)
    assert found.tokens >= 7


def test_many_texts_are_embedded_in_their_order_as_each_would_be_alone(backend: Backend) -> None:
    texts = [f"number {number} of many texts" for number in range(2 * BATCH_TEXTS + 3)]
    found = embed(backend, *texts)
    assert len(found.vectors) == len(texts)
    for number in (0, 1, BATCH_TEXTS, len(texts) - 1):
        alone = embed(backend, texts[number])
        assert cosine(found.vectors[number], alone.vectors[0]) > 0.9999


def test_texts_that_are_alike_have_vectors_that_are(backend: Backend) -> None:
    one, near, far = embed(
        backend, "the old ship was out at sea", "the ship was out on the sea", "you can learn math"
    ).vectors
    assert cosine(one, near) > cosine(one, far) + 0.1


@pytest.mark.parametrize("backend", REAL, indirect=True)
def test_the_vectors_are_those_of_the_reference(backend: Backend) -> None:
    assert cosine_to_reference(numbers(embed(backend, SENTENCE).vectors[0])) > 0.999


@pytest.mark.parametrize("backend", REAL, indirect=True)
def test_a_text_of_many_kinds_of_characters_is_embedded(backend: Backend) -> None:
    odd = "😀 漢字 \x00 \N{REPLACEMENT CHARACTER} <|im_end|> [SEP]"
    assert math.hypot(*numbers(embed(backend, odd).vectors[0])) == pytest.approx(1, abs=1e-5)


def test_a_text_that_is_too_long_is_refused_with_its_number_and_both_lengths(
    backend: Backend,
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed(backend, "short", "word " * (CONTEXT_TOKENS + 10))
    details = caught.value.details
    assert details["prompt_tokens"] > details["context_tokens"] == CONTEXT_TOKENS


def test_nothing_is_embedded_that_nobody_waits_for(backend: Backend) -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert backend.embed(["the sea"], cancelled) is None


def test_a_model_that_was_made_to_write_can_embed_too() -> None:
    backend = LlamaCppBench.fresh()
    backend.load(model_path(), MODEL, OPTIONS, embeds=True)
    found = embed(backend, "the sea")
    assert found.dimension == 576
    assert math.hypot(*numbers(found.vectors[0])) == pytest.approx(1, abs=1e-5)


def test_a_model_that_was_loaded_to_write_embeds_nothing() -> None:
    with pytest.raises(EngineFailed, match="embed"):
        embed(LlamaCppBench().backend, "the sea")


@pytest.mark.parametrize("name", kinds("transformers"))
def test_a_backend_that_embeds_nothing_says_who_does(name: str) -> None:
    with pytest.raises(UnusableModel, match="have an engine with llama_cpp"):
        BENCHES[name].fresh().load(model_path(), MODEL, OPTIONS, embeds=True)
