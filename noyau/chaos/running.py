"""A random run: load, the faults of a plan, the wait for health, a look at what is left."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noyau.chaos.aftermath import Census, settle_memories
from noyau.chaos.conducting import Conductor, all_settled
from noyau.chaos.ledger import Ledger
from noyau.chaos.load import Load
from noyau.chaos.plan import Step
from noyau.chaos.report import Report
from noyau.chaos.verdict import Aftermath
from protocol.client import Client
from protocol.errors import NoyauError
from protocol.lifecycle import ActorState, Health
from protocol.messages.supervisor import Status

HEALTHY_WITHIN_S = 90.0
"""After the last fault. Failures count for half a minute, and a hang is believed after 15 s."""
CENSUS_S = 0.5
TIDY_WITHIN_S = 5.0
"""What a killed process left behind may take so long to be gone."""
SUPERVISOR_WITHIN_S = 30.0
"""For so long the supervisor is looked for: it may be what was hit last."""


@dataclass(slots=True)
class Run:
    """One run, as it grows; what shows it reads from here."""

    seed: int
    seconds: float
    clients: int
    plan: list[Step]
    run_folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by Ctrl-C."""
    phase: str = "starting"
    began: float = field(default_factory=time.monotonic)
    conductor: Conductor | None = None

    async def go(self, client: Client, show: Callable[[Run], None]) -> Report:
        """Do it all. ``client`` is connected; ``show`` is called whenever something changed."""
        found = await client.status()
        self.began = time.monotonic()
        names = tuple(a.name for a in found.actors if a.state is ActorState.READY)
        load = Load(self.ledger, f"noyau chaos {secrets.token_hex(4)}", names, self.seed)
        census = Census(self.run_folder)
        census.take(found)
        was_healthy = found.health is Health.HEALTHY
        async with Conductor(client) as conductor:
            self.conductor = conductor
            await conductor.check_allowed(found)
            async with (
                self._loaded(load, client),
                _every(CENSUS_S, lambda: _count(client, census, self, show)),
            ):
                self.phase = "faults"
                await self._do_plan(conductor)
                self.phase = "waiting until all is healthy again"
                unhealthy = await self._until_healthy(client, conductor, was_healthy)
                load.stop.set()
                self.phase = "waiting for the last answers"
            self.phase = "looking at what is left"
            aftermath = await self._aftermath(client, census, load, unhealthy)
            return Report(
                self.seed, time.monotonic() - self.began, self.ledger.count(), conductor.observed,
                aftermath, self.interrupted.is_set(),
            )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _loaded(self, load: Load, client: Client) -> AsyncGenerator[None, None]:
        """Clients at work meanwhile. At the end each finishes what it waits for."""
        clients = [await Client.connect(self.run_folder).open() for _ in range(self.clients)]
        tasks = [asyncio.create_task(load.run(n, c)) for n, c in enumerate(clients, 1)]
        try:
            yield
            if not self.interrupted.is_set():
                stop = asyncio.create_task(self._until_interrupted())
                ends = asyncio.create_task(_all_ended(tasks))
                await asyncio.wait([ends, stop], return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                ends.cancel()
        finally:
            load.stop.set()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for one in clients:
                await one.close()
        for end in results:
            # That it was cancelled is no Exception; anything else is a defect, and is to be seen.
            if isinstance(end, Exception):
                raise end

    async def _until_interrupted(self) -> None:
        await self.interrupted.wait()

    async def _do_plan(self, conductor: Conductor) -> None:
        for step in self.plan:
            if await self._rest(self.began + step.at_s):
                return
            await conductor.inject(step)
        await self._rest(self.began + self.seconds)

    async def _rest(self, until: float) -> bool:
        """Wait until then; whether it was interrupted."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.interrupted.wait(), max(0.0, until - time.monotonic()))
        return self.interrupted.is_set()

    async def _until_healthy(self, client: Client, conductor: Conductor, was_healthy: bool) -> str:
        """Why it is not healthy after all; empty when it is."""
        until = time.monotonic() + HEALTHY_WITHIN_S
        why = "the supervisor does not answer"
        with contextlib.suppress(NoyauError):
            await conductor.end_disturbances()
        while time.monotonic() < until and not self.interrupted.is_set():
            # The supervisor may be away for a moment.
            with contextlib.suppress(NoyauError):
                found = await client.status()
                healthy = found.health is Health.HEALTHY or not was_healthy
                if healthy and all_settled(found) and not conductor.observed.pending:
                    return ""
                why = found.reason or "a fault has not been recovered from"
            await asyncio.sleep(0.1)
        return why

    async def _aftermath(
        self, client: Client, census: Census, load: Load, unhealthy: str
    ) -> Aftermath:
        try:
            found = await _status(client)
        except NoyauError as error:
            return Aftermath(unhealthy=error.message)
        until = time.monotonic() + TIDY_WITHIN_S
        while True:
            orphans, leaked = census.orphans(found), census.leaked(found)
            if not (orphans or leaked) or time.monotonic() > until:
                break
            await asyncio.sleep(0.1)
            found = await _status(client)
        forgotten = 0
        if "memory" in load.actors:
            try:
                forgotten = await settle_memories(client, load.source, load.remembered)
            except NoyauError as error:
                unhealthy = unhealthy or f"what was remembered cannot be looked at: {error.message}"
        return Aftermath(orphans, leaked, unhealthy, forgotten)


async def _all_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _status(client: Client) -> Status:
    """The status, from a supervisor that may be just starting."""
    until = time.monotonic() + SUPERVISOR_WITHIN_S
    while True:
        try:
            return await client.status()
        except NoyauError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.1)


async def _count(client: Client, census: Census, run: Run, show: Callable[[Run], None]) -> None:
    with contextlib.suppress(NoyauError):
        census.take(await client.status())
    show(run)


@contextlib.asynccontextmanager
async def _every(
    seconds: float, do: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncGenerator[None, None]:
    """Do something again and again meanwhile."""

    async def again() -> None:
        while True:
            await do()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
