"""Each kind of fault, put into a real system through the messages, and what follows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from noyau import Client, Query
from noyau.chaos.conducting import Conductor
from noyau.chaos.kinds import KINDS
from noyau.chaos.observing import Fault
from noyau.chaos.plan import Step
from protocol.errors import (
    ActorUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    NotAllowed,
    NotFound,
)
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.actor import Disturb, Ping
from protocol.messages.memory import ListMemories
from protocol.messages.storage import ListAssets
from protocol.messages.supervisor import Inject, Status
from protocol.messages.tool_user import ListTools
from tests.integration.test_command import ROOT, in_a_new_process, noyau
from tests.support.events import watching
from tests.support.system import System, connect, pid_of, running, running_pid, shared, status_when
from tests.support.waiting import eventually

COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
ALLOWED = (COUNTING, "chaos.allowed=true")
SOON_HUNG = ("hang.idle_s=1", "hang.stuck_s=1.5", "hang.term_s=0.2")
BOUND_S = 40.0
"""Only a machine that is swamped, or a defect, takes so long."""
LONG_S = 600.0
"""Of a fault that the test ends."""


@contextlib.asynccontextmanager
async def broken(
    kind: str, target: str, seconds: float = 1.0, *settings: str
) -> AsyncGenerator[tuple[Client, Fault], None]:
    """A system with one fault in it, from which it has recovered."""
    async with (
        running(*ALLOWED, *settings) as system,
        put_in(system, kind, target, seconds) as found,
    ):
        yield found


@contextlib.asynccontextmanager
async def put_in(
    system: System, kind: str, target: str, seconds: float = 1.0
) -> AsyncGenerator[tuple[Client, Fault], None]:
    """The same in a system that runs already."""
    async with await connect(system) as client, Conductor(client) as conductor:
        await status_when(client, lambda s: all(one.state in SETTLED for one in s.actors))
        fault = await conductor.inject(Step(0.0, kind, target, seconds))
        assert fault is not None
        await eventually(lambda: fault.over, BOUND_S)
        yield client, fault


@pytest.fixture(scope="module")
def broken_again_and_again() -> Iterator[System]:
    """For faults that replace a process each, and leave a system that is well."""
    with shared(*ALLOWED, "restart.max_restarts=1000") as system:
        yield system


@pytest.fixture(scope="module")
def soon_taken_for_hung() -> Iterator[System]:
    """The same for those that hang. Nothing else is tried here: whoever gets no time from a busy
    machine for a second is replaced too."""
    with shared(*ALLOWED, *SOON_HUNG, "restart.max_restarts=1000") as system:
        yield system


# --- the process is gone, and another takes its place -----------------------------------------


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("kill", "storage"),
        ("kill", "spawner"),
        ("kill", "supervisor"),
        ("stop", "memory"),
        ("stop", "spawner"),
        ("stop", "supervisor"),
        ("slow_exit", "tool_user"),
        ("slow_start", "storage"),
    ],
)
async def test_a_fault_that_ends_a_process_is_noticed_and_another_one_answers(
    broken_again_and_again: System, kind: str, target: str
) -> None:
    async with put_in(broken_again_and_again, kind, target) as (client, fault):
        if kind in ("slow_exit", "slow_start"):
            assert fault.recover_ms is not None
            assert fault.recover_ms >= 1000
        await noticed_and_followed(client, fault)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        # On a busy machine it gets too little of a core to be told from one that is starved.
        pytest.param("spin", "tool_user", marks=pytest.mark.alone),
        ("stall", "storage"),
    ],
)
async def test_one_that_hangs_is_noticed_and_another_one_answers(
    soon_taken_for_hung: System, kind: str, target: str
) -> None:
    async with put_in(soon_taken_for_hung, kind, target) as (client, fault):
        await noticed_and_followed(client, fault)


async def noticed_and_followed(client: Client, fault: Fault) -> None:
    assert fault.step.target in fault.sign
    assert fault.by not in ("", fault.epoch)
    assert fault.recover_ms is not None
    assert (await client.ask(Query(text="count", max_tokens=3))).text == "0 1 2 "


async def test_one_that_ignores_the_order_to_end_is_killed_when_its_time_is_over() -> None:
    # Of itself it would end when the test's patience is long over.
    late = 3 * BOUND_S
    async with broken("slow_exit", "tool_user", late, "supervisor.drain_timeout_s=1") as (_, fault):
        assert fault.by not in ("", fault.epoch)


async def test_who_asks_one_that_starts_slowly_waits_for_it(
    broken_again_and_again: System,
) -> None:
    async with await connect(broken_again_and_again) as client:
        await client.ask(Inject(fault="slow_start", target="storage", seconds=2))
        killed_at = time.monotonic()
        await client.ask(Inject(fault="kill", target="storage"))
        assert (await client.ask(ListAssets())).assets
        assert time.monotonic() - killed_at >= 2


async def test_memory_that_grows_over_a_ceiling_has_the_actor_drained() -> None:
    ceiling = "actors.tool_user.memory_mib=200"
    async with (
        running(*ALLOWED, ceiling) as system,
        await connect(system) as watcher,
        watching(watcher, "actor.too_large") as told,
        put_in(system, "leak", "tool_user") as (_, fault),
    ):
        assert fault.replaces
        assert "more than its 200" in (await told.until("actor.too_large", "tool_user")).text
        assert fault.by != fault.epoch


async def test_memory_without_a_ceiling_is_freed_again_and_nobody_is_replaced() -> None:
    def rss(found: Status) -> int:
        actor = next(one for one in found.actors if one.name == "tool_user")
        return int(actor.rss_bytes or 0)

    async with running(*ALLOWED) as system, await connect(system) as client:
        before = await client.status()
        pid = pid_of(before, "tool_user")
        large, small = rss(before) + 150 * 2**20, rss(before) + 100 * 2**20
        assert peak_rss(pid) < small
        told = await client.ask(Disturb(fault="leak", mib=200), to="tool_user")
        assert not told.replaces
        # It has so much for half a second only.
        await eventually(lambda: peak_rss(pid) > large)
        after = await status_when(client, lambda s: rss(s) < small)
        assert pid_of(after, "tool_user") == pid


def peak_rss(pid: int) -> int:
    """The most bytes that a process had in memory so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """For faults that are over, and have replaced nobody, when a test of them is."""
    with shared(*ALLOWED) as system:
        yield system


