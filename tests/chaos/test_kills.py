"""Processes are killed under load: what was accepted is answered, or ends in one typed error."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil
import pytest

from noyau import Client, NoyauError, Query
from noyau.processes import alive
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.supervisor import Shutdown, Status
from tests.support.events import watching
from tests.support.system import connect, pid_of, running, running_pid, status_when, until
from tests.support.waiting import eventually

EVERYTHING = 9
"""Processes without a guard: supervisor, spawner, six actors, and the tools' fork server."""
DEADLINE_S = 40.0
GRACE_S = 1.0


@dataclass
class Tally:
    """What became of every query that was sent."""

    began: dict[int, float] = field(default_factory=dict)
    """By client, when it had asked the last of its queries that were answered."""
    answered: int = 0
    errors: list[NoyauError] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """All of them."""
        return self.answered + len(self.errors)


async def askuntil(stop: asyncio.Event, client: Client, tally: Tally, number: int) -> None:
    """Ask one question after the other; every one ends in the tally."""
    asked = 0
    while not stop.is_set():
        asked += 1
        began = time.monotonic()
        query = Query(text=f"Tell me about the number {number * 100 + asked}.", max_tokens=24)
        try:
            answer = await client.ask(query, timeout_s=DEADLINE_S)
        except NoyauError as error:
            tally.errors.append(error)
        else:
            assert answer.text.strip()
            assert answer.metadata.finish_reason in ("stop", "length")
            tally.answered += 1
            tally.began[number] = began
        tally.took.append(time.monotonic() - began)


def restarts_of(found: Status, name: str) -> int:
    """How often it was started again."""
    if name in ("spawner", "supervisor", "guard"):
        return int(getattr(found, name).restarts)
    return next(actor.restarts for actor in found.actors if actor.name == name)


def all_ready(found: Status) -> bool:
    """Whether every actor is READY, or as far as it gets here."""
    return all(actor.state in SETTLED for actor in found.actors)


def are_back(killed: Mapping[str, int], found: Status) -> bool:
    """Whether all is READY, and each of these, by the pid it had, is another process."""
    return all_ready(found) and all(
        running_pid(found, name) not in (None, pid) for name, pid in killed.items()
    )


def pids(found: Status) -> dict[str, int]:
    """Of the actors that have a process."""
    return {actor.name: actor.pid for actor in found.actors if actor.pid is not None}


SIMULATED = (
    "actors.cpu_engine.settings.backend=simulated",
    "actors.cpu_engine.settings.simulated_token_s=0.01",
)


@pytest.mark.parametrize(
    "victim", ["storage", "cpu_engine", "orchestrator", "spawner", "supervisor", "guard"]
)
async def test_queries_outlive_the_sigkill_of(victim: str) -> None:
    # The real model where it makes the difference: four clients keep all of a machine busy with it.
    engine = () if victim == "cpu_engine" else SIMULATED
    async with running(*engine) as system:
        tally, stop, last_kill = Tally(), asyncio.Event(), time.monotonic()
        clients = [await connect(system) for _ in range(4)]
        load = [asyncio.create_task(askuntil(stop, c, tally, n)) for n, c in enumerate(clients)]
        watcher = await connect(system)

        def all_have_asked_and_heard_since() -> bool:
            return sum(began > last_kill for began in tally.began.values()) == len(clients)

        for kills in range(1, 3):
            # So no query is in hand at two deaths in a row, which would be taken for its doing.
            await until(all_have_asked_and_heard_since)
            before = await status_when(watcher, all_ready)
            os.kill(pid_of(before, victim), signal.SIGKILL)
            last_kill = time.monotonic()

            def is_back(found: Status, before: Status = before, kills: int = kills) -> bool:
                return (
                    all_ready(found)
                    and restarts_of(found, victim) == kills
                    and running_pid(found, victim) not in (None, pid_of(before, victim))
                )

            await status_when(watcher, is_back)
        await until(all_have_asked_and_heard_since)
        stop.set()
        await asyncio.gather(*load)
        for client in [*clients, watcher]:
            await client.close()
    assert tally.sent >= 12
    assert tally.answered >= 0.95 * tally.sent, tally.errors
    assert max(tally.took) <= DEADLINE_S + GRACE_S


COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
NEVER_FAILED = "restart.max_restarts=1000"


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_word_is_missing_or_double_wherever_the_kill_falls(seed: int) -> None:
    chance = random.Random(seed)
    words, count = 150, 0
    async with running(COUNTING, NEVER_FAILED) as system, await connect(system) as client:
        for _ in range(8):
            victims = chance.sample(["cpu_engine", "orchestrator", "storage"], k=2)
            moments = sorted(chance.sample(range(1, words - 1), k=2))
            pieces: list[str] = []
            async with client.stream(Query(text="count", max_tokens=words)) as stream:
                async for piece in stream:
                    pieces.append(piece.text)
                    if moments and len(pieces) >= moments[0]:
                        moments.pop(0)
                        found = await status_when(client, all_ready)
                        os.kill(pid_of(found, victims.pop()), signal.SIGKILL)
                        count += 1
            assert "".join(pieces) == "".join(f"{n} " for n in range(words))
            assert stream.end is not None
            positions = [seam.position for seam in stream.end.seams]
            assert positions == sorted(positions)
    assert count == 16


async def test_one_answer_outlives_the_kill_of_every_process_one_after_another() -> None:
    words = 2500
    async with running(COUNTING, NEVER_FAILED) as system, await connect(system) as client:
        pieces: list[str] = []
        victims = ["storage", "cpu_engine", "orchestrator", "spawner", "guard", "supervisor"]
        killed: dict[str, int] = {}
        watcher = await connect(system)
        async with client.stream(Query(text="count", max_tokens=words)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if victims and len(pieces) % 100 == 0:
                    victim = victims.pop(0)
                    found = await status_when(watcher, functools.partial(are_back, killed))
                    killed[victim] = pid_of(found, victim)
                    os.kill(killed[victim], signal.SIGKILL)
        assert "".join(pieces) == "".join(f"{n} " for n in range(words))
        assert len(killed) == 6
        found = await status_when(watcher, functools.partial(are_back, killed))
        for name in killed:
            # Those before the supervisor's own death are not forgotten with it.
            assert restarts_of(found, name) >= 1
        await watcher.close()


@pytest.mark.alone
async def test_nothing_outlives_the_sigkill_of_the_supervisor() -> None:
    async with running(guard=False) as system:
        # On a new machine storage has a child for a while: pip, which fetches memory's model.
        await until(lambda: len(system.processes()) == EVERYTHING, 60)
        everything = system.processes()
        system.process.kill()
        await until(lambda: not alive(everything), 1.0)


@pytest.mark.alone
async def test_the_guard_starts_another_supervisor_and_lets_nothing_of_the_old_one_live() -> None:
    async with running() as system, await connect(system) as client:
        old = [p for p in system.processes() if p.pid != system.process.pid]
        before = await client.status()
        os.kill(pid_of(before, "supervisor"), signal.SIGKILL)
        await until(lambda: not alive(old), 1.0)
        after = await status_when(client, lambda s: s.boot != before.boot and all_ready(s))
        assert after.supervisor.restarts == 1
        assert after.guard.pid == before.guard.pid


async def test_who_watches_events_goes_on_with_the_next_supervisor() -> None:
    async with running() as system, await connect(system) as client:
        before = await client.status()
        async with watching(client, "actor.") as told:
            os.kill(pid_of(before, "tool_user"), signal.SIGKILL)
            await told.until("actor.died", "tool_user")
            os.kill(pid_of(before, "supervisor"), signal.SIGKILL)
            await eventually(lambda: told.stream.resumed)
            after = await status_when(client, lambda s: s.boot != before.boot and all_ready(s))
            told.events.clear()
            os.kill(pid_of(after, "storage"), signal.SIGKILL)
            await told.until("actor.died", "storage")
            assert told.stream.received == []


async def test_restarts_are_counted_through_all_supervisors() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        found = await status_when(client, all_ready)
        for victim in ("storage", "spawner", "supervisor"):
            # Everybody goes down with the latter two.
            gone = pids(found) if victim != "storage" else {}
            gone[victim] = pid_of(found, victim)
            os.kill(gone[victim], signal.SIGKILL)
            found = await status_when(client, functools.partial(are_back, gone))
        # Killed itself, then with the spawner, then with the supervisor.
        assert restarts_of(found, "storage") == 3
        assert restarts_of(found, "orchestrator") == 2
        assert restarts_of(found, "spawner") == 2


@pytest.mark.alone
async def test_nothing_outlives_the_sigkill_of_guard_and_supervisor() -> None:
    async with running() as system, await connect(system) as client:
        everything = system.processes()
        supervisor = pid_of(await client.status(), "supervisor")
        # Stopped, so that it cannot start another supervisor between the two. Not the other way
        # round: a stopped supervisor goes on when its guard ends, by the kernel's SIGCONT to a
        # process group that is orphaned by that.
        os.kill(system.process.pid, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        system.process.kill()
        await until(lambda: not alive(everything), 1.0)
        assert system.processes() == []


@pytest.mark.alone
async def test_the_guard_that_follows_a_killed_one_does_its_work() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        others = [p for p in system.processes() if p.pid != system.process.pid]
        system.process.kill()
        guarded = await status_when(client, has_guard(1))
        assert pids(guarded) == pids(before)
        assert guarded.spawner.pid == before.spawner.pid
        assert guarded.supervisor.pid == before.supervisor.pid
        os.kill(pid_of(guarded, "supervisor"), signal.SIGKILL)
        await until(lambda: not alive(others), 1.0)
        after = await status_when(client, lambda s: s.boot != before.boot and all_ready(s))
        assert after.supervisor.restarts == 1
        assert after.guard.pid == guarded.guard.pid
        assert after.guard.restarts == 1
        assert (await client.ask(Query(text="count", max_tokens=2))).text == "0 1 "


def has_guard(restarts: int) -> Callable[[Status], bool]:
    """Whether the guard runs that follows so many others."""
    return lambda found: bool(found.guard.pid) and found.guard.restarts == restarts


@pytest.mark.parametrize("guards", [1, 2])
async def test_a_system_whose_guard_was_killed_stops_in_order_with_all_of_it(guards: int) -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        for number in range(guards):
            found = await status_when(client, has_guard(number))
            os.kill(pid_of(found, "guard"), signal.SIGKILL)
        await status_when(client, has_guard(guards))
        everything = system.processes()
        await client.ask(Shutdown())
        await until(lambda: not alive(everything), 15)
        assert system.processes() == []


async def test_a_guard_that_follows_passes_on_that_it_is_asked_to_stop() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        system.process.kill()
        found = await status_when(client, has_guard(1))
        everything = system.processes()
        os.kill(pid_of(found, "guard"), signal.SIGTERM)
        await until(lambda: not alive(everything), 15)
        assert system.processes() == []


async def test_a_crash_loop_ends_in_failed_and_its_siblings_are_untouched() -> None:
    quick = ("restart.max_restarts=3", "restart.backoff_first_s=0.01", "restart.backoff_max_s=0.02")
    crasher = "actors.crasher.class=tests.support.actors:Crasher"
    async with running(crasher, COUNTING, *quick, wait=False) as system:
        client = await connect(system)
        failed = await status_when(client, lambda s: _state(s, "crasher") is ActorState.FAILED)
        crasher_status = next(a for a in failed.actors if a.name == "crasher")
        assert crasher_status.restarts == 3
        assert "4 times" in crasher_status.reason
        assert "exit code 3" in crasher_status.reason
        answer = await client.ask(Query(text="count", max_tokens=5))
        assert answer.text == "0 1 2 3 4 "
        siblings = await status_when(
            client, lambda s: all(a.state in SETTLED for a in s.actors if a.name != "crasher")
        )
        assert {a.restarts for a in siblings.actors if a.name != "crasher"} == {0}
        from protocol.messages.supervisor import Restart

        await client.ask(Restart(names=["crasher"]))
        again = await status_when(client, lambda s: _restarts(s, "crasher") > 3)
        assert again.health.value == "degraded"
        await client.close()


def _state(found: Status, name: str) -> ActorState:
    return next(actor.state for actor in found.actors if actor.name == name)


def _restarts(found: Status, name: str) -> int:
    return next(actor.restarts for actor in found.actors if actor.name == name)


async def test_an_actor_that_cannot_start_says_why_and_hurts_nobody() -> None:
    broken = "actors.broken.class=tests.support.actors:Unstartable"
    missing = "actors.missing.class=tests.support.nothing:Missing"
    async with running(broken, missing, COUNTING, wait=False) as system:
        client = await connect(system)
        found = await status_when(
            client,
            lambda s: _state(s, "missing") is ActorState.FAILED and "moon" in s.reason,
        )
        reasons = {actor.name: actor.reason for actor in found.actors}
        assert "the moon is in the wrong phase" in reasons["broken"]
        assert "tests.support.nothing" in reasons["missing"]
        assert (await client.ask(Query(text="count", max_tokens=2))).text == "0 1 "
        await client.close()


async def test_a_stopping_system_finishes_or_hands_back_what_it_works_on() -> None:
    patient = "supervisor.drain_timeout_s=30"
    async with running(COUNTING, patient) as system, await connect(system) as client:
        pieces: list[str] = []
        async with client.stream(Query(text="count", max_tokens=300), timeout_s=60) as answer:
            async for piece in answer:
                if not pieces:
                    system.process.send_signal(signal.SIGTERM)
                pieces.append(piece.text)
        assert "".join(pieces) == "".join(f"{n} " for n in range(300))
        await until(lambda: system.process.poll() is not None, 20)
        assert system.process.returncode == 0
        assert [p.name for p in system.run_folder.iterdir()] == ["lock"]


def test_the_tests_own_processes_are_gone() -> None:
    children = psutil.Process().children(recursive=True)
    assert [c for c in children if "supervis" in " ".join(c.cmdline())] == []
