"""What does supervising cost, and does trouble with one child show at the others?

    python -m benchmarks.supervision [--quick] [--runs N]

status      how long the supervisor's status takes while one child hangs in its start and another
            crashes in it again and again, at the default backoff; against a calm system beside it
crash loop  the CPU that supervisor and spawner use from the first crash on, at the defaults (which
            give up in the end), less what they use without it
200 actors  the CPU that the supervisor uses for so many, which do nothing but be there, at the
            default heartbeats; against a socket that takes and unpacks as many heartbeats of the
            same bytes, see `benchmarks.heartbeats`. The supervisor also looks at each process ten
            times a second. How long their start takes, and what one of them needs, as plain facts

In each of the three the two sides take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.driven import Driven
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
    without_default_actors,
)
from benchmarks.startup import cpu_seconds
from benchmarks.system import ROOT
from benchmarks.troubled import Trouble
from configs import load_settings
from protocol.errors import NoyauError
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Restart, Status

ACTORS = 200
REQUESTS = 100
"""Of each round."""
PAUSE_S = 0.02
"""Between two requests of a status."""
KEEPS_CRASHING = "restart.max_restarts=10000"
LOOP_S, QUICK_LOOP_S = 30.0, 6.0
"""Of one crash loop. The first 30 s hold all that the defaults allow, up to giving up."""
LOOPS, QUICK_LOOPS = 3, 1
FEWEST_CRASHES = 4
"""In one loop: the first four take 0.7 s at most."""
WINDOW_S, QUICK_WINDOW_S = 10.0, 2.5
"""Of a look at the 200 actors."""
START_S = 120.0
"""What the start of 200 actors may take; on a machine that is busy, it may never be over."""
SETTLE_S = 1.0


def light(name: str) -> tuple[str, ...]:
    """The settings of an actor that does nothing."""
    return (f"actors.{name}.class=benchmarks.troubled:Light", f"actors.{name}.preload=true")


class Patient:
    """An actor that can be given trouble; it is told by a file."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._orders = folder / name

    @property
    def settings(self) -> tuple[str, ...]:
        """What makes it one of a system's actors."""
        return (
            f"actors.{self._name}.class=benchmarks.troubled:Troubled",
            f"actors.{self._name}.preload=true",
            f"actors.{self._name}.settings.orders={self._orders}",
        )

    async def fall_ill(self, system: System, trouble: Trouble) -> None:
        """Kill it; each start from now on is in trouble."""
        self._orders.write_text(trouble)
        await self._kill(system)

    async def _kill(self, system: System) -> None:
        pid = await system.pid(self._name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    async def recover(self, system: System) -> None:
        """Its next start goes well: wait for that."""
        self._orders.unlink()
        client = system.client
        # One that crashes or has failed is started; one that hangs has to be killed for that.
        await client.ask(Restart(names=[self._name]))
        if client.caller.directory.entries[self._name].state is not ActorState.READY:
            await self._kill(system)
        caller = client.caller
        # The answer to the order may be here before the directory's word on it.
        while caller.directory.entries[self._name].state is ActorState.FAILED:
            await caller.wait_for_news(caller.clock.now() + 1)
        await caller.ready(self._name, caller.clock.now() + 30)


def share_of(processes: list[psutil.Process], before: list[float], began: float) -> float:
    """What they have used of one core since then."""
    used = sum(map(cpu_seconds, processes)) - sum(before)
    return used / (time.monotonic() - began)


async def processes_of(system: System, *, spawner: bool) -> list[psutil.Process]:
    """The supervisor, and its spawner."""
    status = await system.client.status()
    found = [status.supervisor.pid, *([status.spawner.pid] if spawner else [])]
    return [psutil.Process(pid) for pid in found if pid is not None]


# --- the status -----------------------------------------------------------------------------


async def status_times(system: System) -> list[float]:
    """Milliseconds of each of some requests, one after the other."""
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        await system.client.status()
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE_S)
    return times


def assert_in_trouble(status: Status) -> None:
    """That it was measured as it should be."""
    hanging, crashing = (
        next(one for one in status.actors if one.name == name) for name in ("hanging", "crashing")
    )
    assert hanging.state is ActorState.STARTING, f"it does not hang: {hanging}"
    assert crashing.restarts > 1, f"it does not crash: {crashing}"
    assert crashing.state is not ActorState.FAILED, f"it crashes no more: {crashing}"