# --- requests and answers ---------------------------------------------------------------------


async def test_as_many_requests_fail_as_were_ordered_and_whoever_asks_tries_again() -> None:
    # Nobody else asks this actor anything meanwhile.
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="fail", requests=2), to="tool_user")
        await client.ask(Ping(), to="tool_user")
        assert (await client.ask(ListTools())).tools
        await status_when(client, lambda s: failures(s, "tool_user") == 2)


def failures(found: Status, name: str) -> int:
    return next(actor.counters.failed for actor in found.actors if actor.name == name)


async def test_failures_are_counted_as_the_actors_own_and_show_in_its_health() -> None:
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="fail", requests=1000), to="tool_user")
        asking = asyncio.create_task(client.ask(ListTools()))
        await status_when(client, lambda s: "requests all failed" in s.reason)
        await client.ask(Disturb(fault="none"), to="tool_user")
        assert (await asking).tools


async def test_an_answer_outlives_an_orchestrator_and_an_engine_that_fail_requests() -> None:
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="fail", requests=2), to="orchestrator")
        await client.ask(Disturb(fault="fail", requests=2), to="cpu_engine")
        assert (await client.ask(Query(text="count", max_tokens=5))).text == "0 1 2 3 4 "


async def test_a_lost_reply_ends_by_the_deadline_and_the_next_one_arrives() -> None:
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="drop", seconds=LONG_S), to="memory")
        with pytest.raises(DeadlineExceeded):
            await client.ask(ListMemories(limit=1), timeout_s=0.3)
        await client.ask(Disturb(fault="none"), to="memory")
        assert (await client.ask(ListMemories(limit=1))).items == []


