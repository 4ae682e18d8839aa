"""Both ends of a connection for the tests of transports: they note what they are called with."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from protocol.ports import Link, Peer
from tests.support.wirings import BOUND_S, Wiring

BURST_S = 60.0
"""For tens of thousands of frames, on a machine that is busy with others."""


class Side:
    """One end of connections: notes what its callbacks are called with."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self._news = asyncio.Event()

    def on_peer_frame(self, peer: Peer, frame: bytes) -> None:
        self.peers.append(peer)
        self.on_frame(frame)

    def on_frame(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._news.set()

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self._news.set()

    async def until(self, condition: Callable[[], bool], within_s: float = BOUND_S) -> None:
        """Wait until something that came in makes the condition true."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def has(self, count: int, within_s: float = BOUND_S) -> None:
        await self.until(lambda: len(self.frames) >= count, within_s)

    async def is_cut_off(self) -> None:
        await self.until(lambda: bool(self.lost))

    def by_peer(self) -> dict[Peer, list[bytes]]:
        sorted_out: dict[Peer, list[bytes]] = defaultdict(list)
        for peer, frame in zip(self.peers, self.frames, strict=True):
            sorted_out[peer].append(frame)
        return sorted_out


class Pair:
    """A listener and one link to it, in two processes."""

    def __init__(self, wiring: Wiring, name: str = "here") -> None:
        self.wiring = wiring
        self.endpoint = wiring.endpoint(name)
        self.server = Side()
        self.client = Side()
        self.listening = wiring.transport()
        self.connecting = wiring.transport()
        self.listener = self.listening.listen(self.endpoint, self.server.on_peer_frame)
        self.link = self.connect(self.client)

    def connect(self, side: Side) -> Link:
        return self.connecting.connect(self.endpoint, side.on_frame, side.on_lost)

    async def meet(self) -> Peer:
        """Let the listener hear of the link; returns its name for it."""
        self.link.send(b"hello")
        await self.server.until(lambda: b"hello" in self.server.frames)
        return self.server.peers[self.server.frames.index(b"hello")]


async def round_trip(wiring: Wiring) -> None:
    """Let everything that is under way arrive: a connection is made, used and heard of."""
    round_trip.count += 1  # type: ignore[attr-defined]
    pair = Pair(wiring, f"fence{round_trip.count}")  # type: ignore[attr-defined]
    peer = await pair.meet()
    pair.listener.send(peer, b"back")
    await pair.client.has(1)
    pair.listener.close()
    await pair.client.is_cut_off()


round_trip.count = 0  # type: ignore[attr-defined]


def numbered(count: int, name: str = "") -> list[bytes]:
    return [f"{name}{number}".encode() for number in range(count)]
