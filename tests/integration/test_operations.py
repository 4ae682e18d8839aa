"""What operators do to a running noyau: rolling restarts, drains, reloads; and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from noyau import Client, Query
from protocol.errors import ActorUnavailable, InvalidSettings, NotFound
from protocol.lifecycle import SETTLED, ActorState
from protocol.messages.memory import ListConversations
from protocol.messages.supervisor import Drain, Reload, Restart, Status
from protocol.messages.tool_user import CallTool
from tests.integration.test_command import noyau
from tests.support.actors import Hang, WorkSlowly
from tests.support.events import watching
from tests.support.system import connect, pid_of, running, status_when

COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
SLOW = "actors.slow.class=tests.support.actors:SlowWorker"
ROLL_S = 100
"""For all actors, one after the other, with a load beside them."""


def state_of(found: Status, name: str) -> ActorState:
    return next(actor.state for actor in found.actors if actor.name == name)


@pytest.mark.timeout(2 * ROLL_S)
async def test_a_rolling_restart_of_everything_under_load_fails_no_request() -> None:
    async with (
        running(COUNTING) as system,
        await connect(system) as client,
        watching(client, "rolling.") as told,
    ):
        before = await client.status()
        done = asyncio.Event()
        count = {"queries": 0, "tools": 0, "conversations": 0}

        async def queries() -> None:
            while not done.is_set():
                answer = await client.ask(Query(text="count", max_tokens=60))
                assert answer.text == "".join(f"{n} " for n in range(60))
                count["queries"] += 1

        async def tools() -> None:
            while not done.is_set():
                call = CallTool(name="calculator", arguments={"expression": "6 * 7"})
                assert "42" in (await client.ask(call)).text
                count["tools"] += 1

        async def conversations() -> None:
            while not done.is_set():
                await client.ask(ListConversations())
                count["conversations"] += 1
                await asyncio.sleep(0)

        load = [asyncio.create_task(one()) for one in (queries, queries, tools, conversations)]
        order = await client.ask(Restart())
        assert set(order.previous) == {actor.name for actor in before.actors}

        def all_are_new(found: Status) -> bool:
            return all(
                actor.epoch != order.previous[actor.name] and actor.state in SETTLED
                for actor in found.actors
            )

        async with asyncio.timeout(ROLL_S):
            while not told.names:
                await client.caller.wait_for_news(client.caller.clock.now() + 0.05)
        assert told.names == ["rolling.done"]
        after = await status_when(client, all_are_new)
        served = dict(count)
        while any(count[kind] <= served[kind] for kind in count):
            await client.caller.wait_for_news(client.caller.clock.now() + 0.05)
            assert not [task.exception() for task in load if task.done()]
        done.set()
        await asyncio.gather(*load)
        assert {actor.restarts for actor in after.actors} == {1}


async def test_a_request_that_crosses_with_an_orderly_end_is_the_next_ones() -> None:
    call = CallTool(name="calculator", arguments={"expression": "6 * 7"})
    async with running(COUNTING) as system, await connect(system) as client:
        for _ in range(3):
            assert "42" in (await client.ask(call)).text
            os.kill(pid_of(await client.status(), "tool_user"), signal.SIGTERM)
            # Whether that was done, nobody could say of one that was not read.
            assert "42" in (await client.ask(call)).text


async def test_who_is_drained_finishes_its_work_and_stays_stopped_until_it_is_wanted() -> None:
    async with running(SLOW) as system, await connect(system) as client:
        work = WorkSlowly(until_drained=True, seconds=0.1)
        working = asyncio.create_task(client.ask(work, to="slow"))
        await status_when(
            client, lambda s: any(a.name == "slow" and a.counters.in_flight for a in s.actors)
        )
        drained = await asyncio.to_thread(noyau, "drain", "slow", run_folder=system.run_folder)
        assert drained.returncode == 0, drained.stderr
        assert "noyau restart slow" in drained.stderr
        assert (await working).finished
        with pytest.raises(ActorUnavailable, match="drained by hand"):
            await client.ask(WorkSlowly(), to="slow")
        found = await client.status()
        assert "slow stopped: drained by hand" in found.reason

        again = await asyncio.to_thread(
            noyau, "restart", "slow", "storage", run_folder=system.run_folder
        )
        assert again.returncode == 0, again.stderr
        assert [line.split(" is ")[0] for line in again.stderr.splitlines()] == ["slow", "storage"]
        assert (await client.ask(WorkSlowly(seconds=0), to="slow")).finished


async def test_a_rolling_restart_goes_over_who_was_drained() -> None:
    async with running(COUNTING, SLOW) as system, await connect(system) as client:
        await client.ask(Drain(name="slow"))
        await status_when(client, lambda s: state_of(s, "slow") is ActorState.STOPPED)
        done = await asyncio.to_thread(noyau, "restart", "--all", run_folder=system.run_folder)
        assert done.returncode == 0, done.stderr
        assert "slow" not in done.stderr
        assert "storage is ready" in done.stderr
        assert state_of(await client.status(), "slow") is ActorState.STOPPED


@pytest.mark.parametrize("words", [["restart"], ["restart", "--all", "storage"]])
def test_a_restart_wants_names_or_all(words: list[str], tmp_path: Path) -> None:
    done = noyau(*words, run_folder=tmp_path / "none")
    assert done.returncode == 2
    assert "--all" in done.stderr


async def test_names_that_there_are_not_are_told_and_nobody_is_touched() -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        before = await client.status()
        with pytest.raises(NotFound, match=r"no actor 'nobody'; there are: .*storage"):
            await client.ask(Restart(names=["storage", "nobody"]))
        with pytest.raises(NotFound, match="no actor 'nobody'"):
            await client.ask(Drain(name="nobody"))
        after = await client.status()
        assert pid_of(after, "storage") == pid_of(before, "storage")


async def test_a_reload_applies_what_may_change_and_says_what_waits(tmp_path: Path) -> None:
    file = tmp_path / "noyau.toml"
    file.write_text("[hang]\nidle_s = 1000\n")
    hanging = "actors.hanging.class=tests.support.actors:Hanging"
    here = {"NOYAU_CONFIG": str(file)}
    async with (
        running(COUNTING, hanging, environment=here) as system,
        await connect(system) as client,
    ):
        file.write_text(
            "[hang]\nidle_s = 2\nterm_s = 0.1\n[limits]\nmax_frame_bytes = 100000\n"
            "[actors.cpu_engine.settings]\nextra = 1\n"
        )
        done = await asyncio.to_thread(noyau, "reload", "--json", run_folder=system.run_folder)
        assert json.loads(done.stdout) == {
            "now": ["hang.idle_s", "hang.term_s"],
            "at_restart": {"cpu_engine": ["actors.cpu_engine.settings.extra"]},
            "at_start": ["limits.max_frame_bytes"],
        }
        await hang_is_found_soon(client)
        told = await asyncio.to_thread(noyau, "reload", run_folder=system.run_folder)
        assert "when noyau is started again: limits.max_frame_bytes" in told.stderr


async def hang_is_found_soon(client: Client) -> None:
    """Before the reload it would have taken longer than is waited here."""
    old = pid_of(await client.status(), "hanging")
    # One that spins and gets little of a core might be starved, and is let be.
    hanging = asyncio.create_task(client.ask(Hang(how="sleep"), to="hanging"))
    await status_when(
        client,
        lambda s: any(a.name == "hanging" and a.pid not in (None, old) for a in s.actors),
    )
    hanging.cancel()


async def test_a_broken_file_changes_nothing_and_all_its_errors_are_told(tmp_path: Path) -> None:
    file = tmp_path / "noyau.toml"
    file.write_text("")
    async with (
        running(COUNTING, environment={"NOYAU_CONFIG": str(file)}) as system,
        await connect(system) as client,
    ):
        file.write_text("[hang]\nidle_s = 'soon'\nterm_s = 0.1\n[nonsense]\nx = 1\n")
        with pytest.raises(InvalidSettings) as caught:
            await client.ask(Reload())
        assert len(caught.value.details["errors"]) == 2
        done = await asyncio.to_thread(noyau, "reload", run_folder=system.run_folder)
        assert done.returncode == 78
        assert "hang.idle_s" in done.stderr
        assert "nonsense" in done.stderr
        file.write_text("")
        assert (await client.ask(Reload())).now == []