@pytest.mark.parametrize("victim", ["orchestrator", "cpu_engine"])
async def test_parts_of_a_stream_that_are_lost_are_noticed_and_the_answer_goes_on(
    system: System, victim: str
) -> None:
    # So many that they are not all under way when the fault begins.
    words = 1500
    async with await connect(system) as client:
        pieces: list[str] = []
        async with client.stream(Query(text="count", max_tokens=words)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if len(pieces) == 20:
                    await client.ask(Disturb(fault="drop", seconds=0.1), to=victim)
        assert "".join(pieces) == "".join(f"{n} " for n in range(words))
        assert stream.end is not None
        assert "was due" in " ".join([*stream.resumed, *(s.reason for s in stream.end.seams)])


async def test_a_stream_that_is_late_keeps_its_order_and_needs_no_seam(
    system: System,
) -> None:
    words = 300
    async with await connect(system) as client:
        pieces: list[str] = []
        async with client.stream(Query(text="count", max_tokens=words)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if len(pieces) == 20:
                    order = Disturb(fault="delay", seconds=0.2, delay_s=0.3)
                    await client.ask(order, to="orchestrator")
        assert "".join(pieces) == "".join(f"{n} " for n in range(words))
        assert stream.end is not None
        assert stream.end.seams == []


async def test_a_late_reply_ends_by_the_deadline_and_is_nobodys_when_it_comes() -> None:
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="delay", seconds=LONG_S, delay_s=2.0), to="memory")
        late = client.caller.late
        with pytest.raises(DeadlineExceeded):
            await client.ask(ListMemories(limit=1), timeout_s=0.5)
        await client.ask(Disturb(fault="none"), to="memory")
        await eventually(lambda: client.caller.late > late, BOUND_S)
        assert (await client.ask(ListMemories(limit=1))).items == []


async def test_what_is_got_wrong_can_be_ended() -> None:
    async with running(*ALLOWED) as system, await connect(system) as client:
        await client.ask(Disturb(fault="fail", requests=1000), to="storage")
        with pytest.raises((ActorUnavailable, DeadlineExceeded)):
            await client.ask(ListAssets(), timeout_s=0.5)
        await client.ask(Disturb(fault="none"), to="storage")
        assert (await client.ask(ListAssets())).assets


# --- refused ----------------------------------------------------------------------------------


async def test_no_fault_is_put_in_where_the_settings_do_not_allow_it() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        for order in (Inject(fault="kill", target="storage"), Inject(fault="stop", target="guard")):
            with pytest.raises(NotAllowed, match=r"--set chaos\.allowed=true"):
                await client.ask(order)
        for kind in sorted(name for name, kind in KINDS.items() if kind.how is None):
            if kind in ("kill", "stop", "slow_start"):
                continue
            with pytest.raises(NotAllowed, match=r"--set chaos\.allowed=true"):
                await client.ask(Disturb(fault=kind), to="storage")
        done = await asyncio.to_thread(
            noyau, "chaos", "--for", "2s", "--json", run_folder=system.run_folder
        )
        assert done.returncode == 1
        assert "chaos.allowed=true" in done.stderr
        after = await client.status()
        assert {a.name: a.pid for a in after.actors} == {a.name: a.pid for a in before.actors}


async def test_wrong_orders_are_refused_with_what_would_be_right(
    broken_again_and_again: System,
) -> None:
    async with await connect(broken_again_and_again) as client:
        with pytest.raises(NotFound, match=r"there are: storage, .*spawner, supervisor, guard"):
            await client.ask(Inject(fault="kill", target="nobody"))
        with pytest.raises(NotFound, match="there are: "):
            await client.ask(Disturb(fault="spin"), to="nobody")
        with pytest.raises(InvalidRequest, match="slow_start is for actors"):
            await client.ask(Inject(fault="slow_start", target="guard"))
        late = Inject(fault="slow_start", target="memory", seconds=30)
        await client.ask(late)
        await client.ask(Inject(fault="kill", target="memory"))
        await status_when(client, lambda s: "memory starting" in s.reason)
        # The client hears of it by itself, and may still have the connection to the dead one.
        async with asyncio.timeout(BOUND_S):
            while client.caller.directory.entries["memory"].state is ActorState.READY:
                await client.caller.wait_for_news(client.caller.clock.now() + BOUND_S)
        with pytest.raises(ActorUnavailable, match="memory is still"):
            await client.ask(Disturb(fault="spin"), to="memory", timeout_s=0.5)


