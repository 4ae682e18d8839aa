"""Tokens per second of the backend `transformers`, against plain `generate` of transformers.

``python -m benchmarks.transformers_gpu``, on the GPU where torch sees one, else on the CPU; it says
which. Both use one and the same loaded model, greedily, for prompts of one length, and take turns.
``generate`` is given all prompts of a round as one batch, which is the most favourable case for it:
they come together and end together. ``MODEL=FILE`` takes another GGUF file than the default one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from actors.engine.backends import Piece, Prefill, Task
from actors.engine.backends.transformers_torch.backend import Transformers
from actors.storage.manifest import load_manifest
from actors.storage.store import AssetStore
from benchmarks.harness import (
    Figure,
    alternate,
    median_ratio,
    parse_arguments,
    show_figures,
    show_table,
)
from configs.engine_settings import EngineSettings
from protocol.messages.engine import ChatMessage, Sampling

TOGETHER = (1, 8)
SLOTS = 8
MAX_TOKENS = 96
FOLDER = Path.home() / ".cache" / "noyau-benchmarks"


@dataclass(frozen=True, slots=True)
class Round:
    """What one round gave."""

    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second of all together."""
        return self.tokens / self.seconds


class Contest:
    """Both sides, on one loaded model."""

    def __init__(self, path: Path, device: str) -> None:
        options = EngineSettings.model_validate(
            {"device": device, "slots": SLOTS, "context_tokens": SLOTS * 512}
        )
        self._backend = Transformers()
        self._backend.load(path, str(path), options, FOLDER)
        self._threads = ThreadPoolExecutor(SLOTS)
        self._numbers = itertools.count(10_000)

    def prompts(self, together: int) -> list[str]:
        """Prompts of one length that nobody has seen before."""
        return [
            f"Tell me a long story about number {next(self._numbers)}." for _ in range(together)
        ]

    def through_backend(self, together: int) -> Round:
        """One round of noyau's backend: a thread for each prompt."""
        began = time.perf_counter()
        made = sum(self._threads.map(self._answer, self.prompts(together)))
        return Round(made, time.perf_counter() - began)

    def _answer(self, prompt: str) -> int:
        turns = [ChatMessage(role="user", content=prompt)]
        task = Task(turns, Sampling(temperature=0, max_tokens=MAX_TOKENS))
        outcome = self._backend.generate(task, _drop)
        assert outcome is not None
        return outcome.completion_tokens

    def through_generate(self, together: int) -> Round:
        """One round of transformers itself: one batch, padded on the left."""
        began = time.perf_counter()
        tokens, forward = self._backend.tokens, self._backend.forward
        assert forward is not None
        read = [tokens.prompt([{"role": "user", "content": p}]) for p in self.prompts(together)]
        longest = max(map(len, read))
        padding = min(tokens.ends)
        model: Any = forward.model
        batch = [[padding] * (longest - len(one)) + one for one in read]
        seen = [[0] * (longest - len(one)) + [1] * len(one) for one in read]
        with torch.inference_mode():
            made = model.generate(
                torch.tensor(batch, device=model.device),
                attention_mask=torch.tensor(seen, device=model.device),
                do_sample=False, max_new_tokens=MAX_TOKENS, pad_token_id=padding,
                eos_token_id=sorted(tokens.ends),
            )[:, longest:].tolist()  # fmt: skip
        lengths = [
            next((n + 1 for n, one in enumerate(answer) if one in tokens.ends), len(answer))
            for answer in made
        ]
        return Round(sum(lengths), time.perf_counter() - began)


def _drop(item: Piece | Prefill) -> None:
    """Nobody reads it here."""


def model_file() -> Path:
    """The one that was named, else the default model, installed if it is not there yet."""
    if "MODEL" in os.environ:
        return Path(os.environ["MODEL"]).expanduser()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    store = AssetStore(FOLDER / "assets", load_manifest(), boot_id=boot_id)
    return store.install("default").path


async def measure() -> None:
    """Run the benchmark and print its figures."""
    options = parse_arguments(__doc__, runs=8, quick_runs=2)
    device = "gpu" if torch.cuda.is_available() else "cpu"
    contest = Contest(model_file(), device)
    contestants: dict[str, Callable[[], Awaitable[Round]]] = {}
    for together in TOGETHER:
        for name, run in (
            ("noyau", contest.through_backend), ("generate", contest.through_generate),
        ):  # fmt: skip
            contestants[f"{name}, {together}"] = _in_thread(run, together)
    results = await alternate(contestants, options)
    where = torch.cuda.get_device_name() if device == "gpu" else "the CPU"
    print(f"\n{where}, torch {torch.__version__}, transformers {transformers.__version__}\n")
    _show(results, device)


def _in_thread(run: Callable[[int], Round], together: int) -> Callable[[], Awaitable[Round]]:
    return lambda: asyncio.to_thread(run, together)


def _show(results: dict[str, list[Round]], device: str) -> None:
    show_table(
        ["requests together", "tokens/s", "rounds"],
        [
            [name, f"{statistics.median(one.rate for one in rounds):.1f}", str(len(rounds))]
            for name, rounds in results.items()
        ],
    )
    figures = {"on_gpu": Figure(float(device == "gpu"), "1 or 0")}
    for together in TOGETHER:
        ours = [one.rate for one in results[f"noyau, {together}"]]
        theirs = [one.rate for one in results[f"generate, {together}"]]
        figures[f"tokens_per_s_{together}"] = Figure(statistics.median(ours), "tokens/s")
        ratio = median_ratio(ours, theirs)
        figures[f"tokens_per_s_vs_generate_{together}"] = Figure(ratio, "ratio")
    show_figures("transformers_gpu", figures)


if __name__ == "__main__":
    asyncio.run(measure())
