"""The client of the protocol: ask, stream, and go on where a dead process stopped.

::

    async with Client.connect() as client:
        answer = await client.ask("Why is the sky blue?")
        async for piece in client.stream("Tell me a story"):
            print(piece.text, end="")

`SyncClient` is the same for scripts without async.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast, overload

from protocol.address import Address, find_address
from protocol.caller import RETRY, Caller
from protocol.envelope import Priority
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    DeadlineExceeded,
    NotRunning,
    NoyauError,
    StreamBroken,
)
from protocol.messages.base import Ask, Message, Stream
from protocol.messages.orchestrator import Answered, Query, Text
from protocol.messages.supervisor import GetStatus, Status
from protocol.pending import OutgoingStream
from protocol.ports import Transport
from protocol.transport import ZmqTransport

R = TypeVar("R", bound=Message)
C = TypeVar("C", bound=Message)
E = TypeVar("E", bound=Message)
T = TypeVar("T")

DEFAULT_QUERY_S = 120.0
"""The deadline of a question that names none: a long answer on a slow CPU."""
CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer and how it was made."""

    text: str
    metadata: Answered

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Loss:
    """Of a stream that is to go on."""

    error: NoyauError
    at: float
    """Monotonic seconds."""
    epoch: str
    """The incarnation that had it; empty where none did."""


