"""The actor of the messaging benchmark: it asks another actor process, and is asked by one.

What it asks is ``actor.ping``, which every actor answers: the answering side is the kernel as it
is. `Drive`, `Read` and `Flow` are this file's own messages, a model of what adding some takes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator

from pydantic import Field

from actors.kernel import Actor, handles
from benchmarks.asking import ask_many
from protocol.blobs import OWN_PART_BYTES, Blob
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
    """A chunk of a stream."""

    payload: bytes


class LargePiece(Message):
    """A chunk that travels beside its frame."""

    payload: Blob


class Flowed(Message):
    """The stream's end."""


class Flow(Stream[Piece, Flowed], operation="echo.flow", role=Role.ASK):
    """A stream of so many chunks, as fast as its reader's credit lets it."""

    chunks: int = Field(ge=1)
    chunk_bytes: int = Field(ge=0)


class FlowOfBlobs(Stream[LargePiece, Flowed], operation="echo.flow_of_blobs", role=Role.ASK):
    """The same of large ones."""

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
        received = 0
        began = time.perf_counter()
        async for piece in await self._flow(message):
            received += len(piece.payload)
        seconds = time.perf_counter() - began
        assert received == message.chunks * message.chunk_bytes
        return Driven(seconds=seconds)

    async def _flow(self, order: Read) -> AsyncIterator[Piece | LargePiece]:
        target, chunks, size = order.target, order.chunks, order.chunk_bytes
        if size >= OWN_PART_BYTES:
            blobs = FlowOfBlobs(chunks=chunks, chunk_bytes=size)
            return await self.caller.stream(target, blobs)
        return await self.caller.stream(target, Flow(chunks=chunks, chunk_bytes=size))

    @handles(Flow)
    async def flow(self, message: Flow) -> AsyncGenerator[Piece | Flowed, None]:
        """The same payload in each chunk."""
        payload = bytes(message.chunk_bytes)
        for _ in range(message.chunks):
            yield Piece(payload=payload)
        yield Flowed()

    @handles(FlowOfBlobs)
    async def flow_of_blobs(
        self, message: FlowOfBlobs
    ) -> AsyncGenerator[LargePiece | Flowed, None]:
        """The same of blobs."""
        payload = Blob(bytes(message.chunk_bytes))
        for _ in range(message.chunks):
            yield LargePiece(payload=payload)
        yield Flowed()
