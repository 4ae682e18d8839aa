"""Every way in which an engine can fail in the middle of an answer, with the real model: another
one goes on, and nothing is said that is no text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

import pytest

from actors.orchestrator.garbage import is_garbage
from noyau import Client, Query
from protocol.lifecycle import ActorState
from protocol.messages.engine import Misbehave, Misbehaviour
from tests.integration.test_command import command, noyau
from tests.support.system import System, connect, pid_of, running, running_pid, shared, status_when

TWO = (
    "actors.cpu_two.class=actors.engine:Engine",
    'actors.cpu_two.needs=["storage"]',
    'query.engines=["cpu_engine", "cpu_two"]',
    "chaos.allowed=true",
    # So many failures are ordered here that the engines would be left alone.
    "engine_breaker.failures=1000", "health.min_calls=100000", "health.failures_in_a_row=1000",
    "restart.max_restarts=1000",
    # What stands still is what was told to: no busy machine keeps an engine waiting for so long.
    "watchdog.min_s=20", "watchdog.decode_s=20",
    # Nobody but who asks it finds that out.
    "hang.stuck_s=3000", "hang.working_s=3000",
    *(f"actors.{name}.settings.{setting}" for name in ("cpu_engine", "cpu_two")
      for setting in ("threads=1", "context_tokens=1024", "slots=2")),
)  # fmt: skip
FAILURES = {
    "fail": "engine_failed", "die": "actor_died", "stall": "engine_stalled",
    "garble": "engine_garbage", "out_of_memory": "engine_out_of_memory", "nan": "engine_garbage",
}  # fmt: skip


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with shared(*TWO) as found:
        yield found


@contextlib.asynccontextmanager
async def well(system: System) -> AsyncGenerator[Client, None]:
    """A client of it, once both engines are there."""
    async with await connect(system) as client:
        await status_when(client, lambda status: all(
            actor.state is ActorState.READY for actor in status.actors
            if actor.name in ("cpu_engine", "cpu_two")
        ))  # fmt: skip
        yield client


def question(**more: object) -> Query:
    return Query.model_validate(
        {"text": "Tell me about Paris.", "max_tokens": 40, "temperature": 0, "tools": False,
         "memories": False} | more
    )  # fmt: skip


@pytest.mark.parametrize("how", FAILURES)
async def test_the_other_engine_goes_on_right_where_the_text_ends(
    system: System, how: Misbehaviour
) -> None:
    async with well(system) as client:
        whole = await client.ask(question())
        order = Misbehave(how=how, after_tokens=12, answers=1)
        await client.ask(order, to="cpu_engine")
        cut = await client.ask(question())
        told = cut.metadata
        (seam,) = told.seams
        assert 0 < seam.position < len(cut.text)
        # Up to there both heard the same engine; behind it prefill may round differently.
        assert cut.text[: seam.position] == whole.text[: seam.position]
        assert is_garbage(cut.text) is False
        assert [one.code for one in told.failovers] == [FAILURES[how]]
        assert told.engine.startswith("cpu_two.")
        assert told.usage.completion_tokens <= 40


async def test_whoever_asks_at_the_terminal_sees_the_answer_go_on(system: System) -> None:
    async with well(system):
        asked = ("ask", "--no-tools", "-t", "0", "-n", "24", "--priority", "high", "--explain",
                 "Tell me about Paris.")  # fmt: skip
        whole = await command(system, *asked)
        for fault in ("freeze", "die", "garble"):
            await command(
                system, "chaos", fault, "cpu_engine", "--requests", "1", "--after", "8"
            )  # fmt: skip
            done = await asyncio.to_thread(noyau, *asked, run_folder=system.run_folder)
            assert done.returncode == 0, done.stderr
            assert done.stdout[:8] == whole[:8]
            assert "cpu_engine." in done.stderr
            assert "the answer went on" in done.stderr
        shown = await command(system, "status")
        for word in ("queue", "breaker", "closed", "cpu_two"):
            assert word in shown


STUBBORN = (
    "actors.cpu_engine.class=tests.support.actors:StubbornEngine",
    "actors.gpu_engine.enabled=false",
    # Nobody but who asks it finds out in time.
    "hang.stuck_s=3000", "hang.working_s=3000", "hang.cancel_s=0.3",
    "watchdog.decode_s=0.5", "watchdog.prefill_s=0.5", "watchdog.min_s=0.3",
)  # fmt: skip


async def test_an_engine_that_does_not_even_let_go_is_killed_and_the_next_one_goes_on() -> None:
    async with running(*STUBBORN) as system, await connect(system) as client:
        before = pid_of(await client.status(), "cpu_engine")
        answer = await client.ask(Query(text="count", max_tokens=12, tools=False))
        assert answer.text == "".join(f"{number} " for number in range(12))
        assert answer.metadata.failovers[0].code == "engine_stalled"
        after = await status_when(
            client, lambda status: running_pid(status, "cpu_engine") not in (None, before)
        )
        (cpu,) = [actor for actor in after.actors if actor.name == "cpu_engine"]
        assert "hung" in cpu.last_exit