async def test_a_fault_on_an_actor_without_a_process_is_a_typed_error() -> None:
    crasher = ("actors.crasher.class=tests.support.actors:Crasher", "restart.max_restarts=0")
    async with running(*ALLOWED, *crasher, wait=False) as system, await connect(system) as client:
        await status_when(client, lambda s: "crasher failed" in s.reason)
        with pytest.raises(ActorUnavailable, match="crasher has no process: it is failed"):
            await client.ask(Inject(fault="kill", target="crasher"))


# --- the command ------------------------------------------------------------------------------

SIMULATED = (
    "actors.cpu_engine.settings.backend=simulated",
    "actors.cpu_engine.settings.simulated_token_s=0.005", "chaos.allowed=true",
)  # fmt: skip


async def chaos(system: System, *words: str, bound_s: float = 90) -> tuple[int, str, str]:
    settings = {"NOYAU_RUN__FOLDER": str(system.run_folder)}
    done = await asyncio.to_thread(
        in_a_new_process, ("chaos", *words), settings, bound_s=bound_s
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_short_random_run_keeps_the_budget_and_leaves_nothing() -> None:
    async with running(*SIMULATED) as system:
        words = ("--seed", "1", "--for", "10s", "--clients", "2", "--json")
        # After its ten seconds it waits up to 90 until all is healthy, and a minute for answers.
        code, out, error = await chaos(system, *words, bound_s=200)
        assert code == 0, out + error
        found = json.loads(out)
        assert list(found)[:7] == [
            "faults", "requests", "streams_without_end", "orphans", "leaked", "detect_ms",
            "recover_ms",
        ]  # fmt: skip
        requests = found["requests"]
        assert requests["sent"] == requests["answered"] + requests["typed_errors"] > 0
        assert found["faults"]["total"] == sum(found["faults"]["by_kind"].values()) > 0
        assert found["held"]
        async with await connect(system) as client:
            kept = await client.ask(ListMemories())
            assert [item for item in kept.items if item.source.startswith("noyau chaos")] == []


@pytest.fixture(scope="module")
def simulated() -> Iterator[System]:
    """For what the command does to a system of its own, and leaves well."""
    with shared(*SIMULATED, "restart.max_restarts=1000") as system:
        yield system


async def test_the_plan_is_shown_and_nothing_of_it_is_done(simulated: System) -> None:
    async with await connect(simulated) as client:
        system = simulated
        before = {actor.pid for actor in (await client.status()).actors}
        words = ("--seed", "5", "--for", "30s", "--plan")
        code, out, error = await chaos(system, *words)
        assert code == 0
        assert "seed 5" in error
        assert (code, out, error) == await chaos(system, "run", *words)
        found = await client.status()
        assert {actor.pid for actor in found.actors} == before


async def test_one_fault_says_how_long_it_took(simulated: System) -> None:
    code, out, _ = await chaos(simulated, "kill", "storage")
    assert code == 0
    assert "kill storage: noticed after" in out
    code, out, _ = await chaos(simulated, "fail", "orchestrator", "--requests", "3", "--json")
    assert code == 0
    assert json.loads(out)["recovered"] is True
    code, _, error = await chaos(simulated, "kill", "nobody")
    assert code == 1
    assert "there are: storage" in error


@pytest.mark.parametrize(
    "words", [("nonsense", "x"), ("kill",), ("spin", "guard"), ("--for", "soon"), ("run", "x")]
)
def test_wrong_usage_is_told_without_a_traceback(words: tuple[str, ...]) -> None:
    done = noyau("chaos", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


async def test_ctrl_c_ends_a_run_with_the_report_so_far(simulated: System) -> None:
    system = simulated
    async with await connect(system) as client:
        before = pid_of(await client.status(), "storage")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "noyau", "chaos", "run", "--for", "10m", "--clients", "2",
            "--only", "kill", "--target", "storage", "--json", "--run-folder",
            str(system.run_folder), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await status_when(client, lambda s: running_pid(s, "storage") not in (None, before))
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
        assert process.returncode == 130
        found = json.loads(out)
        assert found["interrupted"]
        assert found["faults"]["by_target"] == {"storage": found["faults"]["total"]}
