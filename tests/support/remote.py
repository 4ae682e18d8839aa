"""Clients on another machine, as far as noyau can tell: over TCP, with keys."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Self

from protocol.address import Address
from protocol.client import Client
from protocol.curve import ClientCurve, new_key_pair
from protocol.keyfiles import SERVER_FOLDER, AuthorizedKeys, server_key_pair
from protocol.keys import Authorized, KeyPair
from protocol.messages.base import Role
from tests.support import wirings
from tests.support.system import System, running

ACTORS = 12
"""Ports above the supervisor's that must be free: more than there are actors."""


def free_ports() -> int:
    """The first of as many free ports as a noyau needs."""
    return wirings.free_ports(ACTORS)


@dataclass
class RemoteSystem:
    """A noyau that listens to other machines, and the keys that it knows."""

    system: System
    endpoint: str

    @property
    def port(self) -> int:
        """That of its supervisor."""
        return int(self.endpoint.rpartition(":")[2])

    @property
    def keys(self) -> AuthorizedKeys:
        """Its list of keys."""
        return AuthorizedKeys(self.system.data_folder / SERVER_FOLDER)

    @property
    def server_key(self) -> str:
        """Its own public key."""
        return server_key_pair(self.keys.path.parent, new_key_pair).public

    def authorize(self, name: str, role: Role) -> KeyPair:
        """Let a new key in, under this name alone."""
        pair = new_key_pair()
        others = [one for one in self.keys.read() if one.name != name]
        self.keys.write([*others, Authorized(name, pair.public, role)])
        return pair

    def revoke(self, name: str) -> None:
        """Let it in no more."""
        self.keys.write([one for one in self.keys.read() if one.name != name])

    def client(self, keys: KeyPair, *, at: str | None = None, connect_s: float = 10) -> Client:
        """A client with this key; ``at`` another address of the same noyau."""
        curve = ClientCurve(self.server_key, keys)
        return Client(Address(at or self.endpoint, curve), connect_s=connect_s)


def around(system: System, port: int) -> RemoteSystem:
    """A system that was started with `listening` to this port."""
    return RemoteSystem(system, f"tcp://127.0.0.1:{port}")


def listening(port: int) -> str:
    """The setting."""
    return f"remote.listen=tcp://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def running_remotely(*assignments: str) -> AsyncGenerator[RemoteSystem, None]:
    """As `running`."""
    port = free_ports()
    async with running(*assignments, listening(port)) as system:
        yield around(system, port)


class Wires:
    """The network between two machines, which can be cut: all that goes to ``127.0.0.2`` arrives
    at the same port of ``127.0.0.1``."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"tcp://127.0.0.2:{port}"
        self._ports = range(port, port + ACTORS)
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        for port in self._ports:
            accept = functools.partial(self._accept, port)
            self._servers.append(await asyncio.start_server(accept, "127.0.0.2", port))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        self.cut()

    def cut(self) -> int:
        """Break every connection; new ones can be made. Returns how many there were."""
        count = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        return count

    async def _accept(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._open |= {writer, inner}
        await asyncio.gather(self._carry(reader, inner), self._carry(inner_reader, writer))
        self._open -= {writer, inner}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            # One end broke; so does the other.
            pass
        finally:
            writer.close()
