"""How fast do two processes ask each other, and what does the protocol cost over bare sockets?

    python -m benchmarks.messaging [--quick] [--runs N]

A request with a payload of 256 bytes and its reply with the same, between two processes over
local sockets. Each contestant makes as many, first 64 in flight at a time ("pipelined": requests
a second), then one at a time ("serial": the round trip), and the contestants take turns:

noyau   two actors under a real supervisor. The whole stack: Caller, envelope, ROUTER and DEALER,
        roles, pydantic at both ends, a deadline on each request, the heartbeats of all actors
floor   bare pyzmq and msgpack, see `benchmarks.bare`
xoscar  a peer: the same between two of its actors, see `benchmarks.peer_xoscar`

The figures are medians over the rounds of noyau divided by the other one in the same round.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.driven import Driven
from benchmarks.echo import Drive
from benchmarks.harness import (
    Figure,
    Options,
    System,
    alternate,
    median_ratio,
    p99,
    parse_arguments,
    show_figures,
    show_table,
    without_default_actors,
)
from benchmarks.system import PEERS, ROOT

PAYLOAD_BYTES = 256
IN_FLIGHT = 64
PEERS_PYTHON = PEERS / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contestant did in one round."""

    per_second: float
    latencies_us: list[float]

    @property
    def round_trip_us(self) -> float:
        """The median of the serial round trips."""
        return statistics.median(self.latencies_us)


Drives = Callable[[int, int], Awaitable[tuple[float, list[float]]]]
"""Make (calls, in flight) requests; returns seconds and latencies in microseconds."""


def contestant(drive: Drives, pipelined: int, serial: int) -> Callable[[], Awaitable[Turn]]:
    """One round of a contestant, whatever it is."""

    async def turn() -> Turn:
        seconds, _ = await drive(pipelined, IN_FLIGHT)
        _, latencies_us = await drive(serial, 1)
        return Turn(pipelined / seconds, latencies_us)

    return turn


async def start_noyau(stack: contextlib.AsyncExitStack) -> Drives:
    system = System(
        *without_default_actors(),
        "actors.echo_a.class=benchmarks.echo:Echo",
        "actors.echo_b.class=benchmarks.echo:Echo",
    )
    client = (await stack.enter_async_context(system)).client

    async def drive(calls: int, in_flight: int) -> tuple[float, list[float]]:
        order = Drive(
            target="echo_b", calls=calls, in_flight=in_flight, payload_bytes=PAYLOAD_BYTES
        )
        driven = await client.ask(order, to="echo_a", timeout_s=300)
        return driven.seconds, driven.latencies_us

    return drive


def _drives(process: Driven) -> Drives:
    async def drive(calls: int, in_flight: int) -> tuple[float, list[float]]:
        driven = await process.order(
            {"calls": calls, "in_flight": in_flight, "payload_bytes": PAYLOAD_BYTES}
        )
        return driven["seconds"], driven["latencies_us"]

    return drive


async def start_floor(stack: contextlib.AsyncExitStack, endpoint: str) -> Drives:
    command = [sys.executable, "-m", "benchmarks.bare"]
    await stack.enter_async_context(Driven([*command, "serve", endpoint], folder=ROOT))
    return _drives(
        await stack.enter_async_context(Driven([*command, "drive", endpoint], folder=ROOT))
    )


async def start_xoscar(stack: contextlib.AsyncExitStack) -> Drives:
    command = [str(PEERS_PYTHON), "-m", "benchmarks.peer_xoscar"]
    return _drives(await stack.enter_async_context(Driven(command, folder=ROOT)))


async def measure(options: Options) -> dict[str, list[Turn]]:
    """The turns of every contestant that is installed; an empty list for one that is not."""
    pipelined, serial = (4000, 500) if options.quick else (10_000, 2000)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="noyau-", dir="/tmp"))
        drives = {
            "floor": await start_floor(stack, f"ipc://{folder}/bare"),
            "noyau": await start_noyau(stack),
        }
        if PEERS_PYTHON.exists():
            drives["xoscar"] = await start_xoscar(stack)
        turns = await alternate(
            {name: contestant(drive, pipelined, serial) for name, drive in drives.items()}, options
        )
    return {"xoscar": [], **turns}


def report(turns: dict[str, list[Turn]]) -> None:
    """Print what was measured."""
    rates = {name: [turn.per_second for turn in of] for name, of in turns.items()}
    trips = {name: [turn.round_trip_us for turn in of] for name, of in turns.items()}
    labels = {
        "floor": "floor: bare pyzmq, msgpack",
        "noyau": "noyau: the whole stack",
        "xoscar": "xoscar",
    }
    show_table(
        [
            f"{PAYLOAD_BYTES} bytes there and back",
            f"requests/s, {IN_FLIGHT} in flight",
            "serial median µs",
            "serial p99 µs",
            "rounds",
        ],
        [
            [
                labels[name],
                f"{statistics.median(rates[name]):,.0f}",
                f"{statistics.median(trips[name]):.1f}",
                f"{statistics.median(p99(turn.latencies_us) for turn in turns[name]):.1f}",
                str(len(turns[name])),
            ]
            if turns[name]
            else [labels[name], "not installed: make bench installs it", "-", "-", "-"]
            for name in labels
        ],
    )
    figures = {
        "pipelined_vs_bare": Figure(median_ratio(rates["noyau"], rates["floor"]), "x", ">= 0.45"),
        "pipelined_vs_xoscar": Figure(median_ratio(rates["noyau"], rates["xoscar"]), "x", ">= 2"),
        "serial_median_vs_bare": Figure(
            median_ratio(trips["noyau"], trips["floor"]), "x", "<= 1.6"
        ),
    }
    for name in labels:
        if turns[name]:
            figures[f"{name}_pipelined"] = Figure(statistics.median(rates[name]), "requests/s")
            figures[f"{name}_serial_median"] = Figure(statistics.median(trips[name]), "µs")
    show_figures("messaging", figures)


if __name__ == "__main__":
    report(asyncio.run(measure(parse_arguments(__doc__, runs=15, quick_runs=7))))
