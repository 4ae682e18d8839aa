"""The kinds of transport, each with its endpoints: what a contract's suite runs over.

A new kind gets a class here and a line in `WIRINGS`; the suites stay as they are.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.curve import ClientCurve, ServerCurve, new_key_pair
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


class Doorkeeper:
    """Lets in whom it is told to; notes who else came."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = set(allowed)
        self.refused: list[tuple[str, str]] = []
        self.away: list[str] = []

    def lets_in(self, key: str, address: str) -> bool:
        if key in self.allowed:
            return True
        self.refused.append((key, address))
        return False

    def turned_away(self, why: str) -> None:
        self.away.append(why)


class CurveWiring(Wiring):
    """TCP with CURVE, as between machines; each process has its own transport."""

    def __init__(self) -> None:
        super().__init__()
        self.server, self.client = new_key_pair(), new_key_pair()
        self.door = Doorkeeper(self.client.public)
        self._ports: dict[str, int] = {}
        self._transports: list[Transport] = []

    def _transport(self) -> Transport:
        transport = ZmqTransport(
            server=ServerCurve(self.server, self.door),
            client=ClientCurve(self.server.public, self.client),
        )
        self._transports.append(transport)
        return transport

    def end(self, transport: Transport) -> None:
        transport.close()

    def endpoint(self, name: str) -> str:
        if name not in self._ports:
            self._ports[name] = free_port()
        return f"tcp://127.0.0.1:{self._ports[name]}"

    def close(self) -> None:
        for transport in self._transports:
            transport.close()


def _own_ports() -> range:
    """Those that only this process of a test run takes: none that the system gives to whoever
    connects to others, or wants any, and so none that is gone before it is used."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    lowest, highest = map(int, given.split())
    ours = max(range(10_000, lowest), range(highest + 1, 65_536), key=len)
    if len(ours) < 2_000:
        # A system that gives nearly all of them away: some may be gone before they are used.
        ours = range(10_000, 65_536)
    share = len(ours) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ours[number * share : (number + 1) * share]


_PORTS = _own_ports()
# Other test runs may go on beside this one, and tests start processes that take ports as well.
_place = random.randrange(len(_PORTS))


def free_ports(count: int) -> int:
    """The first of so many ports of loopback, one beside the other, on which nobody listens now."""
    global _place
    for _ in _PORTS:
        ports = _PORTS[_place : _place + count]
        _place = (_place + count) % len(_PORTS)
        if len(ports) == count and all(map(_is_free, ports)):
            return ports[0]
    raise AssertionError(f"no {count} of the ports {_PORTS} are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One such port."""
    return free_ports(1)


WIRINGS: dict[str, Callable[[], Wiring]] = {"zmq": ZmqWiring, "loopback": LoopbackWiring}
ALL_WIRINGS = WIRINGS | {"curve": CurveWiring}
"""Also the one over which no actors come, but clients alone."""
