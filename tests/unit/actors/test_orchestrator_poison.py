"""Poisoned queries: what their error says, and that suspects are tried one at a time."""

from __future__ import annotations

import asyncio

import pytest

from actors.orchestrator.poison import Quarantine, verdict
from protocol.errors import Poisoned
from protocol.messages.storage import WorkItem

ENDED = WorkItem(
    id="q", state="failed", request={}, taken_up=0, accepted_at=0.0, error_code="poisoned",
    deaths=["cpu_engine.b-4", "cpu_engine.b-5"], deaths_in_all=2,
)  # fmt: skip


def said(**fields: object) -> str:
    error = verdict(ENDED.model_copy(update=fields))
    assert error is not None
    return error.message


def test_the_error_says_who_died_how_often_and_what_to_do() -> None:
    assert said() == (
        "given up, as cpu_engine, 2 times in a row, died over it; ask differently, and see "
        "`noyau logs cpu_engine`"
    )


def test_the_error_names_all_that_died() -> None:
    assert "gpu_engine and cpu_engine, 2 times in a row" in said(
        deaths=["gpu_engine.b-4", "cpu_engine.b-5"]
    )
    assert "`noyau logs gpu_engine cpu_engine`" in said(deaths=["gpu_engine.b-4", "cpu_engine.b-5"])


def test_the_error_of_one_that_got_on_again_and_again_says_how_many_died() -> None:
    assert "17 processes, last cpu_engine, died" in said(
        deaths=["cpu_engine.b-9"], deaths_in_all=17
    )


def test_the_error_of_deaths_that_no_row_has_is_one_all_the_same() -> None:
    assert "a process died over it" in said(deaths=[], deaths_in_all=0)


def test_the_error_is_final_and_tells_programs_who_died() -> None:
    error = verdict(ENDED)
    assert isinstance(error, Poisoned)
    assert not error.retryable
    assert error.details == {"id": "q", "deaths": ["cpu_engine.b-4", "cpu_engine.b-5"]}


@pytest.mark.parametrize("code", ["", "cancelled", "engine_failed"])
def test_other_work_is_not_poisoned(code: str) -> None:
    assert verdict(ENDED.model_copy(update={"error_code": code})) is None


# --- quarantine -------------------------------------------------------------------------------


async def test_suspects_go_in_one_at_a_time_in_their_order() -> None:
    quarantine, order = Quarantine(), list[int]()
    stays = [quarantine.stay() for _ in range(3)]
    await stays[0].enter()

    async def go_in(number: int) -> None:
        await stays[number].enter()
        order.append(number)

    waiting = [asyncio.create_task(go_in(number)) for number in (1, 2)]
    await asyncio.wait(waiting, timeout=0)
    assert order == []
    stays[0].leave()
    await waiting[0]
    assert order == [1]
    stays[1].leave()
    await waiting[1]
    assert order == [1, 2]


async def test_one_that_is_inside_stays_inside_and_leaves_once() -> None:
    quarantine = Quarantine()
    first, second = quarantine.stay(), quarantine.stay()
    await first.enter()
    await first.enter()
    first.leave()
    await second.enter()
    # It is not inside any more, and lets nobody else in by saying so again.
    first.leave()
    third = asyncio.create_task(quarantine.stay().enter())
    await asyncio.wait([third], timeout=0)
    assert not third.done()
    second.leave()
    await third


async def test_one_that_gives_up_waiting_keeps_nobody_out() -> None:
    quarantine = Quarantine()
    first, second, third = (quarantine.stay() for _ in range(3))
    await first.enter()
    waiting = asyncio.create_task(second.enter())
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    await asyncio.wait([waiting])
    second.leave()
    first.leave()
    await asyncio.wait_for(third.enter(), 5)
