"""From SIGKILL (and SIGSTOP) of an actor to its next answer, against a fresh process and peers.

``python -m benchmarks.recovery``. Each round kills every actor once and starts the floor once. A
round of an actor: SIGKILL, then ask it at once (a ping; for the engine one that is answered only
when its model is loaded; the tool user for what a tool says, which runs in a process of its own)
until the answer of the next incarnation comes. `benchmarks.memory` does the same with memory.

The floor: start Python, import zmq and msgpack, bind a socket, answer one message; nothing that
watches, decides or loads. The peers, circus and supervisord, supervise that same tiny worker (see
`benchmarks.worker`), as they come and, for circus, set to its fastest. What takes seconds, or loads
a model, is killed in fewer of the rounds. Last, the peers' workers are stopped (SIGSTOP) once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import (
    Figure,
    Options,
    System,
    alternate,
    end_in_order,
    median_ratio,
    p99,
    parse_arguments,
    show_figures,
    show_table,
)
from benchmarks.peer_supervisors import KINDS, WORKER, Peer, ask
from protocol.lifecycle import SETTLED
from protocol.messages.actor import Ping
from protocol.messages.tool_user import CallTool

LIGHT_P99_REACH = 80.0
REACH = {"storage": 25.0, "orchestrator": 25.0, "tool_user": 40.0, "cpu_engine": 800.0}
"""Medians; a tool's answer comes from a process that is started after the tool user."""
LIGHT = ("storage", "orchestrator", "tool_user")
SIGSTOP_REACH = {"storage": 500.0, "cpu_engine": 1000.0}
"""A stopped process is found by looking at it, ten times a second, and killed."""
ROUNDS = {
    "cpu_engine": 30, "cpu_engine, SIGSTOP": 30,
    "circus": 15, "circus, fastest": 30, "supervisord": 20,
}  # fmt: skip
QUICK_ROUNDS = {
    "cpu_engine": 4, "cpu_engine, SIGSTOP": 4,
    "circus": 2, "circus, fastest": 4, "supervisord": 3,
}  # fmt: skip
"""How often those are killed that take long."""
STOPPED_S, QUICK_STOPPED_S = 10.0, 3.0
"""How long a peer is given to find that its worker is stopped."""
ALL_RESTARTS_COUNT_AS_FIRST = (
    # The first restart after a stable time is immediate. A benchmark that waited a second for
    # every kill to be such a first one would only take longer.
    "restart.stable_s=0.05",
    "restart.max_restarts=10000",
)
STABLE_S = 0.1
FLOOR = "fresh process"

Round = Callable[[], Awaitable[float]]
"""Milliseconds of one round."""


async def kill_and_ask(system: System, name: str, number: signal.Signals = signal.SIGKILL) -> float:
    """Milliseconds from the signal to the next answer."""
    client = system.client
    await _until_stable(system, name)
    pid = await system.pid(name)
    assert pid is not None
    before = client.caller.directory.entries[name].epoch
    began = time.perf_counter()
    os.kill(pid, number)
    while True:
        pong = await client.ask(Ping(), to=name, timeout_s=30)
        if pong.epoch != before:
            if name == "tool_user":
                await client.ask(CallTool(name="calculator", arguments={"expression": "6 * 7"}))
            return (time.perf_counter() - began) * 1000


async def _until_stable(system: System, name: str) -> None:
    """Wait until the actor has been READY for as long as makes its next restart a first one."""
    caller = system.client.caller
    await caller.ready(name, caller.clock.now() + 30)
    await asyncio.sleep(STABLE_S)


async def fresh_process(folder: Path) -> float:
    """Milliseconds from the start of a fresh Python to its answer."""
    endpoint = f"ipc://{folder}/fresh"
    began = time.perf_counter()
    process = _start_worker(endpoint)
    try:
        await ask(endpoint)
        return (time.perf_counter() - began) * 1000
    finally:
        process.kill()
        process.wait()


