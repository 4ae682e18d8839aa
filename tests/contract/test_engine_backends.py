"""What every engine backend promises, run on every one of them with a real model.

A new backend gets a bench of its own (`tests.support.benches`); the tests stay as they are. Nothing
here depends on what the model says, only on that it says the same when asked the same.
"""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.engine.backends import (
    BACKENDS,
    Piece,
    Prefill,
    Task,
)
from actors.engine.backends.llama_cpp import _gpus
from protocol.errors import EngineFailed, InvalidRequest, MissingHardware
from protocol.messages.engine import (
    ChatMessage,
    Continuation,
    Format,
    FunctionCall,
    Sampling,
)
from tests.support.benches import (
    BATCH_TOKENS,
    BENCHES,
    CONTEXT_TOKENS,
    MODEL,
    OPTIONS,
    Bench,
    LlamaCppBench,
    Run,
    ask,
    generate,
    kinds,
    words,
)
from tests.support.model import model_path
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module", params=kinds(*sorted(BENCHES)))
def bench(request: pytest.FixtureRequest) -> Bench:
    return BENCHES[request.param]()


COUNT = "Count from 1 to 20."
PARIS = "Tell me about Paris in one sentence."
EMOJI = "Say: 😀 é 漢字 😀"


def test_every_backend_is_on_this_bench() -> None:
    assert BENCHES.keys() == BACKENDS.keys()


def test_a_loaded_backend_says_what_a_slot_holds_and_where_it_computes(bench: Bench) -> None:
    assert bench.loaded.context_tokens == CONTEXT_TOKENS
    assert bench.loaded.name
    assert bench.backend.device in ("cpu", "gpu")


def test_every_backend_says_its_name_and_computes_on_a_cpu_without_more_ado(bench: Bench) -> None:
    assert bench.backend.name in BACKENDS
    bench.backend.check(OPTIONS)


@pytest.mark.skipif(bool(_gpus()), reason="this machine has a GPU, and the library can use it")
def test_a_gpu_that_the_library_does_not_see_is_missing_hardware() -> None:
    with pytest.raises(MissingHardware, match="sees no GPU"):
        LlamaCppBench.fresh().check(OPTIONS.model_copy(update={"device": "gpu"}))


# --- text and ids ---------------------------------------------------------------------------


def test_text_is_generated_and_its_end_says_how(bench: Bench) -> None:
    run = generate(bench, ask(PARIS))
    assert run.text.strip()
    assert run.done.finish_reason in ("stop", "length")
    assert run.done.prompt_tokens > len(bench.tokens(PARIS))
    assert 1 <= run.done.completion_tokens <= 16
    assert run.done.prefill_ms >= 0
    assert run.done.decode_ms > 0


def test_the_same_prompt_gives_the_same_text(bench: Bench) -> None:
    generate(bench, ask(PARIS))
    runs = [generate(bench, ask(PARIS)) for _ in range(2)]
    assert runs[0].pieces == runs[1].pieces


@pytest.mark.parametrize("prompt", [COUNT, PARIS, EMOJI])
def test_the_ids_of_a_piece_are_exactly_its_text(bench: Bench, prompt: str) -> None:
    run = generate(bench, ask(prompt))
    assert run.pieces
    for piece in run.pieces:
        assert piece.text
        assert "\N{REPLACEMENT CHARACTER}" not in piece.text
        if piece.tokens:
            assert bench.text(piece.tokens) == piece.text
            assert piece.count == len(piece.tokens)


@pytest.mark.parametrize("prompt", [COUNT, EMOJI])
def test_every_token_is_counted_in_one_piece(bench: Bench, prompt: str) -> None:
    run = generate(bench, ask(prompt))
    told = sum(piece.count for piece in run.pieces)
    # Not told: the token that says the end, and the beginning of a character that was cut off.
    assert run.done.completion_tokens - 3 <= told <= run.done.completion_tokens


def test_all_pieces_together_are_the_text_of_all_ids_together(bench: Bench) -> None:
    run = generate(bench, ask(COUNT))
    ids = [token for piece in run.pieces for token in piece.tokens]
    assert all(piece.tokens for piece in run.pieces)
    assert bench.text(ids) == run.text
    assert bench.text(bench.tokens(run.text)) == run.text


def test_what_is_emitted_comes_in_the_callers_thread(bench: Bench) -> None:
    assert generate(bench, ask(COUNT, 2)).threads == {threading.get_ident()}


