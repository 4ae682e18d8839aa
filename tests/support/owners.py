"""Owners of servers for the tests of conversations: each answers, or fails to, in its own way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

import pytest

from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks
from actors.kernel.request import Request
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind
from protocol.errors import (
    NoyauError,
)
from protocol.messages.actor import Ping
from protocol.messages.base import Operation
from protocol.pending import OutgoingStream
from protocol.ports import Peer
from tests.support.messages import Count, Counted, Launch, Look, Number, Said, Say, Told, Whisper
from tests.support.network import Network, Probe
from tests.support.wirings import BOUND_S

T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    """What must come without anybody's deadline; a bound that is reached only when it does not."""
    return await asyncio.wait_for(awaitable, BOUND_S)


def start(work: Awaitable[T]) -> asyncio.Future[T]:
    return asyncio.ensure_future(work)


class Echo(Probe):
    """Answers what it was asked, one way or another."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @handles(Say)
    def say(self, message: Say) -> Said:
        return Said(text=message.text)

    @handles(Look)
    async def look(self, message: Look) -> Said:
        await asyncio.sleep(0)
        return Said(text=message.text)

    @handles(Whisper)
    def whisper(self, message: Whisper, request: Request) -> Said:
        return Said(text=f"{request.info} said {message.text}")

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        for number in range(message.upto):
            yield Number(number=number)
        yield Counted(total=message.upto)

    @handles(Told)
    def hear(self, message: Told) -> None:
        self.told.append(message.text)


class Held(Probe):
    """Holds every ask until it is let go, and notes how each began and ended."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ended: list[str] = []
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.let_go = asyncio.Event()

    @handles(Say)
    async def say(self, message: Say, request: Request) -> Said:
        await self._hold(request)
        return Said(text=message.text)

    @handles(Look)
    async def look(self, message: Look, request: Request) -> Said:
        await self._hold(request)
        return Said(text=message.text)

    @handles(Launch)
    async def launch(self, message: Launch, request: Request) -> Said:
        await self._hold(request)
        return Said(text="launched")

    @handles(Count)
    async def count(
        self, message: Count, request: Request
    ) -> AsyncGenerator[Number | Counted, None]:
        await self._hold(request)
        yield Counted()

    async def _hold(self, request: Request) -> None:
        self.requests.append(request)
        self.began.set()
        how = "cancelled"
        try:
            await self.let_go.wait()
            how = "done"
        finally:
            self.ended.append(how)
            self.over.set()


class Raising(Probe):
    """Raises one error in every kind of handler."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @handles(Say)
    def say(self, message: Say) -> Said:
        raise self.error

    @handles(Look)
    async def look(self, message: Look) -> Said:
        raise self.error

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        for number in range(message.upto):
            yield Number(number=number)
        raise self.error

    @handles(Told)
    def hear(self, message: Told) -> None:
        raise self.error


class Counter(Probe):
    """Counts on and on; notes how far it came and that it was let go."""

    def __init__(self) -> None:
        self.made = 0
        self.reached: dict[int, asyncio.Event] = {}
        self.over = asyncio.Event()

    def made_it(self, number: int) -> asyncio.Event:
        return self.reached.setdefault(number, asyncio.Event())

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        try:
            for number in range(message.upto):
                self.made += 1
                self.made_it(self.made).set()
                yield Number(number=number)
            yield Counted(total=message.upto)
        finally:
            self.over.set()

    @handles(Say)
    def say(self, message: Say) -> Said:
        return Said(text=message.text)


class HeldCounter(Held):
    """Holds asks, and counts on and on."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = Counter()

    @handles(Count)
    async def count(
        self, message: Count, request: Request
    ) -> AsyncGenerator[Number | Counted, None]:
        async with contextlib.aclosing(self.counter.count(message)) as chunks:
            async for chunk in chunks:
                yield chunk


async def numbers(stream: OutgoingStream[Number, Counted]) -> list[int]:
    return [chunk.number async for chunk in stream]


async def read_until_it_breaks(
    stream: OutgoingStream[Number, Counted],
) -> tuple[list[int], NoyauError]:
    got: list[int] = []

    async def read() -> None:
        async for chunk in stream:
            got.append(chunk.number)

    with pytest.raises(NoyauError) as caught:
        await soon(read())
    return got, caught.value


class Script:
    """A receiver whose every answer the test gives; it notes what else the caller sends."""

    def __init__(self, network: Network) -> None:
        self.codec = Codec()
        self.notes: asyncio.Queue[Envelope] = asyncio.Queue()
        self.requests: asyncio.Queue[tuple[Peer, Envelope]] = asyncio.Queue()
        self.listener = network.listen(self._on_frame)

    def _on_frame(self, peer: Peer, frame: bytes) -> None:
        envelope = self.codec.decode(frame)
        if envelope.kind == Kind.REQUEST:
            self.requests.put_nowait((peer, envelope))
        else:
            self.notes.put_nowait(envelope)

    async def answer(self, *answers: tuple[Kind, int, object]) -> None:
        """Send these kinds, sequences and bodies to the next request."""
        peer, request = await soon(self.requests.get())
        for kind, sequence, body in answers:
            envelope = Envelope(request.id, kind, request.operation, sequence=sequence, body=body)
            self.listener.send(peer, self.codec.encode(envelope))


class Seen(Hooks):
    """Notes what it was shown."""

    def __init__(self) -> None:
        self.before: list[type[Operation]] = []
        self.after: list[tuple[type[Operation], NoyauError | None]] = []
        self.refused: list[str] = []

    def before_handle(self, request: Request, message: Operation) -> None:
        if not isinstance(message, Ping):
            self.before.append(type(message))

    def after_handle(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        if not isinstance(message, Ping):
            self.after.append((type(message), error))

    def on_refused(self, peer: Peer, error: NoyauError) -> None:
        self.refused.append(error.code)
