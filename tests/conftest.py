"""Lets a test be a coroutine, and has those that are marked so to themselves when tests run in
several processes."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.room import Room

# No example of a property is too slow on a machine that is busy with others.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job begins so, and so would every process that a test starts: none of
    # them would end at Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to make stay together, when they run in several processes,
    and so do those that have to be alone: each time that one wants to be, all others end what they
    are at. All others go to whoever is free. First, as xdist looks for groups in this hook too."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
        elif _is_alone(item):
            item.add_marker(pytest.mark.xdist_group("alone"))


def _shares(item: pytest.Function) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(
        one.scope in ("module", "session") and one.baseid for each in fixtures for one in each
    )


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


_STAYS = pytest.StashKey[bool]()
"""Of a test: whether the next one of this process wants to be alone too."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note who comes next."""
    item.stash[_STAYS] = _is_alone(item) and _is_alone(nextitem)


_ROOM = pytest.StashKey[Room]()
"""Of a process."""


@pytest.fixture(autouse=True)
def its_turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Each test has its turn: beside others, or alone, as those are that are about who notices in
    time that nothing moves."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    # The folder above those of the processes is the same for all of them.
    folder = tmp_path_factory.getbasetemp().parent
    room = request.config.stash.setdefault(_ROOM, Room(folder))
    room.enter(alone=_is_alone(request.node))
    yield
    if not request.node.stash[_STAYS]:
        room.leave()
