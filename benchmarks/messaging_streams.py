"""A one-way stream with credit between two processes: 1 KiB chunks, and blobs of 1 MiB.

noyau   an actor reads a stream of another one: `Caller.stream`, envelope, pydantic at both ends
floor   bare pyzmq with the same window of credit, see `benchmarks.bare_streams`

The window is 64 chunks whatever their size, as it is noyau's: of blobs 64 MiB may be under way.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.driven import Driven
from benchmarks.echo import Read
from benchmarks.floor import start_floor
from benchmarks.harness import Figure, Options, System, alternate, median_ratio, show_table

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in one round."""

    label: str
    chunk_bytes: int
    chunks: int
    quick_chunks: int
    unit: str
    reach: str


LOADS = {
    "stream_1k": Load("chunks of 1 KiB", 1024, 100_000, 10_000, "chunks/s", ">= 0.5"),
    "blob_1m": Load("blobs of 1 MiB", MIB, 1024, 128, "MiB/s", ">= 0.8"),
}

Reads = Callable[[int, int], Awaitable[float]]
"""Read (chunks, bytes of each); returns seconds."""
Rates = dict[str, dict[str, list[float]]]
"""By load and contestant: what each round reached, in the load's unit."""


def read_noyau(system: System) -> Reads:
    async def read(chunks: int, chunk_bytes: int) -> float:
        order = Read(target="echo_b", chunks=chunks, chunk_bytes=chunk_bytes)
        return (await system.client.ask(order, to="echo_a", timeout_s=300)).seconds

    return read


def read_floor(reader: Driven) -> Reads:
    async def read(chunks: int, chunk_bytes: int) -> float:
        answer = await reader.order({"chunks": chunks, "chunk_bytes": chunk_bytes})
        seconds: float = answer["seconds"]
        return seconds

    return read


def contestant(read: Reads, load: Load, *, quick: bool) -> Callable[[], Awaitable[float]]:
    """One round of a contestant."""
    chunks = load.quick_chunks if quick else load.chunks

    async def turn() -> float:
        return chunks / await read(chunks, load.chunk_bytes)

    return turn


async def measure(system: System, options: Options) -> Rates:
    """The rates of both, with each load."""
    rates: Rates = {}
    async with contextlib.AsyncExitStack() as stack:
        floor = await start_floor(stack, "benchmarks.bare_streams")
        reads = {"floor": read_floor(floor), "noyau": read_noyau(system)}
        for number, (key, load) in enumerate(LOADS.items()):
            rates[key] = await alternate(
                {name: contestant(r, load, quick=options.quick) for name, r in reads.items()},
                options.part(1 / (len(LOADS) - number)),
            )
    return rates


def report(rates: Rates) -> dict[str, Figure]:
    """Print what was measured, and return its figures."""
    show_table(
        ["one way, with credit", "floor", "noyau", "unit", "rounds"],
        [
            [
                load.label,
                f"{statistics.median(rates[key]['floor']):,.0f}",
                f"{statistics.median(rates[key]['noyau']):,.0f}",
                load.unit,
                str(len(rates[key]["noyau"])),
            ]
            for key, load in LOADS.items()
        ],
    )
    figures = {}
    for key, load in LOADS.items():
        ours, floor = rates[key]["noyau"], rates[key]["floor"]
        figures[f"{key}_vs_bare"] = Figure(median_ratio(ours, floor), "x", load.reach)
        figures[f"{key}_noyau"] = Figure(statistics.median(ours), load.unit)
        figures[f"{key}_floor"] = Figure(statistics.median(floor), load.unit)
    return figures
