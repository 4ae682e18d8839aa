"""The kinds of transport, each with its endpoints: what a contract's suite runs over.

A new kind gets a class here and a line in `WIRINGS`; the suites stay as they are.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from protocol.loopback import Loopback
from protocol.ports import Transport
from protocol.transport import ZmqTransport

BOUND_S = 10.0
"""How long a test waits for what must happen. Reached only when it never does."""


class Wiring:
    """One kind of transport for one test."""

    def __init__(self) -> None:
        self.complaints: list[dict[str, Any]] = []
        """What the event loop was told of exceptions nobody caught."""

    def transport(self) -> Transport:
        """The transport of one more process. Call it on the event loop."""
        asyncio.get_running_loop().set_exception_handler(self._complain)
        return self._transport()

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.complaints.append(context)

    def _transport(self) -> Transport:
        raise NotImplementedError

    def end(self, transport: Transport) -> None:
        """The process whose transport this is has ended: its sockets are gone for good."""

    def endpoint(self, name: str) -> str:
        """Where the process ``name`` listens."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything."""
        raise NotImplementedError


class ZmqWiring(Wiring):
    """Sockets in a folder of their own; each process has its own transport."""

    def __init__(self) -> None:
        super().__init__()
        # A socket's path is limited to 107 bytes, which pytest's own folders may exceed.
        self.folder = tempfile.mkdtemp(dir="/tmp", prefix="n")
        self._transports: list[Transport] = []

    def _transport(self) -> Transport:
        transport = ZmqTransport()
        self._transports.append(transport)
        return transport

    def end(self, transport: Transport) -> None:
        transport.close()

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.folder}/{name}"

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        shutil.rmtree(self.folder)


class LoopbackWiring(Wiring):
    """One network in memory, shared by all."""

    def __init__(self) -> None:
        super().__init__()
        self._network: Loopback | None = None

    def _transport(self) -> Transport:
        if self._network is None:
            self._network = Loopback()
        return self._network

    def endpoint(self, name: str) -> str:
        return f"memory://{name}"

    def close(self) -> None:
        """Nothing outlives the event loop."""


WIRINGS: dict[str, Callable[[], Wiring]] = {"zmq": ZmqWiring, "loopback": LoopbackWiring}