def _start_worker(endpoint: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", str(WORKER), endpoint])


def contestants(system: System, folder: Path, peers: Mapping[str, Peer]) -> dict[str, Round]:
    """A round of each."""

    def actor(name: str, number: signal.Signals) -> Round:
        return lambda: kill_and_ask(system, name, number)

    rounds: dict[str, Round] = {FLOOR: lambda: fresh_process(folder)}
    rounds |= {name: actor(name, signal.SIGKILL) for name in REACH}
    rounds |= {f"{name}, SIGSTOP": actor(name, signal.SIGSTOP) for name in SIGSTOP_REACH}
    rounds |= {name: peer.kill_and_ask for name, peer in peers.items()}
    return rounds


async def measure(options: Options) -> None:
    """Run the benchmark and print its figures."""
    within_s = QUICK_STOPPED_S if options.quick else STOPPED_S
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nyb", dir="/tmp")))
        peers = {
            name: await stack.enter_async_context(Peer(name))
            for name, kind in KINDS.items()
            if kind.installed
        }
        system = await stack.enter_async_context(System(*ALL_RESTARTS_COUNT_AS_FIRST))
        times = await alternate(
            contestants(system, folder, peers),
            options,
            rounds=QUICK_ROUNDS if options.quick else ROUNDS,
        )
        status = await system.client.status()
        stopped = await asyncio.gather(*(peer.stop_and_ask(within_s) for peer in peers.values()))
    lost = [actor.name for actor in status.actors if actor.state not in SETTLED]
    assert not lost, f"not back: {lost}"
    show_rounds(times, dict(zip(peers, stopped, strict=True)), within_s)
    show_figures("recovery", figures(times))


def show_rounds(
    times: Mapping[str, Sequence[float]], stopped: Mapping[str, float | None], within_s: float
) -> None:
    """Print what was measured."""
    rows = [
        [name, f"{statistics.median(t):.1f}", f"{p99(t):.1f}", f"{max(t):.1f}", str(len(t))]
        for name, t in times.items()
    ]
    for name, took in stopped.items():
        text = f"not within {within_s:g} s" if took is None else f"{took:.1f}"
        rows.append([f"{name}, SIGSTOP", text, "-", "-", "1"])
    rows += [
        [name, "not installed: make bench installs it", "-", "-", "-"]
        for name in KINDS
        if name not in times
    ]
    show_table(
        ["signal (SIGKILL if not said) to next answer", "median ms", "p99 ms", "worst ms", "kills"],
        rows,
    )


def figures(times: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """The medians, and storage, which is as light as the worker of the others, against these."""

    def median(name: str) -> float | None:
        return statistics.median(times[name]) if name in times else None

    def storage_against(name: str) -> float | None:
        theirs, ours = median(name), median("storage")
        return None if theirs is None or ours is None else ours / theirs

    found = {"fresh_process_ms": Figure(median(FLOOR), "ms")}
    for name, reach in REACH.items():
        found[f"{name}_median_ms"] = Figure(median(name), "ms", f"<= {reach:g}")
        p99_reach = f"<= {LIGHT_P99_REACH:g}" if name in LIGHT else None
        found[f"{name}_p99_ms"] = Figure(p99(times[name]), "ms", p99_reach)
    for name, reach in SIGSTOP_REACH.items():
        key = f"{name}_sigstop_median_ms"
        found[key] = Figure(median(f"{name}, SIGSTOP"), "ms", f"<= {reach:g}")
    # The light one's stands for all of them.
    found["sigstop_median_ms"] = found["storage_sigstop_median_ms"]
    for name in KINDS:
        key = name.replace(", ", "_")
        found[f"{key}_median_ms"] = Figure(median(name), "ms")
        found[f"storage_vs_{key}"] = Figure(storage_against(name), "x")
    found["storage_vs_fresh_process"] = Figure(median_ratio(times["storage"], times[FLOOR]), "x")
    return found


if __name__ == "__main__":
    end_in_order()
    asyncio.run(measure(parse_arguments(__doc__, runs=100, quick_runs=8)))
