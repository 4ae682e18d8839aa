"""Lets a test be a coroutine, and has those of ``chaos`` to themselves when tests run in several
processes: they are about who notices what in time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.turns import turn

CHAOS = Path(__file__).parent / "chaos"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests with `asyncio.run`; leave all others to pytest."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in inspect.signature(pyfuncitem.obj).parameters
        if name in pyfuncitem.funcargs
    }
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to make stay together, when they run in several processes;
    all others go to whoever is free."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def _shares(item: pytest.Function) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(
        one.scope in ("module", "session") and one.baseid for each in fixtures for one in each
    )


@pytest.fixture(autouse=True)
def its_turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Each test has its turn: beside others, or alone."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    # The folder above those of the processes is the same for all of them.
    with turn(tmp_path_factory.getbasetemp().parent, alone=CHAOS in request.path.parents):
        yield
