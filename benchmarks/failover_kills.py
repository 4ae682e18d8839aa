"""Answers whose engine is killed at a random token: are they complete, and the same?

Simulated engines write the same words whoever writes them, so that any text that is missing or
there twice shows. The real model has weights of half precision and writes greedily: its rest is
computed anew from prompt and text, which must not change what it says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cut_answers import SETTINGS, Cut, both, cut, first_difference, hear, ready
from benchmarks.half_weights import half_weights
from benchmarks.harness import Options, System, progress, show_table
from benchmarks.steady import WORDS
from configs import load_settings
from protocol.messages.orchestrator import Query

TOGETHER = 3
"""Answers that the simulated engine writes when it is killed; the first one is the kill's own."""
SIMULATED_TOKENS = 128
SIMULATED = (
    *SETTINGS,
    *both("backend=simulated", "simulated_token_s=0.002", "slots=8", "context_tokens=16384"),
)
REAL_TOKENS = 96
REAL_RUNS, QUICK_REAL_RUNS = 100, 4
SPARED_TOKENS = 8
"""Before the end of an answer nothing is killed: the engine is ahead of the reader."""
_SHOWN = 8


async def simulated(options: Options) -> list[Cut]:
    """As many kills as there are runs."""
    chance, done = random.Random(1), list[Cut]()
    async with System(*SIMULATED) as system:
        for number in range(options.runs):
            queries = [
                _query(f"Go on from {number}, reader {reader}.", SIMULATED_TOKENS)
                for reader in range(TOGETHER)
            ]
            await ready(system)
            whole = await asyncio.gather(*(hear(system, query) for query in queries))
            after = chance.randint(1, SIMULATED_TOKENS - SPARED_TOKENS)
            done.append(await cut(system, queries, after, whole))
            if _is_over(options, done, options.runs):
                break
    return done


async def real(options: Options) -> list[Cut]:
    """The same with the real model, one answer at a time."""
    chance, done = random.Random(2), list[Cut]()
    runs = QUICK_REAL_RUNS if options.quick else REAL_RUNS
    weights = half_weights(default_model())
    async with System(*SETTINGS, *both(f"model={weights}", "slots=1")) as system:
        while len(done) < runs:
            one, other = chance.sample(WORDS, 2)
            query = _query(f"Write a short story about a {one} and a {other}.", REAL_TOKENS)
            await ready(system)
            # An engine that has the prompt in its cache reads only the last token of it, and alone,
            # which rounds differently: both answers are to begin with it there.
            await hear(system, query.model_copy(update={"id": Query().id, "max_tokens": 1}))
            whole = await hear(system, query)
            if whole.tokens < REAL_TOKENS // 2:
                continue
            after = chance.randint(1, whole.tokens - SPARED_TOKENS)
            done.append(await cut(system, [query], after, [whole]))
            if _is_over(options, done, runs):
                break
    return done


def default_model() -> Path:
    """The default model's file, which a system has fetched before."""
    return next((load_settings().data.assets_folder / "models").glob("*.gguf"))


def _query(text: str, tokens: int) -> Query:
    return Query(text=text, max_tokens=tokens, temperature=0, memories=False, tools=False)


def _is_over(options: Options, done: Sequence[Cut], runs: int) -> bool:
    if len(done) % max(1, runs // 10) == 0:
        wrong = sum(not one.identical for one in done)
        progress(f"{len(done)} of {runs} kills, {wrong} with another text")
    return options.is_over


def show(name: str, cuts: Sequence[Cut]) -> None:
    """Print what became of the answers, and of those with another text where that begins."""
    answers = [(whole, heard) for one in cuts for whole, heard in zip(one.whole, one.cut)]  # noqa: B905
    show_table(
        [name, "value"],
        [
            ["kills", str(len(cuts))],
            ["answers", str(len(answers))],
            ["that went on behind a seam", str(sum(one.hit for one in cuts))],
            ["complete", str(sum(one.complete for one in cuts))],
            ["with the text of the uninterrupted one",
             str(sum(whole.text == heard.text for whole, heard in answers))],
            ["errors", ", ".join(sorted({h.error for _, h in answers if h.error})) or "none"],
        ],
    )  # fmt: skip
    rows = []
    for whole, heard in answers:
        at = first_difference(whole.text, heard.text)
        if at is None:
            continue
        seam = heard.end.seams[0].position if heard.end and heard.end.seams else 0
        rows.append(
            [str(heard.tokens_until(seam)), str(heard.tokens_until(at) - heard.tokens_until(seam)),
             repr(whole.text[at : at + 24]), repr(heard.text[at : at + 24])]
        )  # fmt: skip
    if rows:
        show_table(
            ["tokens before the seam", "the same behind it", "uninterrupted", "instead"],
            rows[:_SHOWN],
        )