async def measure_status(options: Options) -> dict[str, list[list[float]]]:
    """The requests of each round, in trouble and beside it."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nyb", dir="/tmp")))
        hanging, crashing = Patient("hanging", folder), Patient("crashing", folder)
        shared = (*without_default_actors(), KEEPS_CRASHING, *light("light"))
        # The calm one's look for orders where there never are any.
        calm_ones = (Patient("hanging", folder / "none"), Patient("crashing", folder / "none"))
        calm = await stack.enter_async_context(
            System(*shared, *(one for patient in calm_ones for one in patient.settings))
        )
        troubled = await stack.enter_async_context(
            System(*shared, *hanging.settings, *crashing.settings)
        )
        await hanging.fall_ill(troubled, "hang")
        await crashing.fall_ill(troubled, "crash")
        await asyncio.sleep(SETTLE_S)
        try:
            times = await alternate(
                {
                    "in trouble": lambda: status_times(troubled),
                    "calm": lambda: status_times(calm),
                },
                options,
                warm_up=not options.quick,
            )
            assert_in_trouble(await troubled.client.status())
        finally:
            # What hangs would be waited for when everything is stopped.
            await hanging.recover(troubled)
    return times


async def restarts_of(system: System, name: str) -> int:
    """How often an actor has been started again so far."""
    status = await system.client.status()
    return next(one.restarts for one in status.actors if one.name == name)


# --- the crash loop ---------------------------------------------------------------------------


async def measure_crash_loop(options: Options) -> dict[str, list[float]]:
    """The share of one core that supervisor and spawner use, round by round."""
    seconds, loops = (QUICK_LOOP_S, QUICK_LOOPS) if options.quick else (LOOP_S, LOOPS)
    with tempfile.TemporaryDirectory(prefix="nyb", dir="/tmp") as folder:
        crashing = Patient("crashing", Path(folder))
        settings = (*without_default_actors(), *light("light"), *crashing.settings)
        async with System(*settings) as system:
            await asyncio.sleep(SETTLE_S)
            processes = await processes_of(system, spawner=True)

            async def watched() -> float:
                before, began = [cpu_seconds(one) for one in processes], time.monotonic()
                await asyncio.sleep(seconds)
                return share_of(processes, before, began)

            async def crash_loop() -> float:
                restarted = await restarts_of(system, "crashing")
                before, began = [cpu_seconds(one) for one in processes], time.monotonic()
                await crashing.fall_ill(system, "crash")
                await asyncio.sleep(seconds)
                share = share_of(processes, before, began)
                crashed = await restarts_of(system, "crashing")
                assert crashed - restarted >= FEWEST_CRASHES, f"it restarted {crashed - restarted}x"
                await crashing.recover(system)
                return share

            return await alternate(
                {"crash loop": crash_loop, "none": watched},
                Options(options.quick, min(options.runs, loops), options.began),
                warm_up=False,
            )


# --- 200 actors -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Many:
    """What was measured of as many actors."""

    started_s: float
    restarts: int
    """Of actors and spawner, all of which are too many: nobody crashes here."""
    pss_mb: list[float]
    """Of each actor."""
    shares: dict[str, list[float]]
    """Of one core, round by round."""
    per_s: list[float]
    """Heartbeats that the floor took."""
    spawner_share: float
    actors_share: float
    """Of all of them together, over the whole time."""


async def measure_many(options: Options) -> Many:
    """The supervisor of many actors, and the floor. Raises `NoyauError` when they do not start."""
    seconds = QUICK_WINDOW_S if options.quick else WINDOW_S
    interval_s = load_settings(environ={}).supervisor.heartbeat_interval_s
    names = [f"light_{number}" for number in range(ACTORS)]
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nyb", dir="/tmp"))
        ends = [
            await stack.enter_async_context(
                Driven(
                    [sys.executable, "-m", "benchmarks.heartbeats", end, f"ipc://{folder}/beats"],
                    folder=ROOT,
                )
            )
            for end in ("receive", "send")
        ]
        system = await stack.enter_async_context(
            System(
                *without_default_actors(),
                *(one for name in names for one in light(name)),
                ready_timeout_s=START_S,
            )
        )
        await asyncio.sleep(SETTLE_S)
        supervisor, spawner = await processes_of(system, spawner=True)
        status = await system.client.status()
        actors = [psutil.Process(one.pid) for one in status.actors if one.pid is not None]
        per_s = []

        async def supervised() -> float:
            before, began = [cpu_seconds(supervisor)], time.monotonic()
            await asyncio.sleep(seconds)
            return share_of([supervisor], before, began)

        async def floor() -> float:
            receiver, sender = ends
            # It sends a little longer than is counted.
            order = {"actors": ACTORS, "interval_s": interval_s, "seconds": seconds + 1}
            sending = asyncio.create_task(sender.order(order))
            await asyncio.sleep(0.5)
            counted = await receiver.order({"seconds": seconds})
            await sending
            per_s.append(counted["per_s"])
            return float(counted["share"])

        before, began = [cpu_seconds(one) for one in actors], time.monotonic()
        spawner_before = [cpu_seconds(spawner)]
        shares = await alternate(
            {"supervisor": supervised, "floor": floor},
            Options(options.quick, min(options.runs, 2) if options.quick else options.runs,
                    options.began),
            warm_up=False,
        )  # fmt: skip
        return Many(
            started_s=system.ready_after_s,
            restarts=status.spawner.restarts + sum(one.restarts for one in status.actors),
            pss_mb=[one.memory_full_info().pss / 1e6 for one in actors],
            shares=shares,
            per_s=per_s,
            spawner_share=share_of([spawner], spawner_before, began),
            actors_share=share_of(actors, before, began),
        )


# --- the report -------------------------------------------------------------------------------


def row(name: str, shares: list[float]) -> list[str]:
    """A line of the table of CPU."""
    return [name, f"{100 * statistics.median(shares):.2f}", str(len(shares))]


def rows_of(many: Many) -> list[list[str]]:
    """What belongs into it of 200 actors."""
    return [
        row(f"supervisor of {ACTORS} actors", many.shares["supervisor"]),
        row(
            f"floor: {statistics.median(many.per_s):.0f} heartbeats a second unpacked",
            many.shares["floor"],
        ),
        row(f"the spawner of {ACTORS} actors", [many.spawner_share]),
        row(f"the {ACTORS} actors, all together", [many.actors_share]),
    ]


def figures_of(many: Many | None) -> dict[str, Figure]:
    """Of 200 actors; without values where they did not start."""
    if many is None:
        supervisor = floor = ratio = started_s = restarts = pss_mb = None
    else:
        supervisor = statistics.median(many.shares["supervisor"])
        floor = statistics.median(many.shares["floor"])
        ratio = median_ratio(many.shares["supervisor"], many.shares["floor"])
        started_s, restarts = many.started_s, many.restarts
        pss_mb = statistics.median(many.pss_mb)
    return {
        "actors_200_cpu": Figure(supervisor, "of a core", "< 0.05"),
        "actors_200_floor_cpu": Figure(floor, "of a core"),
        "actors_200_vs_floor": Figure(ratio, "x"),
        "actors_200_start_s": Figure(started_s, "s"),
        "actors_200_restarts": Figure(restarts, "restarts", "<= 0"),
        "actor_pss_mb": Figure(pss_mb, "MB"),
    }


def report(
    status: dict[str, list[list[float]]],
    loops: dict[str, list[float]],
    many: Many | None,
    loop_s: float,
) -> None:
    """Print what was measured."""
    times = {name: [ms for turn in turns for ms in turn] for name, turns in status.items()}
    show_table(
        ["a status", "median ms", "p99 ms", "worst ms", "requests"],
        [
            [name, f"{statistics.median(t):.2f}", f"{p99(t):.2f}", f"{max(t):.2f}", str(len(t))]
            for name, t in times.items()
        ],
    )
    show_table(
        ["CPU % of a core", "median", "rounds"],
        [
            row(f"supervisor and spawner, {loop_s:g} s from the first crash", loops["crash loop"]),
            row("the same without a crash", loops["none"]),
            *(rows_of(many) if many is not None else []),
        ],
    )
    more = [crash - calm for crash, calm in zip(loops["crash loop"], loops["none"], strict=True)]
    medians = {name: [statistics.median(turn) for turn in turns] for name, turns in status.items()}
    show_figures(
        "supervision",
        {
            "status_p50_ms": Figure(statistics.median(times["in trouble"]), "ms"),
            "status_p99_ms": Figure(p99(times["in trouble"]), "ms", "<= 20"),
            "status_calm_p99_ms": Figure(p99(times["calm"]), "ms"),
            "status_vs_calm": Figure(median_ratio(medians["in trouble"], medians["calm"]), "x"),
            "crash_loop_cpu": Figure(statistics.median(more), "of a core", "< 0.01"),
            **figures_of(many),
        },
    )


async def measure(options: Options) -> None:
    """Run the benchmark and print its figures."""
    status = await measure_status(options)
    loops = await measure_crash_loop(options)
    try:
        many = await measure_many(options)
    except NoyauError as error:
        print(f"{ACTORS} actors did not start: {error.message}\n")
        many = None
    report(status, loops, many, QUICK_LOOP_S if options.quick else LOOP_S)


if __name__ == "__main__":
    end_in_order()
    asyncio.run(measure(parse_arguments(__doc__, runs=7, quick_runs=2)))
