"""How long a start takes, and what noyau costs while nobody asks anything.

``python -m benchmarks.startup``. A start is ``noyau up`` as a user types it, with the weights on
disk, until every actor is READY. Idle is measured on a system that has been up for a moment: CPU
time of all of its processes over a window, and their memory as PSS (shared pages counted once).
What it would be without a language model is that of all processes, with cpu_engine taken for as
much as gpu_engine, which is the same process without a model where there is no GPU.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import psutil

from benchmarks.harness import Figure, System, parse_arguments, show_figures, show_table

UP = ("-m", "noyau", "up")
SETTLE_S = 2.0
WINDOW_S = 20.0
QUICK_WINDOW_S = 8.0


def processes(system: System) -> list[psutil.Process]:
    """The guard and all below it."""
    root = psutil.Process(system.guard.pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used so far."""
    times = process.cpu_times()
    return times.user + times.system


def name_of(process: psutil.Process) -> str:
    """The name that it gave itself."""
    return process.name()


async def idle(system: System, window_s: float) -> list[tuple[str, float, float]]:
    """Each process: name, CPU in percent of a core over the window, PSS in MB."""
    await asyncio.sleep(SETTLE_S)
    everyone = processes(system)
    before = [cpu_seconds(one) for one in everyone]
    began = time.monotonic()
    await asyncio.sleep(window_s)
    took = time.monotonic() - began
    return [
        (name_of(one), 100 * (cpu_seconds(one) - used) / took, one.memory_full_info().pss / 1e6)
        for one, used in zip(everyone, before, strict=True)
    ]


async def measure() -> None:
    """Run the benchmark and print its figures."""
    options = parse_arguments(__doc__, runs=7, quick_runs=3)
    starts = []
    for _ in range(options.runs):
        async with System(entry=UP) as system:
            starts.append(system.ready_after_s)
    async with System(entry=UP) as system:
        rows = await idle(system, QUICK_WINDOW_S if options.quick else WINDOW_S)
    show_table(
        ["start", "median s", "fastest s", "slowest s", "starts"],
        [["noyau up to all READY", f"{statistics.median(starts):.2f}", f"{min(starts):.2f}",
          f"{max(starts):.2f}", str(len(starts))]],
    )  # fmt: skip
    of = {name: mb for name, _, mb in rows}
    cpu, pss = sum(row[1] for row in rows), sum(row[2] for row in rows)
    show_table(
        ["idle process", "CPU % of a core", "PSS MB"],
        [[name, f"{percent:.2f}", f"{mb:.0f}"] for name, percent, mb in rows]
        + [["all", f"{cpu:.2f}", f"{pss:.0f}"]],
    )
    show_figures(
        "startup",
        {
            "up_to_ready_s": Figure(statistics.median(starts), "s", "<= 2"),
            "idle_cpu_percent": Figure(cpu, "% of a core", "< 3"),
            "idle_pss_mb": Figure(pss, "MB"),
            "idle_pss_without_model_mb": Figure(
                pss - of["cpu_engine"] + of["gpu_engine"], "MB", "<= 450"
            ),
        },
    )


if __name__ == "__main__":
    asyncio.run(measure())
