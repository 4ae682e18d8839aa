"""From the loss of an engine to the next token, over what reading prompt and text anew takes.

Whoever goes on with an answer has to read its prompt and all of its text first, and nothing makes
that shorter. The gap is measured by the reader: from the kill to the first text behind the seam.
What reading took is told by the engine that did it, with its first token; measured besides with a
prompt of the same length on the idle engine, as the lost one is started again at the same time.
Each round has new prompts; what a prompt cache knew of them (the template's beginning) is shown.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cut_answers import SETTINGS, both, hear, ready
from benchmarks.harness import Figure, Options, System, alternate, progress, show_table
from protocol.messages.orchestrator import Begun, Query

LENGTHS = (100, 500, 1500)
"""Tokens of text before the kill."""
QUICK_LENGTHS = LENGTHS[:2]
RUNS, QUICK_RUNS = 10, 2
AHEAD_TOKENS = 64
"""The engine may be so far ahead of its reader without having ended the answer."""
TRIES = 20
REACH_MS = 50.0
SYSTEM = (
    *SETTINGS, *both("slots=1", "context_tokens=8192"),
    # A model that counts says much the same for long.
    "query.repetition_chars=0",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gap:
    """One round."""

    reader_ms: float
    seam_ms: float
    """What the answer's metadata say: from the loss being noticed."""
    prefill_ms: float
    """By the engine that went on."""
    idle_prefill_ms: float
    """Of a prompt as long, on the idle engine."""
    read_tokens: int
    """Prompt and text, without what was cached."""
    idle_read_tokens: int

    @property
    def over_ms(self) -> float:
        """What the failover itself took."""
        return self.reader_ms - self.prefill_ms

    @property
    def over_idle_ms(self) -> float:
        """The same, with what the restart of the lost engine took of the processor."""
        return self.reader_ms - self.idle_prefill_ms


def _counting(chance: random.Random, tokens: int) -> Query:
    """A question whose answer is as long as is wanted, and new."""
    begin = chance.randrange(1000, 8000)
    text = f"Write the numbers from {begin} to {begin + 2000}, separated by commas."
    return Query(text=text, max_tokens=tokens, temperature=0, memories=False, tools=False)


async def one(system: System, chance: random.Random, length: int) -> Gap:
    """Kill the engine once its reader has so many tokens; then have as much read in peace."""
    for _ in range(TRIES):
        pid = await ready(system)
        query = _counting(chance, length + AHEAD_TOKENS)
        heard = await hear(system, query, kill=pid, after=length)
        if heard.end is not None and heard.was_cut and heard.gap_ms is not None:
            break
        # It ended before: another one goes on for longer.
        progress(f"an answer of {heard.tokens} tokens was over too soon: {heard.error or 'end'}")
    else:
        raise RuntimeError(f"no answer of {length} tokens that a kill interrupts")
    seam, use = heard.end.seams[0], heard.end.engines[-1]
    await ready(system)
    # The first request of an incarnation warms it up.
    await hear(system, _counting(chance, 1))
    before = _counting(chance, heard.tokens_until(seam.position) + 2)
    begun = Begun(text=heard.text[: seam.position], reason="measured")
    idle = await hear(system, before.model_copy(update={"begun": begun}))
    assert idle.end is not None
    idle_use = idle.end.engines[-1]
    return Gap(
        heard.gap_ms, seam.gap_ms, use.prefill_ms, idle_use.prefill_ms,
        use.prompt_tokens - use.cached_tokens, idle_use.prompt_tokens - idle_use.cached_tokens,
    )  # fmt: skip


async def measure(options: Options) -> dict[int, list[Gap]]:
    """The rounds of each length, which take turns."""
    chance = random.Random(3)
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    options = options.part(1.0, most_runs=QUICK_RUNS if options.quick else RUNS)
    async with System(*SYSTEM) as system:

        def round_of(length: int) -> Callable[[], Awaitable[Gap]]:
            async def run() -> Gap:
                gap = await one(system, chance, length)
                progress(f"{length} tokens: {gap.over_ms:.0f} ms over {gap.prefill_ms:.0f} ms")
                return gap

            return run

        # Who goes on has been asked before: its first request would warm it up.
        await one(system, chance, AHEAD_TOKENS)
        rounds = {str(length): round_of(length) for length in lengths}
        found = await alternate(rounds, options, warm_up=False)
    return {int(length): gaps for length, gaps in found.items()}


def show(found: Mapping[int, Sequence[Gap]]) -> None:
    """Print the medians of each length."""
    columns = {
        "gap ms": "reader_ms", "as told": "seam_ms", "reading it": "prefill_ms",
        "idle": "idle_prefill_ms", "tokens read": "read_tokens", "idle ": "idle_read_tokens",
        "over reading": "over_ms", "over idle": "over_idle_ms",
    }  # fmt: skip
    rows = []
    for length, gaps in found.items():
        if gaps:
            values = (
                statistics.median(getattr(g, what) for g in gaps) for what in columns.values()
            )
            worst = f"{max(gap.over_ms for gap in gaps):.0f}"
            rows.append([str(length), *(f"{v:,.0f}" for v in values), worst, str(len(gaps))])
    show_table(["tokens before the kill", *columns, "worst over reading", "rounds"], rows)


def figures(found: Mapping[int, Sequence[Gap]]) -> dict[str, Figure]:
    """The largest of the medians, and each length's own."""
    over = {n: [gap.over_ms for gap in gaps] for n, gaps in found.items() if gaps}
    medians = {n: statistics.median(values) for n, values in over.items()}
    made = {
        "gap_over_prefill_ms": Figure(max(medians.values(), default=None), "ms", f"<= {REACH_MS:g}")
    }
    for n, values in over.items():
        made[f"gap_over_prefill_ms_{n}"] = Figure(medians[n], "ms", f"<= {REACH_MS:g}")
        made[f"gap_over_prefill_worst_ms_{n}"] = Figure(max(values), "ms")
        idle = statistics.median(gap.over_idle_ms for gap in found[n])
        made[f"gap_over_idle_prefill_ms_{n}"] = Figure(idle, "ms")
        made[f"gap_ms_{n}"] = Figure(statistics.median(g.reader_ms for g in found[n]), "ms")
    return made
