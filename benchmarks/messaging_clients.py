"""The ping of one client, alone and while 1,000 others are connected to the same actor.

The others are idle: connections of a process of their own, see `benchmarks.crowd`. They come and
go between the turns.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass

import psutil

from benchmarks.asking import ask_many
from benchmarks.driven import Driven
from benchmarks.harness import Figure, Options, System, alternate, median_ratio, show_table
from benchmarks.system import ROOT
from protocol.messages.actor import Ping

CLIENTS = 1000
ACTOR = "echo_b"
ACTOR_OPEN_FILES = 4096
"""What the actor needs to be allowed; with many a system's own limit 1,000 connections are more
than a process may have."""
PINGS, QUICK_PINGS = 2000, 500
GONE_S = 20.0
_LOOK_S = 0.005

Trips = dict[str, list[float]]
"""Of the client alone and of that among others: the median of each round, in microseconds."""


@dataclass(frozen=True, slots=True)
class Contest:
    """One client at an actor that others come to."""

    system: System
    crowd: Driven
    actor: psutil.Process
    pings: int

    async def alone(self) -> float:
        """The median of its pings, in microseconds."""
        client = self.system.client
        _, latencies_us = await ask_many(lambda: client.ask(Ping(), to=ACTOR), self.pings, 1)
        return statistics.median(latencies_us)

    async def among_others(self) -> float:
        """The same with all others connected, which are gone afterwards."""
        before = self.actor.num_fds()
        await self._have(CLIENTS)
        assert self.actor.num_fds() >= before + CLIENTS
        trip_us = await self.alone()
        await self._have(0)
        until = time.monotonic() + GONE_S
        while self.actor.num_fds() > before:
            assert time.monotonic() < until, f"{ACTOR} keeps connections of clients that are gone"
            await asyncio.sleep(_LOOK_S)
        return trip_us

    async def _have(self, clients: int) -> None:
        endpoint = self.system.client.caller.directory.entries[ACTOR].endpoint
        await self.crowd.order({"clients": clients, "endpoint": endpoint})


async def measure(system: System, options: Options) -> Trips:
    """The turns of both."""
    pid = await system.pid(ACTOR)
    async with Driven([sys.executable, "-m", "benchmarks.crowd"], folder=ROOT) as crowd:
        contest = Contest(
            system, crowd, psutil.Process(pid), QUICK_PINGS if options.quick else PINGS
        )
        return await alternate(
            {"alone": contest.alone, "among others": contest.among_others}, options
        )


def report(trips: Trips) -> dict[str, Figure]:
    """Print what was measured, and return its figures."""
    alone, among = trips["alone"], trips["among others"]
    show_table(
        ["a client's ping", "serial median µs", "rounds"],
        [
            ["alone", f"{statistics.median(alone):.1f}", str(len(alone))],
            [f"with {CLIENTS:,} others", f"{statistics.median(among):.1f}", str(len(among))],
        ],
    )
    return {
        "clients_1000_ping": Figure(median_ratio(among, alone), "x", "<= 2"),
        "clients_1000_ping_median": Figure(statistics.median(among), "µs"),
        "client_alone_ping_median": Figure(statistics.median(alone), "µs"),
    }
