"""The floor of messaging: bare pyzmq ROUTER and DEALER, msgpack, one frame, nothing else.

    python -m benchmarks.bare serve ENDPOINT      python -m benchmarks.bare drive ENDPOINT

Two plain processes. Both ends drain their socket in a reader callback of asyncio; the asking end
counts callbacks and makes no futures. No envelope, no validation, no deadlines, no table of open
requests: as fast as Python and zmq carry a payload there and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import zmq

from benchmarks.driven import Values, serve_until_told, take_orders

HIGH_WATER_MARK = 10_000


class Drained:
    """A zmq socket whose messages go to a callback."""

    def __init__(self, context: zmq.Context[Any], kind: int) -> None:
        self.socket = context.socket(kind)
        self.socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        self.socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        self.socket.set(zmq.LINGER, 0)

    def start(self, receive: Callable[[], None]) -> None:
        """Have ``receive`` called for each message; it raises `zmq.Again` when there is none."""
        self._receive = receive
        asyncio.get_running_loop().add_reader(self.socket.get(zmq.FD), self.drain)

    def drain(self) -> None:
        """Take what there is. The descriptor is edge-triggered: until there is nothing more."""
        receive = self._receive
        try:
            while True:
                receive()
        except zmq.Again:
            return


@contextlib.contextmanager
def router_at(endpoint: str) -> Iterator[Drained]:
    """A ROUTER that listens, gone afterwards."""
    context: zmq.Context[Any] = zmq.Context()
    router = Drained(context, zmq.ROUTER)
    router.socket.set(zmq.ROUTER_MANDATORY, 1)
    router.socket.bind(endpoint)
    yield router
    context.destroy(linger=0)


@contextlib.contextmanager
def dealer_to(endpoint: str) -> Iterator[Drained]:
    """A DEALER that is connected, gone afterwards."""
    context: zmq.Context[Any] = zmq.Context()
    dealer = Drained(context, zmq.DEALER)
    dealer.socket.connect(endpoint)
    yield dealer
    context.destroy(linger=0)


def answer(router: Drained) -> None:
    """Answer every request with its own content."""
    recv, send = router.socket.recv, router.socket.send
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb

    def receive() -> None:
        peer = recv(zmq.NOBLOCK)
        number, payload = unpack(recv(zmq.NOBLOCK))
        send(peer, zmq.SNDMORE | zmq.NOBLOCK)
        send(pack((number, payload)), zmq.NOBLOCK)

    router.start(receive)


class Driver:
    """The asking end."""

    def __init__(self, dealer: Drained) -> None:
        self._dealer = dealer
        self._pack = msgpack.Packer().pack
        self._sent = self._received = self._calls = 0
        self._payload = b""
        self._sent_at = 0.0
        self._latencies_us: list[float] | None = None
        self._done = asyncio.Event()
        dealer.start(self._receive)

    async def run(self, order: Values) -> Values:
        """Make ``calls`` requests, ``in_flight`` at a time; latencies where that is one."""
        self._sent = self._received = 0
        self._calls = order["calls"]
        self._payload = bytes(order["payload_bytes"])
        self._latencies_us = [] if order["in_flight"] == 1 else None
        self._done.clear()
        began = time.perf_counter()
        for _ in range(order["in_flight"]):
            self._send()
        # A send may swallow the edge that announces an answer.
        self._dealer.drain()
        await self._done.wait()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "latencies_us": self._latencies_us or []}

    def _send(self) -> None:
        self._sent += 1
        if self._latencies_us is not None:
            self._sent_at = time.perf_counter()
        self._dealer.socket.send(self._pack((self._sent, self._payload)), zmq.NOBLOCK)

    def _receive(self) -> None:
        _number, payload = msgpack.unpackb(self._dealer.socket.recv(zmq.NOBLOCK))
        if self._latencies_us is not None:
            self._latencies_us.append((time.perf_counter() - self._sent_at) * 1e6)
        assert len(payload) == len(self._payload)
        self._received += 1
        if self._sent < self._calls:
            self._send()
        elif self._received == self._calls:
            self._done.set()


async def serve(endpoint: str) -> None:
    """Answer until stdin ends."""
    with router_at(endpoint) as router:
        answer(router)
        await serve_until_told()


async def drive(endpoint: str) -> None:
    """Take orders until stdin ends."""
    with dealer_to(endpoint) as dealer:
        await take_orders(Driver(dealer).run)


if __name__ == "__main__":
    asyncio.run({"serve": serve, "drive": drive}[sys.argv[1]](sys.argv[2]))
