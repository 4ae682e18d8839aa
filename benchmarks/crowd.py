"""Clients that are there and do nothing: the connections of one process to one actor.

    python -m benchmarks.crowd

Each is a DEALER of its own and has been answered one ping, so that the actor knows it.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import zmq

from benchmarks.driven import Values, take_orders
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.messages.actor import Ping

OPEN_FILES = 4096
"""For 1,000 clients: a socket of zmq has two, its connection and a signal."""
ANSWER_MS = 20_000


class Crowd:
    """The clients that there are now."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    async def order(self, order: Values) -> Values:
        """Have ``clients`` clients at ``endpoint``, instead of those that there were."""
        self._context.destroy(linger=0)
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, max(1, order["clients"]))
        self._sockets = [self._context.socket(zmq.DEALER) for _ in range(order["clients"])]
        self._greet(order["endpoint"])
        return {}

    def _greet(self, endpoint: str) -> None:
        codec = Codec()
        for socket in self._sockets:
            socket.set(zmq.RCVTIMEO, ANSWER_MS)
            socket.connect(endpoint)
            request = Envelope(new_id(), Kind.REQUEST.value, Ping.operation, body=Ping())
            socket.send(codec.encode(request))
        for socket in self._sockets:
            assert codec.decode(socket.recv()).kind == Kind.REPLY


def allow_open_files(count: int) -> None:
    """Let this process have as many. Raises ValueError where the system does not allow that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


if __name__ == "__main__":
    allow_open_files(OPEN_FILES)
    asyncio.run(take_orders(Crowd().order))
