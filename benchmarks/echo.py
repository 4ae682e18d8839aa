"""The actor of the messaging benchmark: it asks another actor process, and is asked by one.

What it asks is ``actor.ping``, which every actor answers: the answering side is the kernel as it
is. `Drive`, `Read` and `Flow` are this file's own messages, a model of what adding some takes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from pydantic import Field

from actors.kernel import Actor, handles
from benchmarks.asking import ask_many
from protocol.blobs import Blob
from protocol.messages.actor import Ping
from protocol.messages.base import Ask, Message, Role, Stream

ASK_S = 30.0
"""The deadline of each single request."""


class Driven(Message):
    """How long it took."""

    seconds: float
    latencies_us: list[float] = Field(default_factory=list)
    """Of each request, in the order they were made, where one was in flight at a time."""


class Drive(Ask[Driven], operation="echo.drive", role=Role.ASK):
    """Ask another actor many times and say how long it took."""

    target: str
    calls: int = Field(ge=1)
    in_flight: int = Field(ge=1)
    payload_bytes: int = Field(ge=0)


class Read(Ask[Driven], operation="echo.read", role=Role.ASK):
    """Read a stream of another actor to its end and say how long it took."""

    target: str
    chunks: int = Field(ge=1)
    chunk_bytes: int = Field(ge=0)


class Piece(Message):
    """A chunk of the stream."""

    payload: Blob


class Flowed(Message):
    """The stream's end."""


class Flow(Stream[Piece, Flowed], operation="echo.flow", role=Role.ASK):
    """A stream of so many chunks, as fast as its reader's credit lets it."""

    chunks: int = Field(ge=1)
    chunk_bytes: int = Field(ge=0)


class Echo(Actor):
    """Asks and reads on order."""

    @handles(Drive)
    async def drive(self, message: Drive) -> Driven:
        """Make ``calls`` requests, ``in_flight`` at a time."""
        payload = bytes(message.payload_bytes)
        seconds, latencies_us = await ask_many(
            lambda: self.caller.ask(message.target, Ping(payload=payload), timeout_s=ASK_S),
            message.calls,
            message.in_flight,
        )
        return Driven(seconds=seconds, latencies_us=latencies_us)

    @handles(Read)
    async def read(self, message: Read) -> Driven:
        """From the request to the stream's end."""
        order = Flow(chunks=message.chunks, chunk_bytes=message.chunk_bytes)
        received = 0
        began = time.perf_counter()
        async for piece in await self.caller.stream(message.target, order):
            received += len(piece.payload)
        seconds = time.perf_counter() - began
        assert received == message.chunks * message.chunk_bytes
        return Driven(seconds=seconds)

    @handles(Flow)
    async def flow(self, message: Flow) -> AsyncGenerator[Piece | Flowed, None]:
        """The same payload in each chunk."""
        payload = Blob(bytes(message.chunk_bytes))
        for _ in range(message.chunks):
            yield Piece(payload=payload)
        yield Flowed()
