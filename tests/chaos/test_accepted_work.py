"""What is accepted ends once, in the table of work as for its client, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

from noyau import Client, NoyauError, Query
from protocol.errors import InvalidSettings
from tests.support.system import connect, pid_of, running, running_pid, status_when, until
from tests.support.work import rows

COUNTING = (
    "actors.cpu_engine.class=tests.support.actors:CountingEngine",
    "actors.memory.enabled=false", "actors.tool_user.enabled=false",
)  # fmt: skip
LONG = 400


async def read_some(client: Client, query: Query, pieces: int) -> None:
    async with client.stream(query) as stream:
        async for _ in stream:
            if len(stream.received) >= pieces:
                return


async def test_every_answered_query_has_one_row_and_that_is_done() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        queries = [Query(text="count", max_tokens=5) for _ in range(8)]
        await asyncio.gather(*(client.ask(query) for query in queries))
        await until(
            lambda: len(rows(system)) == 8 and {*rows(system).values()} == {("done", 0, "")}
        )
        assert rows(system).keys() == {query.id for query in queries}


async def test_a_row_is_there_before_the_first_word_is_said() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        query = Query(text="count", max_tokens=LONG)
        async with client.stream(query) as stream:
            async for _ in stream:
                assert rows(system)[query.id] == ("accepted", 0, "")
                break


async def test_an_answer_that_outlives_its_orchestrator_is_one_row_taken_up_once() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        query = Query(text="count", max_tokens=LONG)
        text, victim = "", pid_of(await client.status(), "orchestrator")
        async with client.stream(query) as stream:
            async for piece in stream:
                text += piece.text
                if len(stream.received) == 20:
                    os.kill(victim, signal.SIGKILL)
        assert text == "".join(f"{n} " for n in range(LONG))
        await until(lambda: rows(system) == {query.id: ("done", 1, "")})


async def test_an_answer_that_outlives_its_storage_ends_in_its_row_too() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        query = Query(text="count", max_tokens=LONG)
        victim = pid_of(await client.status(), "storage")
        async with client.stream(query) as stream:
            async for _ in stream:
                if len(stream.received) == 20:
                    os.kill(victim, signal.SIGKILL)
        await until(lambda: rows(system) == {query.id: ("done", 0, "")})


async def test_a_query_that_is_taken_back_ends_as_cancelled() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        query = Query(text="count", max_tokens=LONG)
        await read_some(client, query, 5)
        await until(lambda: rows(system) == {query.id: ("failed", 0, "cancelled")})


async def test_a_query_that_passes_its_deadline_ends_with_that() -> None:
    async with running(*COUNTING) as system, await connect(system) as client:
        query = Query(text="count", max_tokens=100_000)
        with pytest.raises(NoyauError, match="in time"):
            await client.ask(query, timeout_s=4)
        await until(
            lambda: rows(system).get(query.id, ("", 0, ""))[2] in ("deadline_exceeded", "cancelled")
        )


async def test_what_a_dead_orchestrator_left_is_ended_when_its_client_is_gone_too() -> None:
    async with running(*COUNTING, "query.abandoned_after_s=0.2") as system:
        # Of such a length that it surely goes on until it is killed.
        query = Query(text="count", max_tokens=20_000)
        async with await connect(system) as watcher:
            async with await connect(system) as client:
                reading = asyncio.create_task(read_some(client, query, 20_000))
                await until(lambda: query.id in rows(system))
                found = await watcher.status()
                # Stopped, so that it cannot hear of the client's end before its own.
                os.kill(pid_of(found, "orchestrator"), signal.SIGSTOP)
                reading.cancel()
            old = pid_of(found, "orchestrator")
            # It may have been killed already, for being stopped.
            with contextlib.suppress(ProcessLookupError):
                os.kill(old, signal.SIGKILL)
            await status_when(watcher, lambda s: running_pid(s, "orchestrator") not in (None, old))
            await until(lambda: rows(system) == {query.id: ("failed", 0, "abandoned")})


async def test_a_stop_leaves_no_row_open() -> None:
    async with running(*COUNTING) as system:
        async with await connect(system) as client:
            await asyncio.gather(*(client.ask(Query(text="count", max_tokens=5)) for _ in range(8)))
            system.process.terminate()
            await until(lambda: system.process.poll() is not None, 20)
        assert {state for state, _, _ in rows(system).values()} == {"done"}


async def test_a_damaged_table_of_work_is_told_to_whoever_asks_and_is_left_alone() -> None:
    async with running(*COUNTING, files={"storage.db": b"no database " * 1000}) as system:
        path = system.data_folder / "storage.db"
        async with await connect(system) as client:
            with pytest.raises(InvalidSettings, match=r"storage\.db is damaged.*move it away"):
                await client.ask(Query(text="count", max_tokens=5), timeout_s=20)
            assert path.read_bytes().startswith(b"no database")
            # As the message says: moved away, it is made anew, without any restart.
            path.unlink()
            assert (await client.ask(Query(text="count", max_tokens=2))).text == "0 1 "
