"""What llama.cpp calls back with, and what becomes of it. The chunks are as it really sent them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.engine.backends import Emit, Outcome, Piece, Prefill, Task
from actors.engine.backends.llama.errors import error_of, failure
from actors.engine.backends.llama.reading import Reader
from actors.engine.backends.llama.requests import request_of
from protocol.errors import EngineFailed, EngineGarbage, EngineOutOfMemory, InvalidRequest
from protocol.messages.engine import ChatMessage, Sampling

TIMINGS = {
    "cache_n": 0, "prompt_n": 41, "prompt_ms": 120.5, "predicted_n": 3, "predicted_ms": 30.25,
    "predicted_per_second": 99.2,
}  # fmt: skip
LAST = {
    "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    "object": "text_completion",
    "usage": {"completion_tokens": 3, "prompt_tokens": 41, "total_tokens": 44},
    "timings": TIMINGS,
}
TOO_LONG = {
    "code": 400,
    "message": "request (731 tokens) exceeds the available context size (512 tokens), try "
    "increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 731,
    "n_ctx": 512,
}


def prefill(done: int, total: int) -> dict[str, Any]:
    return {
        "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": None}],
        "prompt_progress": {"total": total, "cache": 0, "processed": done, "time_ms": 0},
    }


def chunk(text: str, token: int, so_far: int, finish: str | None = None) -> dict[str, Any]:
    """A chunk after ``so_far`` tokens that brings ``text`` and names the last of them."""
    part = {
        "id": token, "token": text, "bytes": list(text.encode()),
        "logprob": -1.4, "top_logprobs": [],
    }  # fmt: skip
    return {
        "choices": [
            {"text": text, "index": 0, "logprobs": {"content": [part]}, "finish_reason": finish}
        ],
        "object": "text_completion",
        "timings": {**TIMINGS, "predicted_n": so_far},
    }


class Listener:
    """A reader and all that it told."""

    def __init__(self, emit: Emit | None = None, logprobs: int | None = None) -> None:
        self.told: list[Prefill | Piece] = []
        question = [ChatMessage(role="user", content="Hi")]
        self.task = Task(question, Sampling(), logprobs=logprobs)
        self.read = 0
        """How often it was said that the prompt is read."""
        self.reader = Reader(self.task, emit or self.told.append, self._on_read)

    def _on_read(self) -> None:
        self.read += 1

    def take(self, *chunks: dict[str, Any]) -> list[bool]:
        """Pass them on; True where llama.cpp is asked to stop."""
        return [self.reader.take(json.dumps(one).encode()) for one in chunks]

    @property
    def pieces(self) -> list[Piece]:
        return [one for one in self.told if isinstance(one, Piece)]


# --- text and ids ---------------------------------------------------------------------------


def test_a_token_becomes_a_piece_with_its_id() -> None:
    it = Listener()
    assert it.take(chunk("Paris", 38634, 1), chunk(" is", 314, 2)) == [False, False]
    assert it.told == [Piece("Paris", [38634], 1), Piece(" is", [314], 1)]


def test_a_character_of_several_tokens_comes_without_ids_as_only_the_last_is_named() -> None:
    it = Listener()
    it.take(chunk("🌍", 231, 3), chunk("🌍", 231, 6), chunk("!", 17, 7))
    assert it.told == [Piece("🌍", [], 3), Piece("🌍", [], 3), Piece("!", [17], 1)]


def test_text_that_was_held_back_for_a_stop_string_comes_with_all_of_its_ids() -> None:
    it = Listener()
    it.take(chunk("\n", 198, 1), chunk("", 34, 2), chunk("2.", 30, 3), chunk(" ", 216, 4))
    assert it.told == [Piece("\n", [198], 1), Piece("2.", [34, 30], 2), Piece(" ", [216], 1)]


def test_a_split_character_in_text_that_was_held_back_costs_all_of_its_ids() -> None:
    it = Listener()
    it.take(chunk("", 34, 1), chunk("2🌍", 231, 4), chunk("!", 17, 5))
    assert it.told == [Piece("2🌍", [], 4), Piece("!", [17], 1)]


def test_a_chunk_that_names_no_tokens_still_gives_its_text() -> None:
    it = Listener()
    bare = chunk("é", 1, 2)
    bare["choices"][0]["logprobs"] = None
    it.take(bare, chunk("t", 2, 3))
    assert it.told == [Piece("é", [], 2), Piece("t", [2], 1)]


def test_a_library_that_does_not_count_gives_text_without_ids() -> None:
    it = Listener()
    uncounted = chunk("a", 81, 1)
    del uncounted["timings"]
    it.take(uncounted)
    assert it.told == [Piece("a", [], 1)]


def test_empty_text_is_no_piece() -> None:
    it = Listener()
    it.take(chunk("", 253, 1), LAST)
    assert it.told == []


def test_the_reading_of_the_prompt_is_told_as_it_goes_on() -> None:
    it = Listener()
    assert it.take(prefill(0, 41), prefill(41, 41)) == [False, False]
    assert it.told == [Prefill(0, 41), Prefill(41, 41)]


# --- the end --------------------------------------------------------------------------------


def test_the_end_brings_the_reason_and_the_times() -> None:
    it = Listener()
    it.take(chunk("Paris", 38634, 1), LAST)
    assert it.reader.outcome(41) == Outcome("stop", 41, 3, 120.5, 30.25)


@pytest.mark.parametrize(
    ("said", "told"), [("length", "length"), ("stop", "stop"), ("eos", "stop")]
)
def test_the_reason_is_length_or_stop(said: str, told: str) -> None:
    it = Listener()
    it.take(chunk("x", 1, 1, finish=said))
    outcome = it.reader.outcome(1)
    assert outcome is not None
    assert outcome.finish_reason == told


def test_a_call_that_ends_without_an_end_hasfailure() -> None:
    it = Listener()
    it.take(chunk("Paris", 38634, 1))
    with pytest.raises(EngineFailed, match="without saying why"):
        it.reader.outcome(41)


def test_a_cancelled_generation_asks_to_stop_and_has_no_outcome() -> None:
    it = Listener()
    it.take(chunk("Paris", 38634, 1))
    it.task.cancelled.set()
    assert it.take(chunk(" is", 314, 2)) == [True]
    assert it.reader.outcome(41) is None


def test_a_cancel_while_the_prompt_is_read_asks_to_stop_too() -> None:
    it = Listener()
    it.task.cancelled.set()
    assert it.take(prefill(0, 41)) == [True]
    assert it.reader.outcome(41) is None


def test_an_answer_that_was_complete_when_the_cancel_came_is_complete() -> None:
    it = Listener()
    it.take(LAST)
    it.task.cancelled.set()
    assert it.reader.outcome(41) is not None


# --- what goes wrong ------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    it = Listener()
    assert it.take({"error": TOO_LONG}) == [True]
    with pytest.raises(InvalidRequest, match="731 tokens") as caught:
        it.reader.outcome(731)
    assert caught.value.details == {"prompt_tokens": 731, "context_tokens": 512}


@pytest.mark.parametrize(
    "error",
    [
        {"code": 400, "type": "invalid_request_error", "message": "n > 1"},
        {"code": 400, "message": "n > 1"},
        {"type": "invalid_request_error", "message": "n > 1"},
    ],
)
def test_what_llama_cpp_refuses_is_the_callers_mistake(error: dict[str, Any]) -> None:
    mapped = error_of(error)
    assert isinstance(mapped, InvalidRequest)
    assert "n > 1" in mapped.message


@pytest.mark.parametrize(
    "error",
    [
        {"code": 500, "type": "server_error", "message": "out of memory"},
        {"code": 503, "type": "unavailable_error", "message": "out of memory"},
        {"reason": "out of memory"},
        "out of memory",
        ["out of memory"],
    ],
)
def test_any_other_error_is_the_engines_own(error: object) -> None:
    mapped = error_of(error)
    assert isinstance(mapped, EngineFailed)
    assert "out of memory" in mapped.message


def test_an_error_without_its_numbers_is_still_anerror_of() -> None:
    assert error_of({"type": "exceed_context_size_error"}).details["context_tokens"] == 0
    assert isinstance(error_of(None), EngineFailed)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"text": "a", "finish_reason": None, "logprobs": {"content": [{}]}}]},
        {"choices": [{"text": "a", "finish_reason": None, "logprobs": "?"}]},
        {"prompt_progress": {}},
        {"error": {"type": "exceed_context_size_error", "n_ctx": "many"}},
    ],
)
def test_a_chunk_that_is_not_understood_ends_the_call_and_raises_nothing_into_it(
    broken: dict[str, Any],
) -> None:
    it = Listener()
    assert it.take(chunk("Paris", 38634, 1), broken) == [False, True]
    with pytest.raises(EngineFailed, match="not understood"):
        it.reader.outcome(41)


def test_what_the_receiver_raises_does_not_reach_llama_cpp() -> None:
    def emit(_: object) -> None:
        raise RuntimeError("the loop is closed")

    it = Listener(emit)
    assert it.take(chunk("Paris", 38634, 1)) == [True]
    with pytest.raises(EngineFailed, match="the loop is closed"):
        it.reader.outcome(41)


def test_the_first_thing_that_went_wrong_is_what_is_raised() -> None:
    it = Listener()
    it.take({"error": TOO_LONG})
    it.task.cancelled.set()
    with pytest.raises(InvalidRequest):
        it.reader.outcome(41)


# --- the request ----------------------------------------------------------------------------


def test_the_request_asks_for_ids_and_for_the_count_that_proves_them() -> None:
    task = Task([], Sampling(temperature=0, top_p=0.5, stop=["\n"]))
    assert request_of(task, 7) == {
        "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 40, "min_p": 0.05,
        "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": ["\n"],
        "stream": True, "return_progress": True, "logprobs": 1, "post_sampling_probs": True,
        "timings_per_token": True,
    }  # fmt: skip


def test_probabilities_that_were_asked_for_are_those_before_the_sampling() -> None:
    request = request_of(Task([], Sampling(), logprobs=5), 7)
    assert (request["logprobs"], request["post_sampling_probs"]) == (5, False)


@pytest.mark.parametrize("part", [{"id": 1, "token": "a", "prob": None},
                                  {"id": 1, "token": "a", "logprob": None},
                                  {"id": 1, "token": "a", "logprob": None,
                                   "top_logprobs": [{"token": "a", "logprob": None}]},
                                  {"id": 1, "token": "a", "logprob": -1,
                                   "top_logprobs": [{"token": "a", "logprob": None}]}])  # fmt: skip
def test_a_probability_that_is_no_number_is_garbage(part: dict[str, object]) -> None:
    listener = Listener(logprobs=2)
    listener.take({"choices": [{"text": "a", "logprobs": {"content": [part]},
                                "finish_reason": None}]})  # fmt: skip
    with pytest.raises(EngineGarbage, match="NaN"):
        listener.reader.outcome(1)


def test_what_is_raised_over_a_piece_ends_the_generation_and_is_raised() -> None:
    def emit(item: Prefill | Piece) -> None:
        raise EngineOutOfMemory("no memory")

    listener = Listener(emit)
    listener.take(chunk("a", 1, 1))
    with pytest.raises(EngineOutOfMemory):
        listener.reader.outcome(1)


@pytest.mark.parametrize("text", ["CUDA error: out of memory", "failed to allocate buffer"])
def test_a_device_without_memory_is_told_apart(text: str) -> None:
    assert isinstance(failure(text), EngineOutOfMemory)
    assert not isinstance(failure("something else"), EngineOutOfMemory)


def test_a_seed_is_passed_on_when_there_is_one() -> None:
    assert request_of(Task([], Sampling(seed=0)), 1)["seed"] == 0
    assert "seed" not in request_of(Task([], Sampling()), 1)


def test_the_prompt_is_read_when_the_first_token_comes_and_that_is_said_once() -> None:
    listener = Listener()
    listener.take(prefill(100, 300), prefill(300, 300))
    assert listener.read == 0
    listener.take(chunk("a", 1, 1), chunk("b", 2, 2))
    assert listener.read == 1
