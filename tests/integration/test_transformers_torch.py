"""The backend `transformers` with torch on the CPU: what the contract suite does not ask of it.

The same rows, masks and steps run on a GPU; see docs/models.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test-transformers")
pytest.importorskip("transformers", reason="not installed: make test-transformers")

import torch
import transformers

from actors.engine.backends import Piece, Prefill, Task
from actors.engine.backends.llama_cpp import LlamaCpp
from actors.engine.backends.transformers_torch.backend import Transformers
from actors.engine.backends.transformers_torch.forward import Forward, is_broken, is_out_of_memory
from actors.engine.backends.transformers_torch.requests import Chosen, Want
from actors.engine.backends.turns import chat_turns
from configs.engine_settings import EngineSettings
from protocol.errors import EngineFailed, EngineGarbage, EngineOutOfMemory, MissingHardware
from protocol.messages.engine import ChatMessage, Continuation, Format, Sampling
from tests.support.model import model_path, shared_assets

MODEL = "the real one"
OPTIONS = EngineSettings(context_tokens=4 * 256, slots=4, batch_tokens=32, threads=1)
_KEPT: list[LlamaCpp] = []
"""Destroying one may hang."""
PROMPTS = ["Tell me about Paris in one sentence.", "Say hello.", "What is two plus two?"]


@pytest.fixture(scope="module")
def backend() -> Iterator[Transformers]:
    made = Transformers()
    made.load(model_path(), MODEL, OPTIONS, shared_assets().parent / "converted")
    yield made
    made.unload()


def ask(text: str, max_tokens: int = 24, begun: Continuation | None = None, **more: Any) -> Task:
    sampling = Sampling.model_validate({"max_tokens": max_tokens, "temperature": 0, **more})
    return Task([ChatMessage(role="user", content=text)], sampling, begun)


def pieces(backend: Transformers, task: Task) -> list[Piece]:
    came: list[Piece] = []

    def emit(item: Piece | Prefill) -> None:
        if isinstance(item, Piece):
            came.append(item)

    assert backend.generate(task, emit) is not None
    return came


def ids(came: list[Piece]) -> list[int]:
    return [token for piece in came for token in piece.tokens]


def said(backend: Transformers, task: Task) -> str:
    return "".join(piece.text for piece in pieces(backend, task))


def forward(backend: Transformers) -> Forward:
    assert backend.forward is not None
    return backend.forward


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_those_of_transformers_itself(
    backend: Transformers, prompt: str
) -> None:
    tokens = backend.tokens
    own = torch.tensor([tokens.prompt([{"role": "user", "content": prompt}])])
    with torch.inference_mode():
        whole = forward(backend).model.generate(
            own, attention_mask=torch.ones_like(own), do_sample=False, max_new_tokens=24
        )
    theirs = [one for one in whole[0, own.shape[1] :].tolist() if one not in tokens.ends]
    assert ids(pieces(backend, ask(prompt))) == theirs


def test_tokens_have_the_ids_that_llama_cpp_gives_them(backend: Transformers) -> None:
    """As the one goes on from the ids of the other."""
    llama = LlamaCpp()
    _KEPT.append(llama)
    llama.load(model_path(), MODEL, OPTIONS)
    for text in ("Hello  there,\n\tit's 12345!", "😀 é 漢字", "<|im_end|> is no end here", ""):
        assert backend.tokens.plain(text) == llama._tokenize(text, special=False)
    turns = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="What is <|im_end|>?"),
    ]
    assert backend.tokens.prompt(chat_turns(turns)) == llama._prompt(turns)


def test_an_answer_ends_where_the_model_says_its_end(backend: Transformers) -> None:
    outcome = backend.generate(ask("Say hello.", 200), lambda _: None)
    assert outcome is not None
    assert outcome.finish_reason == "stop"
    assert outcome.completion_tokens < 200


def test_the_same_prompt_gives_the_same_text_whatever_runs_beside(backend: Transformers) -> None:
    alone = [ids(pieces(backend, ask(prompt))) for prompt in PROMPTS]
    with ThreadPoolExecutor(7) as threads:
        others = [f"Tell me a long story about number {number}." for number in range(4)]
        running = [
            threads.submit(pieces, backend, ask(one)) for one in (*others[:2], *PROMPTS, *others)
        ]
        together = [ids(one.result()) for one in running[2:5]]
    assert together == alone


def test_continuing_from_ids_gives_what_the_uninterrupted_run_gives_in_most_cuts(
    backend: Transformers,
) -> None:
    same = cuts = 0
    for prompt in PROMPTS[:2]:
        whole = pieces(backend, ask(prompt))
        for position in range(1, len(whole), 2):
            text = "".join(piece.text for piece in whole[:position])
            begun = Continuation(text=text, tokens=ids(whole[:position]), model=MODEL)
            rest = pieces(backend, ask(prompt, 24, begun))
            same += ids(rest) == ids(whole[position:])
            cuts += 1
    assert same > cuts * 0.8


def test_a_sampled_answer_that_is_continued_under_its_seed_goes_on_as_it_would_have(
    backend: Transformers,
) -> None:
    settings: dict[str, Any] = {"temperature": 1.0, "seed": 5}
    whole = pieces(backend, ask(PROMPTS[0], 16, **settings))
    begun = Continuation(
        text="".join(piece.text for piece in whole[:6]), tokens=ids(whole[:6]), model=MODEL
    )
    assert ids(pieces(backend, ask(PROMPTS[0], 16, begun, **settings))) == ids(whole[6:])


def test_penalties_change_what_is_said(backend: Transformers) -> None:
    prompt = "Repeat the word yes ten times."
    free = ids(pieces(backend, ask(prompt)))
    bound = ids(pieces(backend, ask(prompt, repeat_penalty=5.0)))
    assert len(set(bound)) / len(bound) > len(set(free)) / len(free)


def test_under_a_grammar_the_answer_is_one_of_its_sentences(backend: Transformers) -> None:
    task = ask("Is water wet?")
    task.format = Format(grammar='root ::= "yes" | "no"')
    assert said(backend, task) in ("yes", "no")


# --- what goes wrong ------------------------------------------------------------------------


def test_numbers_that_are_none_end_the_answer_and_leave_nothing_behind(
    backend: Transformers,
) -> None:
    whole = ids(pieces(backend, ask(PROMPTS[0])))
    weights: Any = forward(backend).model.model.layers[3].mlp.up_proj.weight
    kept = weights.data[0, 0].item()
    weights.data[0, 0] = float("nan")
    with pytest.raises(EngineGarbage):
        backend.generate(ask(PROMPTS[0]), lambda _: None)
    weights.data[0, 0] = kept
    assert ids(pieces(backend, ask(PROMPTS[0]))) == whole


def test_without_memory_one_answer_ends_and_the_one_beside_it_goes_on(
    backend: Transformers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The youngest of those that get their next token together."""
    steps, alone = forward(backend), ids(pieces(backend, ask(PROMPTS[0])))
    write, failed = steps.write, threading.Event()

    def full(last: dict[int, tuple[int, int]]) -> Any:
        if len(last) == 2 and not failed.is_set():
            failed.set()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return write(last)

    monkeypatch.setattr(steps, "write", full)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(pieces, backend, ask(PROMPTS[0])) for _ in range(2)]
        errors = [one.exception() for one in running]
        answers = [one for one, error in zip(running, errors, strict=True) if error is None]
    assert [type(error) for error in errors if error is not None] == [EngineOutOfMemory]
    assert ids(answers[0].result()) == alone