def test_the_reading_of_the_prompt_is_told_batch_by_batch_up_to_its_end(bench: Bench) -> None:
    run = generate(bench, ask(words(100, "Prefill told"), 1))
    done = [prefill.done for prefill in run.prefills]
    assert done == sorted(done)
    assert len(set(done)) > 2
    assert {prefill.total for prefill in run.prefills} == {done[-1]}
    assert done[-1] == run.done.prompt_tokens


def test_tokens_are_counted_as_the_model_counts_them(bench: Bench) -> None:
    texts = ["", "one", EMOJI, words(100, "Counted")]
    assert bench.backend.count(texts) == [len(bench.tokens(text)) for text in texts]


# --- max_tokens and stop strings ----------------------------------------------------------------


def test_no_more_tokens_are_made_than_asked_for(bench: Bench) -> None:
    run = generate(bench, ask(COUNT, 5))
    assert (run.done.finish_reason, run.done.completion_tokens) == ("length", 5)
    assert sum(piece.count for piece in run.pieces) == 5


def test_what_an_answer_is_continued_from_counts_against_its_tokens(bench: Bench) -> None:
    begun = Continuation(text="1. 1\n2.", tokens=bench.tokens("1. 1\n2."), model=MODEL)
    run = generate(bench, ask(COUNT, len(begun.tokens) + 3, begun))
    assert (run.done.finish_reason, run.done.completion_tokens) == ("length", 3)


def test_an_answer_that_is_as_long_as_asked_for_already_is_complete(bench: Bench) -> None:
    begun = Continuation(text="1. 1\n2.", tokens=bench.tokens("1. 1\n2."), model=MODEL)
    run = generate(bench, ask(COUNT, len(begun.tokens), begun))
    assert (run.done.finish_reason, run.done.completion_tokens, run.pieces) == ("length", 0, [])


