"""An engine that is a server somewhere: what it makes of all that can go wrong on the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors.engine.backends import Outcome, Piece, Prefill, Task
from actors.engine.backends.openai.connection import is_loopback
from actors.engine.backends.openai_http import OpenAIHttp
from configs.engine_settings import EngineSettings
from protocol.errors import (
    EngineFailed,
    EngineGarbage,
    EngineOutOfMemory,
    InvalidRequest,
    NoyauError,
    Overloaded,
    UnusableKey,
)
from protocol.messages.engine import ChatMessage, Continuation, Sampling
from tests.support.scripted_server import (
    DONE,
    HOLD,
    MODELS,
    STREAM,
    Script,
    answer,
    event,
    scripted,
    text,
)
from tests.support.waiting import PATIENCE_S, until

KEY = "sk-very-secret"
MODEL_ID = "openai_http"


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as script:
        yield script


def settings(script: Script | str, **more: Any) -> EngineSettings:
    url = script if isinstance(script, str) else script.url
    return EngineSettings.model_validate(
        {"backend": "openai_http", "url": url, "server_wait_s": 0, **more}
    )


def load(script: Script | str, **more: Any) -> OpenAIHttp:
    backend = OpenAIHttp()
    backend.load(Path(), MODEL_ID, settings(script, **more))
    return backend


def of_kind(owner: str, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "tiny", "owned_by": owner, **more}]}


def task(max_tokens: int = 8, begun: Continuation | None = None) -> Task:
    return Task([ChatMessage(role="user", content="Hi")], Sampling(max_tokens=max_tokens), begun)


class Told:
    """What a generation told."""

    def __init__(self) -> None:
        self.items: list[Prefill | Piece] = []
        self.text_came = threading.Event()

    def __call__(self, item: Prefill | Piece) -> None:
        self.items.append(item)
        if isinstance(item, Piece):
            self.text_came.set()

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Piece))


def ask(script: Script, *steps: bytes, begun: Continuation | None = None) -> tuple[str, Outcome]:
    script.chats(*steps)
    told = Told()
    outcome = load(script).generate(task(begun=begun), told)
    assert outcome is not None
    return told.text, outcome


def failure(script: Script, *steps: bytes, begun: Continuation | None = None) -> NoyauError:
    with pytest.raises(NoyauError) as caught:
        ask(script, *steps, begun=begun)
    return caught.value


USAGE = event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})


def test_an_answer_is_streamed_and_its_usage_told(script: Script) -> None:
    said, outcome = ask(script, STREAM, text("Good"), text(" day", "stop"), USAGE, DONE)
    assert said == "Good day"
    assert (outcome.finish_reason, outcome.prompt_tokens) == ("stop", 9)
    assert outcome.completion_tokens == 2


# --- a stream that is not whole -------------------------------------------------------------


@pytest.mark.parametrize("last", [b"", DONE, USAGE, b"data: {"], ids=["", "done", "usage", "half"])
def test_an_answer_whose_end_was_never_said_is_cut_short(script: Script, last: bytes) -> None:
    error = failure(script, STREAM, text("Good"), *([last] if last else []))
    assert isinstance(error, EngineFailed)
    assert "without a finish_reason" in error.message


def test_what_came_before_the_cut_was_told(script: Script) -> None:
    script.chats(STREAM, text("Good"))
    told = Told()
    with pytest.raises(EngineFailed):
        load(script).generate(task(), told)
    assert told.text == "Good"


def test_a_body_that_ends_before_its_length_is_cut_short(script: Script) -> None:
    head = STREAM.replace(b"Connection: close", b"Content-Length: 9999")
    assert "broke" in failure(script, head, text("Good")).message


def test_whoever_said_the_end_may_break_the_connection(script: Script) -> None:
    head = STREAM.replace(b"Connection: close", b"Content-Length: 9999")
    said, outcome = ask(script, head, text("Good", "length"))
    assert (said, outcome.finish_reason, outcome.completion_tokens) == ("Good", "length", 1)


@pytest.mark.parametrize("reason", ["abort", "content_filter", "tool_calls", "error"])
def test_an_end_that_is_none_of_the_models_is_a_failure(script: Script, reason: str) -> None:
    error = failure(script, STREAM, text("Good", reason), DONE)
    assert isinstance(error, EngineFailed)
    assert reason in error.message


# --- what is no answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error": {"message": "CUDA out of memory", "code": 500}}, EngineOutOfMemory),
        ({"error": {"message": "slot died", "type": "server_error"}}, EngineFailed),
        ({"error": "just text"}, EngineFailed),
        ({"object": "error", "message": "older vLLM", "code": 500}, EngineFailed),
        ({"error": {"message": "bad", "code": 400}}, InvalidRequest),
    ],
)
def test_an_error_in_the_middle_of_the_stream_is_raised(
    script: Script, said: dict[str, Any], kind: type[NoyauError]
) -> None:
    assert type(failure(script, STREAM, text("Good"), event(said), DONE)) is kind


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {not json}\n\n", b"data: [1]\n\n", b"data: 7\n\n", b"<html>\n\n",
        b'data: {"choices": 3}\n\n', b'data: {"choices": [{"delta": 3}]}\n\n',
        b"data: \xff\xfe\n\n", b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)  # fmt: skip
def test_garbage_is_a_failure(script: Script, garbage: bytes) -> None:
    assert type(failure(script, STREAM, text("Good"), garbage, DONE)) is EngineFailed


def test_an_event_without_end_is_not_kept(script: Script) -> None:
    error = failure(script, STREAM, b"data: " + b"x" * 2**21)
    assert "more than 1048576 bytes" in error.message


def test_an_answer_that_is_no_stream_is_a_failure(script: Script) -> None:
    error = failure(script, answer(200, {"choices": []}, "Content-Type: application/json"))
    assert "application/json, not a stream" in error.message


def test_numbers_that_are_none_are_garbage(script: Script) -> None:
    named: dict[str, Any] = {"content": [{"token": "x", "logprob": None, "top_logprobs": []}]}
    choice = {"delta": {"content": "x"}, "logprobs": named, "finish_reason": None}
    script.chats(STREAM, event({"choices": [choice]}))
    asked = task()
    asked.logprobs = 0
    with pytest.raises(EngineGarbage):
        load(script).generate(asked, Told())


def test_a_character_in_two_halves_is_one(script: Script) -> None:
    whole = text("é漢😀", "stop")
    cut = whole.index("😀".encode()) + 2
    # At once or one by one, as the network likes: `test_openai_events` cuts everywhere.
    assert ask(script, STREAM, whole[:cut], whole[cut:], DONE)[0] == "é漢😀"


def test_what_ends_a_line_in_python_alone_does_not_end_an_event(script: Script) -> None:
    assert ask(script, STREAM, text("a\u2028b\x85c\x0bd", "stop"))[0] == "a\u2028b\x85c\x0bd"


# --- refusals -------------------------------------------------------------------------------

LLAMA_TOO_LONG = {
    "code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 731, "n_ctx": 512,
    "message": "request (731 tokens) exceeds the available context size (512 tokens)",
}  # fmt: skip
VLLM_TOO_LONG = {
    "message": "This model's maximum context length is 512 tokens. However, you requested 739 "
    "tokens (731 in the messages, 8 in the completion).", "type": "BadRequestError", "code": 400,
}  # fmt: skip


@pytest.mark.parametrize("said", [LLAMA_TOO_LONG, VLLM_TOO_LONG])
def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(
    script: Script, said: dict[str, Any]
) -> None:
    error = failure(script, answer(400, {"error": said}))
    assert isinstance(error, InvalidRequest)
    assert error.details == {"prompt_tokens": 731, "context_tokens": 512}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "no such field"}}, InvalidRequest, "no such field"),
        (422, {"detail": [{"msg": "wrong type"}]}, InvalidRequest, "wrong type"),
        (401, {"error": {"message": "Invalid API Key"}}, EngineFailed, "wants a key"),
        (403, b"<html>no</html>", EngineFailed, "answers 403"),
        (404, {"error": {"message": "no model"}}, EngineFailed, "answers 404"),
        (500, {"error": {"message": "CUDA error: out of memory"}}, EngineOutOfMemory, "memory"),
        (500, b"", EngineFailed, "answers 500"),
        (502, b"<html>bad gateway</html>", EngineFailed, "bad gateway"),
    ],
)
def test_each_refusal_has_its_error(
    script: Script, status: int, body: Any, kind: type[NoyauError], words: str
) -> None:
    error = failure(script, answer(status, body))
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "Retry-After: 7", 7.0), (503, "Retry-After: 0.5", 0.5), (503, "X-None: 1", 1.0),
        (429, "Retry-After: 99999", 60.0), (429, "Retry-After: soon", 1.0),
        (429, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.05),
    ],
)  # fmt: skip
def test_a_server_without_room_says_when_to_come_back(
    script: Script, status: int, header: str, seconds: float
) -> None:
    error = failure(script, answer(status, {"error": {"message": "busy"}}, header))
    assert isinstance(error, Overloaded)
    assert error.details["retry_after_s"] == seconds


def test_a_model_that_was_taken_away_is_told_with_those_there_are(script: Script) -> None:
    other = {"data": [{"id": "another"}]}
    script.answers["/v1/models"] = [[answer(200, MODELS)], [answer(200, other)]]
    error = failure(script, answer(404, {"error": {"message": "no model tiny"}}))
    assert "no model 'tiny'" in error.message
    assert "there are: another" in error.message


def test_a_redirect_is_not_followed(script: Script) -> None:
    error = failure(script, answer(307, b"", "Location: http://elsewhere/"))
    assert "redirects to http://elsewhere/" in error.message


def test_a_server_that_hangs_up_at_once_is_a_failure(script: Script) -> None:
    script.answers["/v1/chat/completions"] = [[]]
    with pytest.raises(EngineFailed, match=r"the connection to .* broke"):
        load(script).generate(task(), Told())


# --- cancelling -----------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [STREAM], [STREAM, text("Good")], [STREAM, b"data: {"]])
def test_a_cancel_ends_it_however_silent_the_server_is(script: Script, before: list[bytes]) -> None:
    script.chats(*before, HOLD)
    cancelled_while_silent(script, task(), requests=2)


def cancelled_while_silent(script: Script, asked: Task, requests: int) -> None:
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(load(script).generate, asked, Told())
        until(lambda: len(script.asked) >= requests)
        asked.cancelled.set()
        assert running.result(PATIENCE_S) is None
    assert script.gone.wait(PATIENCE_S), "the server is told too: the connection is closed"


def test_a_cancel_also_ends_the_waiting_for_the_words_of_a_refusal(script: Script) -> None:
    script.chats(b"HTTP/1.1 500 As told\r\nContent-Length: 9\r\n\r\n", HOLD)
    cancelled_while_silent(script, task(), requests=2)


def test_a_cancel_also_ends_the_counting_of_what_was_begun() -> None:
    with scripted(of_kind("sglang")) as script:
        script.answers["/tokenize"] = [[HOLD]]
        cancelled_while_silent(script, task(begun=Continuation(text="Good")), requests=2)


def test_a_cancel_between_two_tokens_lets_no_further_one_through(script: Script) -> None:
    script.chats(STREAM, text("one") + text("two") + text("three", "stop"), DONE)
    asked, told = task(), Told()

    def emit(item: Prefill | Piece) -> None:
        told(item)
        asked.cancelled.set()

    assert load(script).generate(asked, emit) is None
    assert told.text == "one"


def test_what_was_cancelled_before_it_began_is_not_even_asked(script: Script) -> None:
    asked = task()
    asked.cancelled.set()
    assert load(script).generate(asked, Told()) is None
    assert [one.path for one in script.asked] == ["/v1/models"]


def test_an_answer_that_nobody_can_take_is_given_up_at_the_server(script: Script) -> None:
    script.chats(STREAM, text("Good"), HOLD)

    def emit(_: Prefill | Piece) -> None:
        raise EngineFailed("told so")

    with pytest.raises(EngineFailed, match="told so"):
        load(script).generate(task(), emit)
    assert script.gone.wait(PATIENCE_S)


# --- loading --------------------------------------------------------------------------------


def refused(script: Script | str, **more: Any) -> str:
    with pytest.raises(EngineFailed) as caught:
        load(script, **more)
    return caught.value.message


def test_a_server_that_is_not_there_is_said_with_its_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        message = refused(url)
    assert url in message
    assert "Connection refused; start the server, or correct url" in message


def test_a_server_that_still_loads_its_model_is_waited_for(script: Script) -> None:
    loading = answer(503, {"error": {"message": "Loading model", "type": "unavailable_error"}})
    script.answers["/v1/models"] = [[loading], [answer(200, MODELS)]]
    assert load(script, server_wait_s=30).device == "cpu"


def test_a_key_goes_with_every_request_and_is_never_shown(script: Script, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    backend = load(script, api_key_file=str(key_file))
    script.chats(answer(401, {"error": {"message": f"Incorrect API key: {KEY}"}}))
    with pytest.raises(EngineFailed) as caught:
        backend.generate(task(), Told())
    assert [one.headers["authorization"] for one in script.asked] == [f"Bearer {KEY}"] * 2
    assert str(key_file) in caught.value.message
    assert KEY not in caught.value.message


@pytest.mark.parametrize("content", ["", "two words", "nö", "a\nb"])
def test_a_file_without_a_key_is_said(script: Script, tmp_path: Path, content: str) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(content)
    with pytest.raises(UnusableKey, match="holds no key"):
        load(script, api_key_file=str(key_file))
    with pytest.raises(UnusableKey, match="cannot be read: No such file"):
        load(script, api_key_file=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(401, {"error": {"message": "no"}}), "name that in the setting api_key_file"),
        (answer(404, b"<html>"), "speaks no OpenAI-compatible API"),
        (answer(200, b"<html>"), "mostly ends in /v1"),
        (answer(200, {"data": []}), "load one there"),
        (answer(200, {"data": "x"}), "no list of models"),
        (answer(302, b"", "Location: /login"), "redirects to /login"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "broke"),
    ],
)
def test_what_is_no_such_server_is_said_with_what_to_do(
    script: Script, said: bytes, words: str
) -> None:
    script.answers["/v1/models"] = [[said]]
    assert words in refused(script)


def test_a_model_that_is_not_there_is_told_with_those_there_are(script: Script) -> None:
    assert "no model 'huge' (remote_model); there are: tiny" in refused(script, remote_model="huge")


def test_tls_with_a_server_that_speaks_none_is_said(script: Script) -> None:
    assert "write http:// if that is meant" in refused(script.url.replace("http:", "https:"))


def test_proxies_of_the_environment_are_not_for_this_machine(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    load(script)
    assert "cannot be reached" in refused("http://server.invalid/v1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "a.localhost"])
def test_this_machine_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback("192.168.1.2")
    assert not is_loopback("localhost.example.org")


# --- going on with an answer, and counting ----------------------------------------------------

BEGUN = Continuation(text="Good", count=3)


def test_nothing_is_gone_on_with_where_it_is_not_known_how(script: Script) -> None:
    error = failure(script, STREAM, text("Good", "stop"), begun=BEGUN)
    assert isinstance(error, EngineFailed)
    assert "not known to go on with an answer that another began" in error.message
    assert [one.path for one in script.asked] == ["/v1/models"]


@pytest.mark.parametrize(
    ("owner", "fields"),
    [
        ("vllm", {"add_generation_prompt": False, "continue_final_message": True}),
        ("sglang", {"continue_final_message": True}),
        ("llamacpp", {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_an_answer_is_gone_on_with_as_its_last_turn(owner: str, fields: dict[str, Any]) -> None:
    with scripted(of_kind(owner)) as script:
        said, _ = ask(script, STREAM, text(" day", "stop"), begun=BEGUN)
        assert said == " day"
        question = script.question()
    assert question["messages"][-1] == {"role": "assistant", "content": "Good"}
    assert question["max_tokens"] == 5
    assert question | fields == question


def test_a_server_that_does_not_go_on_is_lost_and_the_query_is_not() -> None:
    with scripted(of_kind("llamacpp")) as script:
        error = failure(script, answer(400, {"error": {"message": "prefill"}}), begun=BEGUN)
    assert type(error) is EngineFailed


def test_an_answer_that_fills_the_context_already_is_complete() -> None:
    with scripted(of_kind("llamacpp")) as script:
        said, outcome = ask(script, answer(400, {"error": LLAMA_TOO_LONG}), begun=BEGUN)
    assert (said, outcome.finish_reason) == ("", "length")


def test_an_answer_that_might_fill_the_context_gets_the_room_there_is() -> None:
    """vLLM refuses what might not fit, where others end it by its length."""
    close = VLLM_TOO_LONG["message"]
    said = {"message": str(close).replace("731", "507").replace("739", "515"), "code": 400}
    with scripted(of_kind("vllm")) as script:
        script.answers["/tokenize"] = [[answer(200, {"tokens": list(range(508)), "count": 508})]]
        script.chats(answer(400, {"error": said}))
        _, outcome = ask(script, STREAM, text("Good", "length"), DONE)
        assert outcome.finish_reason == "length"
        assert [script.question(one)["max_tokens"] for one in (-2, -1)] == [8, 4]


def test_tokens_are_counted_by_the_server_or_by_the_rule_of_thumb(script: Script) -> None:
    assert load(script).count(["", "four", "five!"]) == [0, 1, 2]
    with scripted(of_kind("vllm")) as vllm:
        vllm.answers["/tokenize"] = [[answer(200, {"tokens": [5, 6, 7]})]]
        assert load(vllm).count(["", "some words"]) == [0, 3]


def test_the_context_is_what_the_server_says_or_the_settings(script: Script) -> None:
    def context(script: Script) -> int:
        loaded = OpenAIHttp().load(Path(), MODEL_ID, settings(script, context_tokens=4000))
        return loaded.context_tokens

    assert context(script) == 1000
    with scripted(of_kind("vllm", max_model_len=32768)) as vllm:
        assert context(vllm) == 32768
    with scripted(of_kind("llamacpp", meta={"n_ctx": 2048})) as llama:
        assert context(llama) == 2048
        llama.answers["/props"] = [[answer(200, {"default_generation_settings": {"n_ctx": 512}})]]
        assert context(llama) == 512


def test_closing_it_ends_its_thread(script: Script) -> None:
    def threads() -> int:
        return sum(thread.name == "openai-http" for thread in threading.enumerate())

    before = threads()
    backend = load(script)
    assert threads() == before + 1
    backend.unload()
    assert threads() == before
