"""The in-memory transport: same contract as zmq, no sockets, for tests and single processes.

`Loopback.cut` plays the death of a listener's process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from protocol.errors import ActorDied, Overloaded, RunFolderUnusable
from protocol.ports import Link, Listener, OnFrame, Peer

QUEUE_FRAMES = 20_000
"""Frames under way on one link in one direction, as in zmq with both sides' high-water marks."""


class LoopbackListener:
    """An endpoint in a `Loopback`."""

    def __init__(self, network: Loopback, endpoint: str, on_frame: OnFrame) -> None:
        self.endpoint = endpoint
        self.links: dict[Peer, LoopbackLink] = {}
        self._network = network
        self._on_frame = on_frame

    def receive(self, peer: Peer, frame: bytes) -> None:
        """Hand a frame to the owner, unless the link is gone by now."""
        if peer in self.links:
            self._on_frame(peer, frame)

    def send(self, peer: Peer, frame: bytes) -> None:
        """See `Listener.send`."""
        link = self.links.get(peer)
        if link is None:
            raise ActorDied("the peer is gone")
        link.deliver(frame)

    def close(self) -> None:
        """See `Listener.close`."""
        if self._network.listeners.get(self.endpoint) is self:
            self._network.cut(self.endpoint)


class LoopbackLink:
    """A connection in a `Loopback`."""

    def __init__(
        self,
        network: Loopback,
        endpoint: str,
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.peer = next(network.names)
        self.closed = False
        self._loop = network.loop
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._out = self._in = 0
        self._listener = network.listeners.get(endpoint)
        if self._listener is None:
            self._loop.call_soon(self.lose, "nobody listens there")
        else:
            self._listener.links[self.peer] = self

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """See `Link.send`."""
        if self.closed:
            raise ActorDied("the connection is closed")
        if self._out >= QUEUE_FRAMES:
            raise Overloaded("the receiver reads too slowly", retry_after_s=0.1)
        self._out += 1
        self._loop.call_soon(self._arrive, frame)

    def _arrive(self, frame: bytes) -> None:
        self._out -= 1
        if self._listener is not None:
            self._listener.receive(self.peer, frame)

    def deliver(self, frame: bytes) -> None:
        """Take a frame from the listener."""
        if self._in >= QUEUE_FRAMES:
            raise Overloaded("the peer reads too slowly", retry_after_s=0.1)
        self._in += 1
        self._loop.call_soon(self._delivered, frame)

    def _delivered(self, frame: bytes) -> None:
        self._in -= 1
        if not self.closed:
            self._on_frame(frame)

    def lose(self, reason: str) -> None:
        """The connection is cut."""
        if not self.closed:
            self.close()
            self._on_lost(reason)

    def close(self) -> None:
        """See `Link.close`."""
        self.closed = True
        if self._listener is not None:
            # After the frames that are under way: what was sent before still arrives.
            self._loop.call_soon(self._listener.links.pop, self.peer, None)


class Loopback:
    """A network in memory. All of its users share one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.listeners: dict[str, LoopbackListener] = {}
        self.names = (b"peer-%d" % number for number in itertools.count())

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        """See `Transport.listen`."""
        if endpoint in self.listeners:
            raise RunFolderUnusable(f"cannot listen on {endpoint}: somebody does already")
        listener = self.listeners[endpoint] = LoopbackListener(self, endpoint, on_frame)
        return listener

    def connect(
        self, endpoint: str, on_frame: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> Link:
        """See `Transport.connect`."""
        return LoopbackLink(self, endpoint, on_frame, on_lost)

    def cut(self, endpoint: str) -> None:
        """End a listener as the death of its process would: every link to it is lost."""
        listener = self.listeners.pop(endpoint, None)
        if listener is not None:
            for link in list(listener.links.values()):
                # After the frames that are under way, as a socket's buffer is read to its end.
                self.loop.call_soon(link.lose, "the connection was cut")
            listener.links.clear()

    def close(self) -> None:
        """See `Transport.close`."""
        for endpoint in list(self.listeners):
            self.cut(endpoint)
