"""Requests with a payload of 256 bytes and replies with the same, between two processes.

Each contestant makes as many, first 64 in flight at a time ("pipelined": requests a second), then
one at a time ("serial": the round trip). Ray, whose own processes work beside its actors and whose
rounds take several times as long, takes its turns with noyau apart from the others, and fewer.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.driven import Driven
from benchmarks.echo import Drive
from benchmarks.floor import start_floor
from benchmarks.harness import (
    Figure,
    Options,
    System,
    alternate,
    median_ratio,
    p99,
    show_table,
)
from benchmarks.system import PEERS, ROOT

PAYLOAD_BYTES = 256
IN_FLIGHT = 64
CALLS, QUICK_CALLS = (10_000, 2000), (4000, 500)
"""Pipelined and serial ones of a round."""
RAY_RUNS, QUICK_RAY_RUNS = 5, 2

LABELS = {
    "floor": "floor: bare pyzmq, msgpack",
    "noyau": "noyau: the whole stack",
    "xoscar": "xoscar",
    "noyau beside ray": "noyau, in turns with Ray",
    "ray": "Ray",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contestant did in one round."""

    per_second: float
    latencies_us: list[float]

    @property
    def round_trip_us(self) -> float:
        """The median of the serial round trips."""
        return statistics.median(self.latencies_us)


Turns = dict[str, list[Turn]]
"""Of every contestant that is installed."""
Drives = Callable[[int, int], Awaitable[tuple[float, list[float]]]]
"""Make (calls, in flight) requests; returns seconds and latencies in microseconds."""


def contestant(drive: Drives, calls: tuple[int, int]) -> Callable[[], Awaitable[Turn]]:
    """One round of a contestant, whatever it is."""
    pipelined, serial = calls

    async def turn() -> Turn:
        seconds, _ = await drive(pipelined, IN_FLIGHT)
        _, latencies_us = await drive(serial, 1)
        return Turn(pipelined / seconds, latencies_us)

    return turn


def drive_noyau(system: System) -> Drives:
    async def drive(calls: int, in_flight: int) -> tuple[float, list[float]]:
        order = Drive(
            target="echo_b", calls=calls, in_flight=in_flight, payload_bytes=PAYLOAD_BYTES
        )
        driven = await system.client.ask(order, to="echo_a", timeout_s=300)
        return driven.seconds, driven.latencies_us

    return drive


def _drives(process: Driven) -> Drives:
    async def drive(calls: int, in_flight: int) -> tuple[float, list[float]]:
        driven = await process.order(
            {"calls": calls, "in_flight": in_flight, "payload_bytes": PAYLOAD_BYTES}
        )
        return driven["seconds"], driven["latencies_us"]

    return drive


async def start_peer(stack: contextlib.AsyncExitStack, name: str) -> dict[str, Drives]:
    """The peer by its name; nothing where it is not installed."""
    if not any(PEERS.glob(f"lib/python*/site-packages/{name}")):
        return {}
    command = [str(PEERS / "bin" / "python"), "-m", f"benchmarks.peer_{name}"]
    return {name: _drives(await stack.enter_async_context(Driven(command, folder=ROOT)))}


async def measure(system: System, options: Options) -> Turns:
    """The turns of the floor, noyau and xoscar."""
    calls = QUICK_CALLS if options.quick else CALLS
    async with contextlib.AsyncExitStack() as stack:
        drives = {
            "floor": _drives(await start_floor(stack, "benchmarks.bare")),
            "noyau": drive_noyau(system),
        }
        drives |= await start_peer(stack, "xoscar")
        return await alternate(
            {name: contestant(drive, calls) for name, drive in drives.items()}, options
        )


async def measure_ray(system: System, options: Options) -> Turns:
    """The turns of noyau and Ray."""
    calls = QUICK_CALLS if options.quick else CALLS
    runs = QUICK_RAY_RUNS if options.quick else RAY_RUNS
    async with contextlib.AsyncExitStack() as stack:
        ray = await start_peer(stack, "ray")
        if not ray:
            return {}
        drives = {"noyau beside ray": drive_noyau(system), **ray}
        return await alternate(
            {name: contestant(drive, calls) for name, drive in drives.items()},
            options.part(1.0, most_runs=runs),
        )


def report(turns: Turns) -> dict[str, Figure]:
    """Print what was measured, and return its figures."""
    rates = {name: [turn.per_second for turn in turns.get(name, [])] for name in LABELS}
    trips = {name: [turn.round_trip_us for turn in turns.get(name, [])] for name in LABELS}
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
                LABELS[name],
                f"{statistics.median(rates[name]):,.0f}",
                f"{statistics.median(trips[name]):.1f}",
                f"{statistics.median(p99(turn.latencies_us) for turn in turns[name]):.1f}",
                str(len(turns[name])),
            ]
            if rates[name]
            else [LABELS[name], "not installed: make bench installs it", "-", "-", "-"]
            for name in LABELS
        ],
    )
    return _figures(rates, trips)


def _figures(rates: dict[str, list[float]], trips: dict[str, list[float]]) -> dict[str, Figure]:
    def rate(ours: str, theirs: str, reach: str) -> Figure:
        return Figure(median_ratio(rates[ours], rates[theirs]), "x", reach)

    figures = {
        "pipelined_vs_bare": rate("noyau", "floor", ">= 0.55"),
        "pipelined_vs_xoscar": rate("noyau", "xoscar", ">= 2"),
        "pipelined_vs_ray": rate("noyau beside ray", "ray", ">= 2"),
        "serial_median_vs_bare": Figure(
            median_ratio(trips["noyau"], trips["floor"]), "x", "<= 1.5"
        ),
    }
    for name in ("floor", "noyau", "xoscar", "ray"):
        if rates[name]:
            figures[f"{name}_pipelined"] = Figure(statistics.median(rates[name]), "requests/s")
            figures[f"{name}_serial_median"] = Figure(statistics.median(trips[name]), "µs")
    return figures