def test_a_stop_string_ends_the_text_right_before_it(bench: Bench) -> None:
    whole = generate(bench, ask(COUNT)).text
    stop = whole[len(whole) // 2 :][:3]
    run = generate(bench, ask(COUNT, stop=["never said", stop]))
    assert run.text == whole.partition(stop)[0]
    assert run.done.finish_reason == "stop"


def test_a_stop_string_across_tokens_holds_back_no_more_than_it_must(bench: Bench) -> None:
    """It begins like text that is said, so that text is held back and then released."""
    whole = generate(bench, ask(COUNT))
    begins = whole.pieces[0].text + whole.pieces[1].text
    run = generate(bench, ask(COUNT, stop=[begins + "never said"]))
    assert run.text == whole.text
    for piece in run.pieces:
        assert not piece.tokens or bench.text(piece.tokens) == piece.text


# --- continuing -----------------------------------------------------------------------------


def cut_at(run: Run, position: int, model: str = MODEL) -> Continuation:
    """All before the piece of this number, as another engine is told of it."""
    before = run.pieces[:position]
    return Continuation(
        text="".join(piece.text for piece in before),
        tokens=[token for piece in before for token in piece.tokens],
        model=model,
    )


def test_an_answer_that_was_cut_goes_on_right_behind_the_cut(bench: Bench) -> None:
    """Prefill and decode may round differently, so that a near tie falls the other way: not every
    continuation is what would have been said. But nothing is said twice, and nothing left out,
    where it is the same; and it must be the same somewhere."""
    whole = generate(bench, ask(PARIS, 20))
    same = 0
    for position in range(3, len(whole.pieces), 5):
        begun = cut_at(whole, position)
        assert bench.text(begun.tokens) == begun.text
        rest = generate(bench, ask(PARIS, 20, begun))
        assert rest.done.prompt_tokens == whole.done.prompt_tokens + len(begun.tokens)
        assert rest.done.completion_tokens <= 20 - len(begun.tokens)
        together = [*begun.tokens, *(token for piece in rest.pieces for token in piece.tokens)]
        if all(piece.tokens for piece in rest.pieces):
            assert bench.text(together) == begun.text + rest.text
        same += begun.text + rest.text == whole.text
    assert same


def test_an_answer_is_continued_from_its_text_where_no_ids_are_known(bench: Bench) -> None:
    whole = generate(bench, ask(COUNT))
    begun = Continuation(text=cut_at(whole, 6).text)
    rest = generate(bench, ask(COUNT, 16, begun))
    ids = bench.tokens(begun.text)
    assert rest.done.prompt_tokens == whole.done.prompt_tokens + len(ids)
    assert rest.text
    assert not rest.text.startswith(begun.text)


def test_ids_of_another_model_are_not_used(bench: Bench) -> None:
    text = "1. 1\n2."
    from_text = generate(bench, ask(COUNT, 12, Continuation(text=text)))
    wrong = Continuation(text=text, tokens=[5, 6, 7], model="another")
    assert generate(bench, ask(COUNT, 12, wrong)).pieces == from_text.pieces


def test_an_answer_is_continued_after_a_character_of_several_tokens(bench: Bench) -> None:
    begun = Continuation(text="🌍🌍")
    run = generate(bench, ask(EMOJI, len(bench.tokens("🌍🌍")) + 6, begun))
    assert run.pieces
    assert "\N{REPLACEMENT CHARACTER}" not in run.text


# --- too long -------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(bench: Bench) -> None:
    prompt = words(2 * CONTEXT_TOKENS, "Too long")
    with pytest.raises(InvalidRequest) as caught:
        generate(bench, ask(prompt))
    assert caught.value.details["context_tokens"] == CONTEXT_TOKENS
    assert caught.value.details["prompt_tokens"] >= len(bench.tokens(prompt)) > CONTEXT_TOKENS


def test_an_answer_for_which_the_context_is_full_ends_by_its_length(bench: Bench) -> None:
    own = generate(bench, ask(COUNT, 1)).done.prompt_tokens
    # Whoever has said the same so often goes on with it.
    begun = Continuation(text=" one" * (CONTEXT_TOKENS - own - 8))
    run = generate(bench, ask(COUNT, 2 * CONTEXT_TOKENS, begun))
    assert run.done.finish_reason == "length"
    assert run.done.completion_tokens > 0
    assert run.done.prompt_tokens + run.done.completion_tokens <= CONTEXT_TOKENS


def test_an_answer_begun_that_fills_the_context_is_complete(bench: Bench) -> None:
    begun = Continuation(text=" one" * CONTEXT_TOKENS)
    run = generate(bench, ask(COUNT, 4 * CONTEXT_TOKENS, begun))
    assert (run.done.finish_reason, run.pieces) == ("length", [])


# --- cancelling -----------------------------------------------------------------------------


def test_a_cancel_while_text_is_made_ends_it_with_the_next_token(bench: Bench) -> None:
    run = Run(ask(COUNT, 200))

    def emit(item: Prefill | Piece) -> None:
        run.emit(item)
        if len(run.pieces) == 3:
            run.task.cancelled.set()

    assert bench.backend.generate(run.task, emit) is None
    assert len(run.pieces) <= 4


def test_a_cancel_while_the_prompt_is_read_ends_it_with_the_next_batch(bench: Bench) -> None:
    run = Run(ask(words(400, "Cancelled early"), 200))

    def emit(item: Prefill | Piece) -> None:
        run.emit(item)
        if isinstance(item, Prefill) and item.done > 0:
            run.task.cancelled.set()

    assert bench.backend.generate(run.task, emit) is None
    assert run.pieces == []
    at_cancel = next(prefill.done for prefill in run.prefills if prefill.done > 0)
    last = run.prefills[-1]
    assert last.done <= at_cancel + BATCH_TOKENS
    assert last.done < last.total


def test_a_cancel_from_another_thread_is_seen(bench: Bench) -> None:
    task, began = ask(COUNT, 400), threading.Event()

    def emit(_: Prefill | Piece) -> None:
        began.set()
        # However late the other thread comes, there is still something to cancel.
        task.cancelled.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(bench.backend.generate, task, emit)
        assert began.wait(PATIENCE_S)
        task.cancelled.set()
        assert running.result() is None


def test_what_was_cancelled_before_it_began_makes_nothing(bench: Bench) -> None:
    run = Run(ask(COUNT))
    run.task.cancelled.set()
    assert bench.backend.generate(run.task, run.emit) is None
    assert run.pieces == []


def test_a_cancelled_generation_leaves_its_slot_to_the_next(bench: Bench) -> None:
    for _ in range(2 * OPTIONS.slots):
        test_a_cancel_while_text_is_made_ends_it_with_the_next_token(bench)
    assert generate(bench, ask(COUNT, 2)).done.completion_tokens == 2


# --- several at once ------------------------------------------------------------------------


def test_several_threads_are_served_each_its_own(bench: Bench) -> None:
    """More than there are slots: those that find none wait inside."""
    prompts = [COUNT, PARIS, EMOJI, "What is two plus two?"]
    # A pool's thread that is done before the last one was begun would do that one's work too.
    together = threading.Barrier(len(prompts))

    def run_one(prompt: str) -> Run:
        together.wait(PATIENCE_S)
        return generate(bench, ask(prompt, 8))

    with ThreadPoolExecutor(len(prompts)) as threads:
        runs = list(threads.map(run_one, prompts))
    for run, prompt in zip(runs, prompts, strict=True):
        alone = generate(bench, ask(prompt, 1))
        assert run.done.prompt_tokens == alone.done.prompt_tokens
        assert run.text
        assert len(run.threads) == 1
        for piece in run.pieces:
            assert not piece.tokens or bench.text(piece.tokens) == piece.text
    assert len(set.union(*(run.threads for run in runs))) == len(runs)


def test_one_that_is_refused_does_not_harm_the_one_beside_it(bench: Bench) -> None:
    too_long = ask(words(2 * CONTEXT_TOKENS, "Beside"))
    with ThreadPoolExecutor(2) as threads:
        good = threads.submit(generate, bench, ask(COUNT, 8))
        bad = threads.submit(generate, bench, too_long)
        with pytest.raises(InvalidRequest):
            bad.result()
        assert good.result().done.completion_tokens == 8


# --- files that cannot be loaded ------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "empty", "another kind of file", "not there"])
@pytest.mark.parametrize("kind", kinds("llama_cpp", "transformers"))
def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / "model.gguf"
    if damage == "truncated":
        with model_path().open("rb") as whole:
            path.write_bytes(whole.read(model_path().stat().st_size // 2))
    elif damage == "empty":
        path.touch()
    elif damage == "another kind of file":
        path.write_text("This is no model.\n" * 1000)
    backend = BENCHES[kind].fresh()
    with pytest.raises(EngineFailed) as caught:
        backend.load(path, MODEL, OPTIONS)
    assert caught.value.details == {"path": str(path)}


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
    "additionalProperties": False,
}


def test_under_a_json_schema_the_answer_is_json_that_fits(bench: Bench) -> None:
    pieces: list[str] = []
    question = [ChatMessage(role="user", content="Which colour has the sky? Answer in JSON.")]
    task = Task(question, Sampling(max_tokens=60, temperature=0), format=Format(json_schema=SCHEMA))
    outcome = bench.backend.generate(
        task, lambda item: pieces.append(item.text) if isinstance(item, Piece) else None
    )
    assert outcome is not None
    assert outcome.finish_reason == "stop"
    value = json.loads("".join(pieces))
    assert value in ({}, {"colour": "red"}, {"colour": "blue"})


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["tall", "old"]}, "minItems": 2, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def describe(begun: Continuation | None = None) -> Task:
    task = ask("Describe a person as JSON.", 120, begun)
    task.format = Format(json_schema=PERSON)
    return task


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_json_that_was_cut_goes_on_within_its_schema(bench: Bench, share: float) -> None:
    """Also where the engine that goes on knows no more than the text."""
    whole = generate(bench, describe())
    value = json.loads(whole.text)
    assert value.keys() == {"name", "age", "tags"}
    cut = Continuation(text="".join(p.text for p in whole.pieces[: int(len(whole.pieces) * share)]))
    rest = generate(bench, describe(cut))
    assert rest.done.finish_reason == "stop"
    value = json.loads(cut.text + rest.text)
    assert value.keys() == {"name", "age", "tags"}
    assert len(value["tags"]) == 2


ORDER = r"""
root  ::= "order " [1-9] [0-9]? ":" line{2,4} "\n" last
line  ::= "\n" ("- " | "* ") [1-9] " x " word (" " word)?   # how many, and what
word  ::= [a-z]{2,8}
last  ::= "total " [0-9]{1,3} "." [0-9]{2} | "é"
"""
FITS_ORDER = (
    r"order [1-9][0-9]?:(\n(- |\* )[1-9] x [a-z]{2,8}( [a-z]{2,8})?){2,4}"
    r"\n(total [0-9]{1,3}\.[0-9]{2}|é)"
)


def order(begun: Continuation | None = None) -> Task:
    task = ask("Order some fruit.", 120, begun)
    task.format = Format(grammar=ORDER)
    return task


def test_under_a_grammar_the_answer_fits_it_or_is_refused(bench: Bench) -> None:
    if not bench.knows_grammars:
        with pytest.raises(InvalidRequest, match="knows no grammars"):
            generate(bench, order())
        return
    run = generate(bench, order())
    assert run.done.finish_reason == "stop"
    assert re.fullmatch(FITS_ORDER, run.text)


@pytest.mark.parametrize("ids", [True, False], ids=["its ids", "its text"])
def test_an_answer_that_was_cut_goes_on_within_its_grammar(bench: Bench, ids: bool) -> None:
    """Wherever it is cut, also where nothing is missing but its end. Each way has every second of
    the places, as to write under a grammar takes llama.cpp half a second."""
    if not bench.knows_grammars:
        pytest.skip("it knows no grammars")
    whole = generate(bench, order())
    for position in [*range(1 if ids else 5, len(whole.pieces), 8), len(whole.pieces)]:
        cut = cut_at(whole, position) if ids else Continuation(text=cut_at(whole, position).text)
        rest = generate(bench, order(cut))
        assert rest.done.finish_reason == "stop"
        assert re.fullmatch(FITS_ORDER, cut.text + rest.text)


def test_an_answer_that_does_not_fit_its_grammar_is_not_gone_on_with(bench: Bench) -> None:
    if not bench.knows_grammars:
        pytest.skip("it knows no grammars")
    with pytest.raises(EngineFailed, match="does not fit its"):
        generate(bench, order(Continuation(text="order none")))


# --- what else is asked of a generation -----------------------------------------------------


def test_each_token_says_how_likely_it_was_where_that_is_asked(bench: Bench) -> None:
    task = ask(COUNT, 6)
    task.logprobs = 2
    told = [one for piece in generate(bench, task).pieces for one in piece.logprobs]
    assert len(told) == 6
    for one in told:
        assert one.logprob <= 0
        assert len(one.top) == 2
        assert one.top[0].logprob >= one.top[1].logprob
    assert not any(piece.logprobs for piece in generate(bench, ask(COUNT, 6)).pieces)


@pytest.mark.parametrize(
    "setting",
    [{"top_k": 1}, {"min_p": 1}, {"top_p": 0.01}, {"temperature": 0}],
    ids=["top_k", "min_p", "top_p", "temperature"],
)
def test_settings_that_leave_one_token_make_it_greedy(
    bench: Bench, setting: dict[str, float]
) -> None:
    greedy = generate(bench, ask(PARIS, 12)).text
    more: dict[str, object] = {"temperature": 1.5, "seed": 3, **setting}
    assert generate(bench, ask(PARIS, 12, None, **more)).text == greedy


def test_the_same_seed_gives_the_same_text(bench: Bench) -> None:
    runs = [generate(bench, ask(PARIS, 12, temperature=1.2, seed=11)).text for _ in range(2)]
    assert runs[0] == runs[1]


def test_what_is_raised_over_a_piece_ends_the_generation_and_is_raised(bench: Bench) -> None:
    def emit(item: Prefill | Piece) -> None:
        if isinstance(item, Piece):
            raise EngineFailed("told so")

    with pytest.raises(EngineFailed, match="told so"):
        bench.backend.generate(ask(COUNT, 6), emit)
    assert generate(bench, ask(COUNT, 2)).done.completion_tokens == 2


def test_a_turn_with_a_functions_call_and_its_result_is_read(bench: Bench) -> None:
    call = FunctionCall(id="1", name="weather", arguments='{"place": "Paris"}')
    turns = [
        ChatMessage(role="user", content="What is the weather in Paris?"),
        ChatMessage(role="assistant", calls=[call]),
        ChatMessage(role="tool", content="It rains.", call_id="1"),
    ]
    run = Run(Task(turns, Sampling(max_tokens=4, temperature=0)))
    run.outcome = bench.backend.generate(run.task, run.emit)
    assert run.done.prompt_tokens > len(bench.tokens("What is the weather in Paris? It rains."))


def test_a_backend_that_was_unloaded_has_given_its_memory_back(bench: Bench) -> None:
    fresh = BENCHES[bench.backend.name]()
    generate(fresh, ask(COUNT, 2))
    done = threading.Event()

    def unload() -> None:
        fresh.backend.unload()
        done.set()

    threading.Thread(target=unload, daemon=True).start()
    assert done.wait(30)
