"""The shell of the spool: it saves by itself, never fails its caller, and ends in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from actors.kernel.handlers import handles
from actors.kernel.spool import Spool, SpoolBounds
from actors.kernel.spooling import FileSpool
from protocol.backoff import Backoff
from protocol.context import CURRENT, CallContext
from protocol.envelope import NO_ID
from protocol.errors import DiskFull, InvalidRequest
from protocol.lifecycle import ActorState
from protocol.messages.storage import FileSaved, SaveFile
from tests.support.network import Network, Node
from tests.support.waiting import eventually
from tests.support.wirings import LoopbackWiring

QUICK = Backoff(first_s=0.01, max_s=0.02)


class Shelf:
    """Takes files, or does not."""

    def __init__(self) -> None:
        self.saved: list[tuple[str, bytes, float | None]] = []
        self.full = False
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    @handles(SaveFile)
    async def save(self, message: SaveFile) -> FileSaved:
        self.asked.set()
        await self.let_go.wait()
        if self.full:
            raise DiskFull("no room")
        if message.name == "bad":
            raise InvalidRequest("no name of a file")
        self.saved.append((message.name, bytes(message.data), message.ttl_s))
        return FileSaved(received=len(message.data))

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.saved]


@contextlib.asynccontextmanager
async def spooled(
    entries: int = 100, *, starts: bool = True
) -> AsyncIterator[tuple[Shelf, FileSpool, Network, Node | None]]:
    async with Network(LoopbackWiring()) as network:
        shelf = Shelf()
        node = network.start(shelf, name="storage") if starts else None
        if node is None:
            network.tell(name="storage", state=ActorState.STARTING)
        caller = await network.caller(network.identity())
        it = FileSpool(caller, Spool(SpoolBounds(entries=entries), QUICK))
        yield shelf, it, network, node
        await it.close(0)


async def test_what_is_put_is_saved_by_itself() -> None:
    async with spooled() as (shelf, it, _, _):
        it.put("a", b"1", ttl_s=5)
        it.put("b", b"2")
        await eventually(lambda: len(shelf.saved) == 2)
        assert shelf.saved == [("a", b"1", 5.0), ("b", b"2", None)]
        it.put("c", b"3")
        assert (await it.close(10)).entries == 0
        assert shelf.names == ["a", "b", "c"]


async def test_putting_never_waits_and_what_was_put_comes_when_storage_does() -> None:
    async with spooled(starts=False) as (shelf, it, network, _):
        for number in range(50):
            it.put(str(number), b"x")
        assert len(it.spool) == 50
        network.start(shelf, name="storage")
        await eventually(lambda: len(shelf.saved) == 50)
        assert shelf.names == [str(number) for number in range(50)]


async def test_what_is_in_hand_when_storage_dies_is_saved_by_its_next_incarnation() -> None:
    async with spooled() as (shelf, it, network, node):
        assert node is not None
        shelf.let_go.clear()
        it.put("a", b"1")
        await shelf.asked.wait()
        await node.die()
        shelf.let_go.set()
        network.start(shelf, name="storage", epoch="2")
        await eventually(lambda: shelf.names == ["a"])


async def test_what_storage_refuses_is_lost_and_logged_and_holds_nobody_up() -> None:
    async with spooled() as (shelf, it, network, _):
        it.put("bad", b"12")
        it.put("ttl", b"3", ttl_s=-1)
        it.put("good", b"4")
        await eventually(lambda: shelf.names == ["good"])
        assert (it.spool.losses.refused, it.spool.losses.bytes) == (2, 3)
        await it.close(1)
        lost = [line for line in network.logs if line["event"] == "files_lost"]
        assert sum(line["refused"] for line in lost) == 2


async def test_a_full_disk_is_waited_out() -> None:
    async with spooled() as (shelf, it, _, _):
        shelf.full = True
        it.put("a", b"1")
        await shelf.asked.wait()
        shelf.full = False
        await eventually(lambda: shelf.names == ["a"])


async def test_more_than_the_bound_loses_the_oldest_and_logs_how_many() -> None:
    async with spooled(entries=10, starts=False) as (shelf, it, network, _):
        for number in range(25):
            it.put(str(number), b"x")
        network.start(shelf, name="storage")
        await eventually(lambda: len(shelf.saved) == 10)
        assert shelf.names[-9:] == [str(number) for number in range(16, 25)]
        assert it.spool.losses.overflowed == 15
        await it.close(1)
        lost = [line for line in network.logs if line["event"] == "files_lost"]
        assert sum(line["overflowed"] for line in lost) == 15


async def test_closing_waits_no_longer_than_it_was_told_and_counts_what_is_left() -> None:
    async with spooled(starts=False) as (shelf, it, _, _):
        it.put("a", b"1")
        it.put("b", b"2")
        losses = await it.close(0.05)
        assert (losses.entries, losses.bytes) == (2, 2)
        it.put("c", b"3")
        assert it.spool.losses.entries == 3
        assert shelf.saved == []


async def test_the_deadline_of_whoever_puts_it_there_is_not_that_of_saving_it() -> None:
    async with spooled() as (shelf, it, _, _):
        token = CURRENT.set(CallContext(NO_ID, it._caller.clock.now() - 1, 2))
        it.put("a", b"1")
        CURRENT.reset(token)
        await eventually(lambda: shelf.names == ["a"])