class ResumingStream(Generic[C, E]):
    """A stream that outlives its connection and its receiver.

    When its connection is cut while the receiver lives, the next one goes on with it: the receiver
    keeps it for a while, and gives it to whoever knows its token. When the receiver dies, or kept
    it no longer, it is asked again to go on after what was received.

    Iterate it once. ``end`` is set when the iteration ended normally, which it does only after
    the receiver's own end. Leave early with ``async with`` or `aclose`.
    """

    def __init__(
        self,
        caller: Caller,
        target: str,
        message: Stream[C, E],
        timeout_s: float,
        *,
        kept: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """``kept``: have the receiver keep it without a reader for a while. Only where a connection
        may be cut and both ends live: else whatever was asked for goes on for nobody."""
        self.end: E | None = None
        self.received: list[C] = []
        """Empty where the stream goes on without knowing it, see `Stream.needs_received`."""
        self.resumed: list[str] = []
        """Why it had to be resumed, once for each time."""
        self.regained: list[str] = []
        """Why it had to be taken up on another connection, where its receiver had kept it."""
        self._caller = caller
        self._target = target
        self._message = message
        self._until = caller.clock.now() + timeout_s
        self._kept = kept
        self._priority = priority
        self._token = ""
        self._current: OutgoingStream[C, E] | None = None
        self._loss: _Loss | None = None
        """What is to be mended first. It outlives a reader who is cancelled over it."""
        self._since = 0
        self._number = 0
        """Of the next chunk."""
        self._closed = False

    def __aiter__(self) -> AsyncIterator[C]:
        return self

    async def __anext__(self) -> C:
        while not self._closed:
            try:
                if self._loss is not None:
                    await self._resume(self._loss)
                elif self._current is None:
                    self._current = await self._begin(self._message)
                assert self._current is not None
                chunk = await self._current.__anext__()
            except StopAsyncIteration:
                self.end = self._current.end if self._current is not None else None
                raise
            except (ActorDied, ActorUnavailable, StreamBroken) as error:
                if self._loss is not None or not self._receiver_lost(error):
                    raise
                epoch = self._current.epoch if self._current is not None else ""
                self._loss = _Loss(error, self._caller.clock.now(), epoch)
                self._current = None
            else:
                self._number += 1
                if self._message.needs_received:
                    self.received.append(chunk)
                return chunk
        raise StopAsyncIteration

    async def _begin(self, message: Stream[C, E], *, again: bool = False) -> OutgoingStream[C, E]:
        """Begin it; or, ``again``, have what the receiver kept of it."""
        left = self._until - self._caller.clock.now()
        if left <= 0:
            raise DeadlineExceeded(f"no end of {message.operation} in time")
        if not again:
            self._number = 0
            self._token = secrets.token_hex(16) if self._kept else ""
        return await self._caller.stream(
            self._target, message, timeout_s=left, token=self._token, first=self._number,
            priority=self._priority,
        )  # fmt: skip

    def _receiver_lost(self, loss: NoyauError) -> bool:
        """Whether the receiver itself is gone, and not something that it depends on."""
        return not loss.remote or loss.details.get("name") == self._target or _not_kept(loss)

    async def _resume(self, loss: _Loss) -> None:
        """Go on after what was received. Raises the loss where nobody can."""
        error = loss.error
        # An actor that is failed will not be back; one that was only lost will.
        if isinstance(error, ActorUnavailable):
            await self._caller.ready(self._target, self._until)
        may_live = bool(self._token and loss.epoch) and isinstance(error, ActorDied)
        attempt = 0
        while True:
            kept = False
            if may_live:
                entry = await self._caller.ready(self._target, self._until)
                kept = entry.epoch == loss.epoch
            message = self._message if kept else self._rest(loss)
            if message is None or loss.at >= self._until:
                raise error
            # A link that is cut again and again must not become a busy loop.
            earlier = len(self.resumed) + len(self.regained)
            await asyncio.sleep(RETRY.delay(min(attempt + earlier, 6)))
            try:
                self._current = await self._begin(message, again=kept)
            except ActorDied:
                attempt += 1
                continue
            self._loss = None
            if kept:
                self.regained.append(str(error))
            else:
                self._message, self._since = message, len(self.received)
                self.resumed.append(str(error))
            return

    def _rest(self, loss: _Loss) -> Stream[C, E] | None:
        """The request for what was not received."""
        error = loss.error
        if isinstance(error, ActorUnavailable) and error.refused:
            return self._message
        gap_ms = (self._caller.clock.now() - loss.at) * 1000
        return self._message.resume_from(self.received[self._since :], error, gap_ms)

    async def aclose(self) -> None:
        """Stop: the receiver is told to stop working on it."""
        self._closed = True
        if self._current is not None:
            await self._current.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _not_kept(loss: NoyauError) -> bool:
    """Whether the receiver says that it has nothing more of a stream, which is no fault of it."""
    return isinstance(loss, StreamBroken) and loss.not_kept


class Client:
    """A connection to a running noyau. Use it as ``async with Client.connect() as client``."""

    def __init__(self, address: Address, *, connect_s: float = CONNECT_S) -> None:
        self.address = address
        self._connect_s = connect_s
        self._caller: Caller | None = None
        self._transport: Transport | None = None

    @classmethod
    def connect(
        cls,
        where: Path | str | None = None,
        *,
        server_key: str | None = None,
        key: Path | str | None = None,
        connect_s: float = CONNECT_S,
    ) -> Self:
        """A client of the noyau on this machine whose run folder this is, or of the one at
        ``tcp://HOST:PORT``, whose public key is ``server_key``; see `find_address`, whose errors
        are raised."""
        return cls(find_address(where, server_key=server_key, key=key), connect_s=connect_s)

    async def open(self) -> Self:
        """Connect, unless it is connected. Raises `NotRunning`, which says what to do."""
        if self._caller is not None:
            return self
        transport = ZmqTransport(client=self.address.curve)
        caller = Caller(transport, self.address.endpoint)
        caller.open()
        try:
            await caller.connected(self._connect_s)
        except BaseException as error:
            # Also when the wait was cancelled: nobody else knows of this connection.
            caller.close()
            transport.close()
            if not isinstance(error, NotRunning):
                raise
            raise self.address.not_running(error.message) from None
        self._caller, self._transport = caller, transport
        return self

    async def close(self) -> None:
        """Disconnect. Open requests fail with `Cancelled`; their receivers stop."""
        if self._caller is not None and self._transport is not None:
            self._caller.close()
            self._transport.close()
            self._caller = self._transport = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def caller(self) -> Caller:
        """The connection itself. Raises `NotRunning` before `open` and after `close`."""
        if self._caller is None:
            raise NotRunning("the client is not connected: use `async with Client.connect()`")
        return self._caller

    @overload
    async def ask(
        self,
        message: str | Query,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Answer: ...

    @overload
    async def ask(
        self, message: Ask[R], *, to: str | None = None, timeout_s: float | None = None
    ) -> R: ...

    async def ask(
        self,
        message: str | Query | Ask[R],
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Answer | R:
        """Ask and wait for the whole answer.

        A string or `Query` is a question to the assistant; any other message goes to the actor
        that takes it (or to the one named ``to``). ``timeout_s`` is the deadline in seconds;
        ``priority`` says how soon a question has its turn where many wait.
        Raises a `NoyauError`; each says whether trying again can help.
        """
        if isinstance(message, Ask):
            target = to or message.receiver()
            return await self.caller.ask(target, message, timeout_s=timeout_s)
        async with self.stream(message, timeout_s=timeout_s, priority=priority) as stream:
            text = "".join([piece.text async for piece in stream if not piece.is_call])
        # The iteration ended without an error, which it does only after the end has come.
        return Answer(text, cast(Answered, stream.end))

    @overload
    def stream(
        self,
        message: str | Query,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> ResumingStream[Text, Answered]: ...

    @overload
    def stream(
        self,
        message: Stream[C, E],
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> ResumingStream[C, E]: ...

    def stream(
        self,
        message: str | Stream[Any, Any],
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> ResumingStream[Any, Any]:
        """Ask and read the answer piece by piece, as it is made; see `ResumingStream`."""
        request = Query(text=message) if isinstance(message, str) else message
        timeout_s = DEFAULT_QUERY_S if timeout_s is None else timeout_s
        return ResumingStream(
            self.caller, to or request.receiver(), request, timeout_s,
            kept=self.address.curve is not None, priority=priority,
        )  # fmt: skip

    async def status(self) -> Status:
        """How the system and each of its actors does."""
        return await self.ask(GetStatus(), timeout_s=10)


class SyncStream(Generic[C, E]):
    """`ResumingStream` for scripts without async. Leave early with ``with`` or `close`."""

    def __init__(
        self, stream: ResumingStream[C, E], run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._stream = stream
        self._run = run

    @property
    def end(self) -> E | None:
        """What the receiver said at the end; None before."""
        return self._stream.end

    def __iter__(self) -> Iterator[C]:
        return self

    def __next__(self) -> C:
        try:
            return cast(C, self._run(self._stream.__anext__()))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """See `ResumingStream.aclose`."""
        self._run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SyncClient:
    """`Client` for scripts without async: the same calls, each waits for its result.

    It runs an event loop in a thread of its own. Use it as ``with SyncClient.connect() as client``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="noyau", daemon=True)

    @classmethod
    def connect(
        cls,
        where: Path | str | None = None,
        *,
        server_key: str | None = None,
        key: Path | str | None = None,
        connect_s: float = CONNECT_S,
    ) -> Self:
        """See `Client.connect`."""
        return cls(Client.connect(where, server_key=server_key, key=key, connect_s=connect_s))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C while waiting: the work must not go on behind the caller's back.
            future.cancel()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._client.open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and end the thread. Idempotent."""
        if self._thread.is_alive():
            self._run(self._client.close())
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @overload
    def ask(
        self,
        message: str | Query,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Answer: ...

    @overload
    def ask(
        self, message: Ask[R], *, to: str | None = None, timeout_s: float | None = None
    ) -> R: ...

    def ask(
        self,
        message: Any,
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """See `Client.ask`."""
        if isinstance(message, str | Query):
            return self._run(self._client.ask(message, timeout_s=timeout_s, priority=priority))
        return self._run(self._client.ask(message, to=to, timeout_s=timeout_s))

    @overload
    def stream(
        self,
        message: str | Query,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> SyncStream[Text, Answered]: ...

    @overload
    def stream(
        self,
        message: Stream[C, E],
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> SyncStream[C, E]: ...

    def stream(
        self,
        message: Any,
        *,
        to: str | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> SyncStream[Any, Any]:
        """See `Client.stream`."""

        async def make() -> ResumingStream[Any, Any]:
            return self._client.stream(message, to=to, timeout_s=timeout_s, priority=priority)

        return SyncStream(self._run(make()), self._run)

    def status(self) -> Status:
        """See `Client.status`."""
        return self._run(self._client.status())
