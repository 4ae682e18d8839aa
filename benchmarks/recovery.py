"""From SIGKILL (and SIGSTOP) of an actor to its next answer, against a fresh process.

``python -m benchmarks.recovery``. Each round kills every actor once and starts the floor once. A
round of an actor: SIGKILL, then ask it at once (a ping; for the engine one that is answered only
when its model is loaded; the tool user for what a tool says, which runs in a process of its own)
until the answer of the next incarnation comes. `benchmarks.memory` does the same with memory. The
floor: start Python,
import zmq and msgpack, bind a socket, answer one message; nothing that watches, decides or loads.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

from benchmarks.harness import (
    Figure,
    System,
    alternate,
    p99,
    parse_arguments,
    show_figures,
    show_table,
)
from protocol.lifecycle import SETTLED
from protocol.messages.actor import Ping
from protocol.messages.tool_user import CallTool

REACH = {"storage": 40.0, "orchestrator": 40.0, "tool_user": 40.0, "cpu_engine": 800.0}
SIGSTOP_REACH = {"storage": 500.0, "cpu_engine": 1000.0}
"""A stopped process is found by looking at it, ten times a second, and killed."""
ALL_RESTARTS_COUNT_AS_FIRST = (
    # The first restart after a stable time is immediate. A benchmark that waited a second for
    # every kill to be such a first one would only take longer.
    "restart.stable_s=0.05",
    "restart.max_restarts=10000",
)
STABLE_S = 0.1

FRESH = """
import sys, zmq, msgpack
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
peer, frame = socket.recv_multipart()
socket.send_multipart([peer, msgpack.packb(msgpack.unpackb(frame))])
"""


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
    return await asyncio.to_thread(_fresh_process, folder / "fresh")


def _fresh_process(path: Path) -> float:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    # zmq's default of 100 ms between tries would swamp what is measured.
    socket.set(zmq.RECONNECT_IVL, 1)
    socket.set(zmq.LINGER, 0)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", FRESH, f"ipc://{path}"])
    socket.connect(f"ipc://{path}")
    socket.send(b"\x01")
    socket.recv()
    took = (time.perf_counter() - began) * 1000
    process.wait()
    context.destroy()
    path.unlink(missing_ok=True)
    return took


async def measure() -> None:
    """Run the benchmark and print its figures."""
    options = parse_arguments(__doc__, runs=30, quick_runs=8)
    folder = Path(tempfile.mkdtemp(prefix="nyb", dir="/tmp"))
    async with System(*ALL_RESTARTS_COUNT_AS_FIRST) as system:
        contestants = {"fresh process": lambda: fresh_process(folder)}
        for name in REACH:
            contestants[name] = lambda name=name: kill_and_ask(system, name)  # type: ignore[misc]
        for name in SIGSTOP_REACH:
            contestants[f"{name}, SIGSTOP"] = lambda name=name: kill_and_ask(  # type: ignore[misc]
                system, name, signal.SIGSTOP
            )
        times = await alternate(contestants, options)
        status = await system.client.status()
    folder.rmdir()
    lost = [actor.name for actor in status.actors if actor.state not in SETTLED]
    assert not lost, f"not back: {lost}"
    show_table(
        ["signal (SIGKILL if not said) to next answer", "median ms", "p99 ms", "worst ms", "kills"],
        [
            [name, f"{statistics.median(t):.1f}", f"{p99(t):.1f}", f"{max(t):.1f}", str(len(t))]
            for name, t in times.items()
        ],
    )
    figures = {"fresh_process_ms": Figure(statistics.median(times["fresh process"]), "ms")}
    for name, reach in REACH.items():
        figures[f"{name}_median_ms"] = Figure(statistics.median(times[name]), "ms", f"<= {reach:g}")
        figures[f"{name}_p99_ms"] = Figure(p99(times[name]), "ms")
    for name, reach in SIGSTOP_REACH.items():
        stopped = times[f"{name}, SIGSTOP"]
        key = f"{name}_sigstop_median_ms"
        figures[key] = Figure(statistics.median(stopped), "ms", f"<= {reach:g}")
    show_figures("recovery", figures)


if __name__ == "__main__":
    asyncio.run(measure())
