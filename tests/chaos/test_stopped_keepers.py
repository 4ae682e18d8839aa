"""Those who watch the actors are stopped (SIGSTOP): another one notices, and replaces them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from noyau import Query
from noyau.processes import alive
from protocol.lifecycle import SETTLED
from protocol.messages.supervisor import Shutdown, Status
from tests.support.system import System, connect, pid_of, running, running_pid, status_when, until

pytestmark = pytest.mark.alone

COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
TOLD = "it was stopped by a signal (state T)"


def follows(before: Status, name: str) -> Callable[[Status], bool]:
    """Whether another process is there in its place, and every actor with it."""
    return lambda found: (
        running_pid(found, name) not in (None, pid_of(before, name))
        and all(actor.state in SETTLED for actor in found.actors)
    )


def all_but_the_guard(system: System, found: Status) -> list[psutil.Process]:
    return [one for one in system.processes() if one.pid != found.guard.pid]


@pytest.mark.parametrize("victim", ["supervisor", "spawner", "guard"])
async def test_an_answer_outlives_a_stop_in_the_middle_of_it(victim: str) -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before, pieces = await client.status(), list[str]()
        old = psutil.Process(pid_of(before, victim))
        async with client.stream(Query(text="count", max_tokens=300)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if len(pieces) == 20:
                    old.suspend()
        assert "".join(pieces) == "".join(f"{n} " for n in range(300))
        after = await status_when(client, follows(before, victim))
        assert getattr(after, victim).restarts == 1
        assert alive([old]) == []


async def test_a_stopped_supervisor_is_followed_by_another_and_nothing_of_it_is_left() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        old = all_but_the_guard(system, before)
        os.kill(pid_of(before, "supervisor"), signal.SIGSTOP)
        after = await status_when(client, follows(before, "supervisor"))
        assert alive(old) == []
        assert after.boot != before.boot
        assert after.guard.pid == before.guard.pid
        assert f"the supervisor hangs, and is killed: {TOLD}" in system.output


async def test_a_supervisor_that_is_stopped_while_it_starts_is_followed_by_another() -> None:
    async with running(COUNTING, wait=False) as system:
        guard = psutil.Process(system.process.pid)
        # Between fork and exec its parent waits for it, and would be stopped as well.
        await until(lambda: any("supervisor" in one.cmdline() for one in guard.children()))
        (first,) = guard.children()
        first.suspend()
        async with await connect(system) as client:
            assert (await client.status()).supervisor.restarts == 1
            assert not first.is_running()


async def test_a_guard_that_adopted_notices_a_stop_as_well() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        first = await client.status()
        os.kill(pid_of(first, "guard"), signal.SIGSTOP)
        before = await status_when(client, follows(first, "guard"))
        assert before.supervisor.pid == first.supervisor.pid
        assert before.guard.restarts == 1
        old = all_but_the_guard(system, before)
        os.kill(pid_of(before, "supervisor"), signal.SIGSTOP)
        after = await status_when(client, follows(before, "supervisor"))
        assert alive(old) == []
        assert after.guard.pid == before.guard.pid


async def test_nothing_is_left_of_a_supervisor_that_was_stopped_together_with_its_spawner() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        first = await client.status()
        # The guard that follows is no parent of the supervisor, so it is nobody's to sweep up.
        os.kill(pid_of(first, "guard"), signal.SIGKILL)
        before = await status_when(client, follows(first, "guard"))
        old = all_but_the_guard(system, before)
        os.kill(pid_of(before, "supervisor"), signal.SIGSTOP)
        os.kill(pid_of(before, "spawner"), signal.SIGSTOP)
        await status_when(client, follows(before, "supervisor"))
        await until(lambda: not alive(old))


async def test_a_stopped_guard_is_told_and_killed_and_the_next_one_stops_all_in_order() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        os.kill(pid_of(before, "guard"), signal.SIGSTOP)
        after = await status_when(client, follows(before, "guard"))
        assert after.supervisor.restarts == 0
        assert "the guard was stopped by a signal (state T), and is killed" in system.output
        everything = system.processes()
        await client.ask(Shutdown())
        await until(lambda: not alive(everything), 15)


async def test_a_stopped_spawner_is_replaced_and_all_that_it_had_is_gone_before() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        spawner = psutil.Process(pid_of(before, "spawner"))
        below = spawner.children(recursive=True)
        spawner.suspend()
        after = await status_when(client, follows(before, "spawner"))
        # Not even as zombies, which a sweep that does not reap would leave.
        assert [one for one in below if psutil.pid_exists(one.pid)] == []
        ended = max(one.create_time() for one in below)
        assert (
            min(psutil.Process(pid_of(after, a.name)).create_time() for a in after.actors) > ended
        )
        assert after.supervisor.pid == before.supervisor.pid
        assert {actor.last_exit for actor in after.actors} == {"died with the spawner"}
        assert "the spawner was stopped by a signal (state T); replacing it" in system.output


async def test_a_terminal_that_stops_those_in_the_background_does_not_stop_the_supervisor() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        pid = pid_of(await client.status(), "supervisor")
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        (ignored,) = (line.split()[1] for line in status if line.startswith("SigIgn:"))
        assert int(ignored, 16) & 1 << (signal.SIGTTOU - 1)


async def test_a_spawner_that_is_stopped_again_and_again_is_replaced_each_time() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        for stops in range(1, 4):
            before = await client.status()
            os.kill(pid_of(before, "spawner"), signal.SIGSTOP)
            after = await status_when(client, follows(before, "spawner"))
            assert after.spawner.restarts == stops
        assert (await client.ask(Query(text="count", max_tokens=3))).text == "0 1 2 "
