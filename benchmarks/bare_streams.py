"""The floor of streams: bare pyzmq ROUTER to DEALER, one way, and a credit that keeps it in bounds.

    python -m benchmarks.bare_streams serve ENDPOINT
    python -m benchmarks.bare_streams drive ENDPOINT

Two plain processes, a sender and a reader, both draining their socket in a reader callback. The
reader orders so many chunks of so many bytes, grants an absolute credit with noyau's window, and
renews it when half of that is used up, as noyau's `Inflow` does; the sender sends as far as that
goes and no further, which keeps all queues in bounds. A chunk is its number and its payload,
packed with msgpack into one frame. A payload of `OWN_FRAME_BYTES` or more goes as sockets carry
it best: its number in a small frame, then the bytes themselves, copied by neither end.

No envelope, no validation, no deadlines, no end but the number of chunks; nothing is kept for
anybody who reads later.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgpack
import zmq

from benchmarks.bare import Drained, dealer_to, router_at
from benchmarks.driven import Values, serve_until_told, take_orders
from protocol.conversation import INITIAL_CREDIT as WINDOW

OWN_FRAME_BYTES = 64 * 1024
"""Below that pyzmq copies all the same, as it is faster."""


class Sender:
    """The end that sends: one flow at a time."""

    def __init__(self, router: Drained) -> None:
        self._socket = router.socket
        self._pack = msgpack.Packer().pack
        self._chunks = self._next = self._granted = 0
        self._payload = b""
        router.start(self._receive)

    def _receive(self) -> None:
        peer = self._socket.recv(zmq.NOBLOCK)
        said = msgpack.unpackb(self._socket.recv(zmq.NOBLOCK))
        if isinstance(said, int):
            self._granted = said
        else:
            self._chunks, chunk_bytes = said
            self._payload = bytes(chunk_bytes)
            self._next, self._granted = 0, WINDOW
        send_on = self._send_own if len(self._payload) >= OWN_FRAME_BYTES else self._send_packed
        send_on(peer, min(self._granted, self._chunks))

    def _send_packed(self, peer: bytes, until: int) -> None:
        send, pack, payload = self._socket.send, self._pack, self._payload
        for number in range(self._next, until):
            send(peer, zmq.SNDMORE | zmq.NOBLOCK)
            send(pack((number, payload)), zmq.NOBLOCK)
        self._next = max(self._next, until)

    def _send_own(self, peer: bytes, until: int) -> None:
        send, pack, payload = self._socket.send, self._pack, self._payload
        for number in range(self._next, until):
            send(peer, zmq.SNDMORE | zmq.NOBLOCK)
            send(pack(number), zmq.SNDMORE | zmq.NOBLOCK)
            send(payload, zmq.NOBLOCK, copy=False)
        self._next = max(self._next, until)


class Reader:
    """The end that orders and reads."""

    def __init__(self, dealer: Drained) -> None:
        self._dealer = dealer
        self._pack = msgpack.Packer().pack
        self._chunks = self._chunk_bytes = self._received = self._renew_at = 0
        self._done = asyncio.Event()

    async def run(self, order: Values) -> Values:
        """Read ``chunks`` chunks of ``chunk_bytes`` bytes: from the order to the last of them."""
        self._chunks, self._chunk_bytes = order["chunks"], order["chunk_bytes"]
        self._received, self._renew_at = 0, WINDOW // 2
        self._done.clear()
        own = self._chunk_bytes >= OWN_FRAME_BYTES
        self._dealer.start(self._receive_own if own else self._receive_packed)
        began = time.perf_counter()
        self._send((self._chunks, self._chunk_bytes))
        # A send may swallow the edge that announces a chunk.
        self._dealer.drain()
        await self._done.wait()
        return {"seconds": time.perf_counter() - began}

    def _send(self, value: object) -> None:
        self._dealer.socket.send(self._pack(value), zmq.NOBLOCK)

    def _receive_packed(self) -> None:
        number, payload = msgpack.unpackb(self._dealer.socket.recv(zmq.NOBLOCK))
        self._count(number, len(payload))

    def _receive_own(self) -> None:
        number = msgpack.unpackb(self._dealer.socket.recv(zmq.NOBLOCK))
        frame = self._dealer.socket.recv(zmq.NOBLOCK, copy=False)
        self._count(number, len(frame.buffer))

    def _count(self, number: int, size: int) -> None:
        assert number == self._received
        assert size == self._chunk_bytes
        self._received += 1
        if self._received == self._renew_at:
            self._renew_at += WINDOW // 2
            self._send(self._received + WINDOW)
        if self._received == self._chunks:
            self._done.set()


async def serve(endpoint: str) -> None:
    """Send what is ordered until stdin ends."""
    with router_at(endpoint) as router:
        Sender(router)
        await serve_until_told()


async def drive(endpoint: str) -> None:
    """Take orders until stdin ends."""
    with dealer_to(endpoint) as dealer:
        await take_orders(Reader(dealer).run)


if __name__ == "__main__":
    asyncio.run({"serve": serve, "drive": drive}[sys.argv[1]](sys.argv[2]))
