"""An engine is killed in the middle of an answer: is the answer whole, the same, and how late?

``python -m benchmarks.failover``. Four parts, each with engines that are killed (SIGKILL) when the
reader of an answer has a randomly drawn number of its tokens:

simulated  engines that write known words: every character counts (`benchmarks.failover_kills`)
real       the real model with F16 weights, greedily: the share that says the same
gap        what the reader waits, over reading prompt and text anew: `benchmarks.failover_gap`
peers      plain servers and their clients, and litellm's Router: `benchmarks.failover_peers`

``--runs`` are the kills of the first part; the others have fewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks import failover_gap, failover_kills, failover_peers
from benchmarks.cut_answers import Cut
from benchmarks.harness import (
    Figure,
    Options,
    end_in_order,
    parse_arguments,
    progress,
    show_figures,
)


def percent(part: int, whole: int) -> float | None:
    """None of nothing."""
    return 100 * part / whole if whole else None


def figures(simulated: Sequence[Cut], real: Sequence[Cut]) -> dict[str, Figure]:
    """Of noyau's own answers."""
    both = [*simulated, *real]
    return {
        "complete_percent": Figure(
            percent(sum(one.complete for one in both), sum(len(one.cut) for one in both)),
            "%", ">= 100",
        ),
        "seam_errors": Figure(sum(not one.identical for one in simulated), "kills", "<= 0"),
        "identical_percent_f16": Figure(
            percent(sum(one.identical for one in real), len(real)), "%", ">= 90"
        ),
        "kills": Figure(len(both), "kills"),
        "answers_with_a_seam": Figure(sum(one.hit for one in both), "answers"),
    }  # fmt: skip


async def measure(options: Options) -> dict[str, Figure]:
    """All parts, one after the other."""
    progress("simulated engines")
    simulated = await failover_kills.simulated(options.part(0.3))
    failover_kills.show("simulated engines", simulated)
    progress("the real model, F16")
    real = await failover_kills.real(options.part(0.35))
    failover_kills.show("the real model, F16, greedy", real)
    progress("the gap")
    gaps = await failover_gap.measure(options.part(0.5))
    failover_gap.show(gaps)
    progress("plain servers")
    turns = await failover_peers.measure(failover_kills.default_model(), options)
    failover_peers.show(turns)
    return figures(simulated, real) | failover_gap.figures(gaps) | failover_peers.figures(turns)


if __name__ == "__main__":
    end_in_order()
    show_figures(
        "failover", asyncio.run(measure(parse_arguments(__doc__, runs=200, quick_runs=10)))
    )
