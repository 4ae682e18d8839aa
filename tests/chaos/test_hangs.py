"""Processes hang in every way there is: each is found, ended and replaced; who is slow is not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import psutil
import pytest

from noyau import Client, NoyauError, Query
from protocol.errors import ActorDied
from protocol.lifecycle import SETTLED
from protocol.messages.supervisor import Shutdown, Status
from tests.support.actors import Hang
from tests.support.events import watching
from tests.support.system import connect, pid_of, running, running_pid, status_when
from tests.support.waiting import eventually

pytestmark = pytest.mark.alone

SIX = ("storage", "cpu_engine", "gpu_engine", "memory", "tool_user", "orchestrator")
COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
HANGING = (COUNTING, "actors.hanging.class=tests.support.actors:Hanging")
QUICK = ("hang.idle_s=1", "hang.stuck_s=1.5", "hang.working_s=4", "hang.term_s=0.2")


def restarts(found: Status, name: str) -> int:
    return next(actor.restarts for actor in found.actors if actor.name == name)


def last_exit(found: Status, name: str) -> str:
    return next(actor.last_exit for actor in found.actors if actor.name == name)


async def replaced(client: Client, name: str, old: int) -> Status:
    return await status_when(client, lambda s: running_pid(s, name) not in (None, old))


async def test_a_stopped_actor_is_replaced_whichever_of_the_six_it_is() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        for name in SIX:
            old = pid_of(await client.status(), name)
            os.kill(old, signal.SIGSTOP)
            after = await replaced(client, name, old)
            assert "stopped by a signal" in last_exit(after, name)
            assert restarts(after, name) == 1
            assert not psutil.pid_exists(old)
        assert (await client.ask(Query(text="count", max_tokens=3))).text == "0 1 2 "


async def test_a_stopped_spawner_is_replaced_though_nobody_orders_anything_of_it() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        os.kill(pid_of(before, "spawner"), signal.SIGSTOP)
        after = await status_when(
            client,
            lambda s: (
                running_pid(s, "spawner") not in (None, before.spawner.pid)
                and all(actor.state in SETTLED for actor in s.actors)
            ),
        )
        assert after.supervisor.pid == before.supervisor.pid
        assert after.spawner.restarts == 1


async def test_the_guards_death_takes_nobody_with_it_while_the_spawner_is_stopped() -> None:
    # The kernel hangs up on a group of processes that loses its parent while one of it is stopped.
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        os.kill(pid_of(before, "spawner"), signal.SIGSTOP)
        os.kill(pid_of(before, "guard"), signal.SIGKILL)
        after = await status_when(
            client, lambda s: running_pid(s, "guard") not in (None, before.guard.pid)
        )
        assert after.supervisor.pid == before.supervisor.pid


@pytest.mark.parametrize("victim", ["cpu_engine", "orchestrator"])
async def test_an_answer_outlives_a_stop_in_the_middle_of_it(victim: str) -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        pieces: list[str] = []
        async with client.stream(Query(text="count", max_tokens=200)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if len(pieces) == 20:
                    os.kill(pid_of(await client.status(), victim), signal.SIGSTOP)
        assert "".join(pieces) == "".join(f"{n} " for n in range(200))
        assert stream.end is not None
        assert stream.end.seams


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("spin", "it computes"),
        ("sleep", "it waits for something"),
        ("stick", "does not compute either"),
    ],
)
async def test_an_actor_that_hangs_is_found_ended_and_replaced(how: str, says: str) -> None:
    async with running(*HANGING, *QUICK) as system, await connect(system) as client:
        old = pid_of(await client.status(), "hanging")
        hanging = asyncio.create_task(client.ask(Hang(how=how), to="hanging", timeout_s=60))
        after = await replaced(client, "hanging", old)
        assert says in last_exit(after, "hanging")
        assert restarts(after, "hanging") == 1
        if how == "stick":
            await hanging
        else:
            with pytest.raises(ActorDied):
                await hanging
        assert {restarts(after, name) for name in SIX} == {0}


async def test_an_actor_whose_threads_get_on_is_slow_and_is_left_alone() -> None:
    async with running(*HANGING, *QUICK) as system, await connect(system) as client:
        old = pid_of(await client.status(), "hanging")
        await client.ask(Hang(how="slow"), to="hanging")

        def is_done(found: Status) -> bool:
            (actor,) = (one for one in found.actors if one.name == "hanging")
            return actor.counters.progress >= 40

        after = await status_when(client, is_done)
        assert pid_of(after, "hanging") == old
        assert restarts(after, "hanging") == 0


async def test_a_debugger_stops_an_actor_for_as_long_as_it_likes() -> None:
    debugger = """
import ctypes, os, signal, sys, time
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
if libc.ptrace(16, pid, None, None) != 0:  # PTRACE_ATTACH
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0x40000000)  # __WALL
print("attached", flush=True)
sys.stdin.read()
libc.ptrace(17, pid, None, None)  # PTRACE_DETACH
"""
    async with running(*HANGING, *QUICK) as system, await connect(system) as client:
        pid = pid_of(await client.status(), "storage")
        attached = await asyncio.create_subprocess_exec(
            sys.executable, "-c", debugger, str(pid),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert attached.stdout is not None
        if not await attached.stdout.readline():
            pytest.skip("this machine allows no debugger")
        assert psutil.Process(pid).status() == psutil.STATUS_TRACING_STOP
        # Another one hangs for longer than it would be given, and is found meanwhile.
        hanging = pid_of(await client.status(), "hanging")
        with pytest.raises(NoyauError):
            await client.ask(Hang(how="spin"), to="hanging", timeout_s=60)
        await replaced(client, "hanging", hanging)
        await attached.communicate(b"")
        found = await client.status()
        assert pid_of(found, "storage") == pid
        assert restarts(found, "storage") == 0


async def test_a_hang_is_an_event_with_its_reason() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        async with watching(client, "actor.hung") as told:
            old = pid_of(await client.status(), "memory")
            os.kill(old, signal.SIGSTOP)
            await replaced(client, "memory", old)
            await told.until("actor.hung")
        assert [event.text for event in told.events] == [
            "memory hangs, and is killed: it was stopped by a signal (state T)"
        ]


async def test_nothing_of_the_signs_is_left_in_the_run_folder() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        for name in ("storage", "memory"):
            old = pid_of(await client.status(), name)
            os.kill(old, signal.SIGKILL)
            await replaced(client, name, old)
        found = await status_when(client, lambda s: all(a.state in SETTLED for a in s.actors))
        pages = {path.name for path in system.run_folder.glob("*.signs")}
        assert pages == {f"{actor.name}.{actor.epoch}.signs" for actor in found.actors}
        await client.ask(Shutdown())
        await eventually(lambda: system.process.poll() is not None)
        assert [path.name for path in system.run_folder.iterdir()] == ["lock"]


async def test_an_actor_over_its_memory_ceiling_is_drained_and_started_again() -> None:
    ceiling = ("actors.hanging.memory_mib=150",)
    async with running(*HANGING, *ceiling) as system, await connect(system) as client:
        old = pid_of(await client.status(), "hanging")
        await client.ask(Hang(how="grow"), to="hanging")
        after = await replaced(client, "hanging", old)
        assert "of memory, more than its 150" in last_exit(after, "hanging")
        assert {restarts(after, name) for name in SIX} == {0}