def test_the_cpus_lack_of_memory_is_known_too() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("something else"))


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: out of memory", False),
        ("CUDA error: invalid configuration argument", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_after_an_error_of_a_kernel_the_device_is_broken(text: str, broken: bool) -> None:
    assert is_broken(RuntimeError(text)) is broken


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_a_gpu_that_torch_does_not_see_is_missing_hardware() -> None:
    with pytest.raises(MissingHardware, match="torch sees no GPU"):
        Transformers().check(OPTIONS.model_copy(update={"device": "gpu"}))


def test_the_model_is_converted_once_and_again_where_that_is_damaged(tmp_path: Path) -> None:
    def loaded() -> str:
        backend = Transformers()
        backend.load(model_path(), MODEL, OPTIONS, tmp_path)
        text = said(backend, ask(PROMPTS[1], 4))
        backend.unload()
        return text

    text = loaded()
    (folder,) = tmp_path.glob("transformers-*")
    weights = folder / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert loaded() == text
    assert weights.stat().st_mtime_ns == made
    os.truncate(weights, 1000)
    assert loaded() == text
    assert weights.stat().st_size > 1000
    assert sorted(one.name for one in tmp_path.iterdir()) == [".transformers.lock", folder.name]


# --- models of other kinds, tiny and with random weights ------------------------------------

TINY = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
SLIDES = {"sliding_window": 8}
KINDS = {
    "llama": transformers.LlamaConfig(**TINY),
    "mistral": transformers.MistralConfig(**TINY, **SLIDES),
    "qwen2": transformers.Qwen2Config(**TINY),
    "qwen3": transformers.Qwen3Config(**TINY, head_dim=16),
    "phi3": transformers.Phi3Config(**TINY),
    "gemma2": transformers.Gemma2Config(**TINY, **SLIDES, head_dim=16),
    "gemma3": transformers.Gemma3TextConfig(
        **TINY, **SLIDES, head_dim=16, sliding_window_pattern=2
    ),
}  # fmt: skip


class NoTokens:
    ends: frozenset[int] = frozenset()

    def text_of(self, tokens: list[int]) -> str:
        return ""


def greedy(steps: Forward, logits: Any) -> list[int]:
    wants = [Want(Sampling(temperature=0), 0.0, None, None, None) for _ in logits]
    chosen = steps.choose(logits, wants)
    assert all(isinstance(one, Chosen) for one in chosen)
    return [one.token for one in chosen if isinstance(one, Chosen)]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_rows_compute_what_the_model_computes_without_them(kind: str) -> None:
    """Two prompts of different lengths, read in chunks, in rows that were used before."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(KINDS[kind], dtype=torch.float32).eval()
    prompts = [[5 + n % 90 for n in range(37)], [7, 11, 13]]
    steps = Forward(model, 4, 128, NoTokens())  # type: ignore[arg-type]
    answers: list[list[int]] = []
    for row, prompt in ((2, prompts[0]), (0, prompts[1])):
        steps.read(row, [50] * 60, 0)
        for start in range(0, len(prompt), 10):
            logits = steps.read(row, prompt[start : start + 10], start)
        answers.append(greedy(steps, logits))
    for made in range(1, 20):
        last = {
            row: (answer[-1], len(prompt) + made - 1)
            for row, answer, prompt in zip((2, 0), answers, prompts, strict=True)
        }
        for answer, token in zip(answers, greedy(steps, steps.write(last)), strict=True):
            answer.append(token)
    for prompt, answer in zip(prompts, answers, strict=True):
        own = torch.tensor([prompt])
        with torch.inference_mode():
            theirs = model.generate(
                own, attention_mask=torch.ones_like(own), do_sample=False, max_new_tokens=20,
                pad_token_id=0, eos_token_id=None,
            )  # fmt: skip
        assert answer == theirs[0, len(prompt) :].tolist()


def test_a_model_with_other_kinds_of_layers_is_refused() -> None:
    config = transformers.LlamaConfig(**TINY)
    config.layer_types = ["linear_attention"] * 4
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**TINY))
    model.config = config
    with pytest.raises(EngineFailed, match="linear_attention"):
        Forward(model, 1, 128, NoTokens())  # type: ignore[arg-type]
