"""Puts faults into a running noyau, and watches what follows each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import psutil

from noyau.chaos.kinds import KINDS, OWN
from noyau.chaos.observing import Fault, Observations
from noyau.chaos.plan import Step
from protocol.client import Client
from protocol.errors import ActorDied, ActorUnavailable, NotFound, NotRunning, NoyauError
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.actor import ActorFault, Disturb, Ping
from protocol.messages.engine import Misbehave
from protocol.messages.memory import ListMemories
from protocol.messages.orchestrator import Query
from protocol.messages.storage import ListAssets
from protocol.messages.supervisor import DirectoryEntry, Inject, Restart, Status, WatchEvents
from protocol.messages.tool_user import ListTools

ORDER_S = 5.0
"""For so long the taker of an order may be away: then there is nobody to hit."""
ANSWER_S = 1.0
"""A probe that has no answer after so long is sent again."""
DROPPED_S = 0.1
"""The same while answers are lost."""
PROBE_S = 0.02
FAIL_PROBE_S = 0.1
"""Between probes of one that fails requests: they are to hit others too."""
FOR_EVER_S = 10 * 365 * 86_400.0

DISTURBANCES: dict[str, ActorFault] = {
    "spin": "spin", "stall": "stall", "leak": "leak", "slow_exit": "slow_exit", "fail": "fail",
    "drop": "drop", "delay": "delay",
}  # fmt: skip


class Conductor:
    """One client that orders faults and looks at nothing else. Use it with ``async with``."""

    def __init__(
        self, client: Client, *, delay_s: float = 0.2, mib: int = 256, after_tokens: int = 20
    ) -> None:
        """``delay_s`` and ``mib`` are those of every `Disturb`; ``after_tokens`` of an answer
        engines get it wrong."""
        self._after_tokens = after_tokens
        self.observed = Observations()
        self._client = client
        self._delay_s, self._mib = delay_s, mib
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: list[psutil.Process] = []
        self._found: Status | None = None

    async def __aenter__(self) -> Conductor:
        caller = self._client.caller
        caller.on_supervisor_lost.append(lambda _: self.observed.supervisor_lost(time.monotonic()))
        self._start(self._follow_events())
        self._start(self._follow_directory())
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.let_go_on()
        for end in ends:
            # That it was cancelled is no Exception; anything else is a defect, and is to be seen.
            if isinstance(end, Exception):
                raise end

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def check_allowed(self, found: Status) -> None:
        """Raises `NotAllowed`, which says how to allow it, before anything is done."""
        ready = next((a.name for a in found.actors if a.state is ActorState.READY), None)
        if ready is None:
            raise ActorUnavailable("no actor is ready: there is nothing to try")
        await self._client.ask(Disturb(fault="none"), to=ready, timeout_s=ORDER_S)

    # --- faults ---------------------------------------------------------------------------

    async def inject(self, step: Step) -> Fault | None:
        """Put a fault in, and watch what follows from now on. None where its process was not there
        at this moment. Raises `NotAllowed`, `NotFound` and `InvalidRequest`."""
        fault = self.observed.begun(step, time.monotonic())
        try:
            await self._order(fault)
        except (ActorUnavailable, ActorDied, NotRunning) as error:
            self.observed.withdrawn(fault, error.message)
            return None
        except NoyauError:
            self.observed.withdrawn(fault, "refused")
            raise
        fault.ordered_at = time.monotonic()
        self._start(self._follow(fault))
        return fault

    async def _order(self, fault: Fault) -> None:
        step, ask = fault.step, self._client.ask
        if step.kind in ("kill", "stop", "slow_start"):
            await self._order_of_the_supervisor(fault)
            return
        how = KINDS[step.kind].how
        if how is not None:
            answers = max(1, int(step.seconds))
            order = Misbehave(how=how, after_tokens=self._after_tokens, answers=answers)
            fault.begins(time.monotonic())
            await ask(order, to=step.target, timeout_s=ORDER_S)
            return
        message = Disturb(
            fault=DISTURBANCES[step.kind], seconds=step.seconds, delay_s=self._delay_s,
            requests=max(1, int(step.seconds)), mib=self._mib,
        )  # fmt: skip
        if step.target in OWN:
            raise NotFound(f"{step.kind} is for actors; {step.target} is none")
        began = time.monotonic()
        told = await ask(message, to=step.target, timeout_s=ORDER_S)
        fault.begins(began)
        fault.epoch, fault.replaces = told.epoch, told.replaces
        fault.noticed_within_s = told.noticed_within_s
        if step.kind == "slow_exit":
            fault.replaces = True
            fault.begins(time.monotonic())
            await ask(Restart(names=[step.target]), timeout_s=ORDER_S)

    async def _order_of_the_supervisor(self, fault: Fault) -> None:
        step = fault.step
        found = await self._client.status()
        if step.target in ("supervisor", "guard") and not found.guard.pid:
            raise ActorUnavailable(f"{step.target} is left alone while there is no guard")
        fault.replaces = True
        fault.epoch = found.boot if step.target == "supervisor" else ""
        pid = found.supervisor.pid
        try:
            if step.kind == "slow_start":
                await self._inject(Inject(fault="slow_start", target=step.target,
                                          seconds=step.seconds))  # fmt: skip
            fault.begins(time.monotonic())
            order = Inject(fault="stop" if step.kind == "stop" else "kill", target=step.target)
            told = await self._inject(order)
            pid, fault.noticed_within_s = told.pid, told.noticed_within_s
            fault.epoch = fault.epoch or told.epoch or str(told.pid)
        except ActorDied:
            # Its last answer may be lost with it.
            if step.target != "supervisor":
                raise
            fault.noticed_within_s = 0.0
        if step.kind == "stop" and pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._stopped.append(psutil.Process(pid))

    async def _inject(self, order: Inject) -> Any:
        return await self._client.ask(order, timeout_s=ORDER_S)

    async def end_disturbances(self) -> None:
        """Nothing is got wrong on purpose any more."""
        await self._have_engines_behave()
        for entry in list(self._client.caller.directory.entries.values()):
            if entry.state is ActorState.READY:
                try:
                    await self._client.ask(Disturb(fault="none"), to=entry.name, timeout_s=ORDER_S)
                except (ActorUnavailable, ActorDied, NotRunning):
                    # Its fault ends with it.
                    continue

    async def _have_engines_behave(self) -> None:
        for entry in list(self._client.caller.directory.entries.values()):
            if is_engine(entry):
                # Its orders end with it.
                with contextlib.suppress(ActorUnavailable, ActorDied, NotRunning):
                    await self._client.ask(Misbehave(how="none"), to=entry.name, timeout_s=ORDER_S)

    def let_go_on(self) -> list[int]:
        """Whatever was stopped and still stands gets SIGCONT; returns its process ids."""
        found = []
        for process in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_STOPPED:
                    process.resume()
                    found.append(process.pid)
        self._stopped.clear()
        return found

    # --- what follows ---------------------------------------------------------------------

    async def _follow_events(self) -> None:
        caller = self._client.caller
        while True:
            # The supervisor may be what was killed: the next one is asked.
            with contextlib.suppress(NoyauError):
                stream = await caller.stream("supervisor", WatchEvents(), timeout_s=FOR_EVER_S)
                async with stream:
                    async for batch in stream:
                        now = time.monotonic()
                        for event in batch.events:
                            self.observed.told(event.actor, event.what, event.text, now)
            await asyncio.sleep(PROBE_S)

    async def _follow_directory(self) -> None:
        caller = self._client.caller
        while True:
            await caller.wait_for_news(caller.clock.now() + ANSWER_S)
            now = time.monotonic()
            for entry in caller.directory.entries.values():
                self.observed.entry(
                    entry.name, entry.epoch, well=entry.state in SETTLED, state=entry.state.value,
                    now=now,
                )  # fmt: skip

    async def _follow(self, fault: Fault) -> None:
        """Until somebody answers for what was hit."""
        while not fault.over:
            # Nobody answers yet.
            with contextlib.suppress(NoyauError):
                by = await self._answer(fault)
                if by is not None:
                    self.observed.recovered(fault, by, time.monotonic())
                    return
            await asyncio.sleep(FAIL_PROBE_S if fault.step.kind == "fail" else PROBE_S)

    async def _answer(self, fault: Fault) -> str | None:
        """Who answers for what was hit; None while that is still the one that was."""
        target = fault.step.target
        if target in ("spawner", "guard"):
            return self._next_pid(fault, await self._client.status())
        if target != "supervisor" and self._is_unavailable(target):
            # It takes no requests on this machine; being there is all that it can do.
            epoch = self._client.caller.directory.entries[target].epoch
        elif fault.step.kind == "fail":
            await self._real_answer(target)
            return fault.epoch
        else:
            timeout_s = DROPPED_S if fault.step.kind == "drop" else ANSWER_S
            epoch = (await self._client.ask(Ping(), to=target, timeout_s=timeout_s)).epoch
        return epoch if epoch and not (fault.replaces and epoch == fault.epoch) else None

    def _is_unavailable(self, name: str) -> bool:
        entry = self._client.caller.directory.entries.get(name)
        return entry is not None and entry.state is ActorState.UNAVAILABLE

    def _next_pid(self, fault: Fault, found: Status) -> str | None:
        pid = found.guard.pid if fault.step.target == "guard" else found.spawner.pid
        if pid is None or str(pid) == fault.epoch:
            return None
        if fault.step.target == "spawner" and not all_settled(found):
            return None
        return str(pid)

    async def _real_answer(self, target: str) -> None:
        """A request that is work, as pings are none."""
        caller = self._client.caller
        match target:
            case "memory":
                await caller.ask(target, ListMemories(limit=1), timeout_s=ANSWER_S)
            case "storage":
                await caller.ask(target, ListAssets(), timeout_s=ANSWER_S)
            case "tool_user":
                await caller.ask(target, ListTools(), timeout_s=ANSWER_S)
            case "orchestrator":
                # As it comes: the client's own stream would go on by itself.
                query = Query(text="Are you there?", max_tokens=1, memories=False, tools=False)
                async with await caller.stream(target, query, timeout_s=10) as stream:
                    async for _ in stream:
                        pass
            case _ if is_engine(caller.directory.entries[target]):
                # An engine: who wants text goes through the orchestrator, which goes on by itself.
                await self._client.ask(Query(text="Are you there?", max_tokens=1), timeout_s=10)
            case _:
                await caller.ask(target, Ping(), timeout_s=ANSWER_S)


def all_settled(found: Status) -> bool:
    """Whether every actor has come as far as it can on this machine."""
    return all(actor.state in SETTLED for actor in found.actors)


def is_engine(entry: DirectoryEntry) -> bool:
    """Whether it is an engine that is READY."""
    return entry.state is ActorState.READY and "slots" in entry.info
