"""Conversations that a `Caller` has open: what is done with each message that arrives for one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

from protocol.conversation import (
    ASK,
    INITIAL_CREDIT,
    STREAM,
    Conversation,
    Inflow,
    State,
    Step,
)
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import IllegalTransition, NoyauError, error_from_body
from protocol.messages.base import Ask, Message, Stream, reader, reply_reader
from protocol.waiting import answer

R = TypeVar("R", bound=Message)
C = TypeVar("C", bound=Message)
E = TypeVar("E", bound=Message)

_STEPS = {
    Kind.REPLY: Step.REPLY,
    Kind.CHUNK: Step.CHUNK,
    Kind.END: Step.END,
    Kind.ERROR: Step.ERROR,
    Kind.HEARTBEAT: Step.HEARTBEAT,
}

# Looked up once, as they are needed for every reply.
_REPLY, _CHUNK = Kind.REPLY.value, Kind.CHUNK.value
_OPEN = State.OPEN
_REPLIED = ASK.next(_OPEN, Step.REPLY)


def _step(envelope: Envelope) -> Step:
    try:
        return _STEPS[Kind(envelope.kind)]
    except KeyError:
        kind = Kind(envelope.kind).name.lower()
        raise IllegalTransition(f"a receiver cannot answer with a {kind}") from None


class Pending(Protocol):
    """An open conversation, as the caller's table of them sees it."""

    id: bytes
    operation: str
    until: float | None
    bucket: int

    def receive(self, envelope: Envelope) -> bool:
        """Take a message; True when the conversation is over by it. Raises what breaks it."""
        ...

    def fail(self, error: NoyauError) -> None:
        """End it with an error, unless it is over."""
        ...

    def go_on(self) -> None:
        """It is over and filed nowhere any more: whoever waits for it may go on."""
        ...


class PendingAsk(Generic[R]):
    """An ask whose reply is waited for on ``future``."""

    __slots__ = ("_read", "_value", "bucket", "future", "id", "operation", "state", "until")

    def __init__(self, message: Ask[R], until: float, loop: asyncio.AbstractEventLoop) -> None:
        self.id = new_id()
        self.operation = message.operation
        self.until: float | None = until
        self.bucket = 0
        self.state = _OPEN
        self._read = reply_reader(type(message))
        self.future: asyncio.Future[R] = loop.create_future()
        self._value: R | None = None

    def receive(self, envelope: Envelope) -> bool:
        """See `Pending.receive`."""
        if envelope.kind == _REPLY and self.state is _OPEN:
            # Validated before the state moves on: a reply that does not validate breaks the
            # conversation, and the caller is told why.
            self._value = self._read(envelope.body)
            self.state = _REPLIED
        else:
            ASK.next(self.state, _step(envelope))
            self.fail(error_from_body(envelope.body))
        return True

    def go_on(self) -> None:
        """See `Pending.go_on`."""
        if self._value is not None:
            answer(self.future, self._value)

    def fail(self, error: NoyauError) -> None:
        """See `Pending.fail`."""
        self.state = State.DONE
        if not self.future.done():
            self.future.set_exception(error)


class OutgoingStream(Generic[C, E]):
    """A stream being read. Iterate it; then `end` holds what the receiver said at the end.

    Leaving the iteration early leaves the stream open: call `aclose`, or use ``async with``, and
    the receiver stops working on it.
    """

    def __init__(
        self,
        message: Stream[C, E],
        until: float | None,
        loop: asyncio.AbstractEventLoop,
        epoch: str,
        give_credit: Callable[[int], None],
        give_up: Callable[[], None],
        first: int = 0,
    ) -> None:
        """``first``: the number of the first chunk, of a stream that is resumed."""
        self.id = new_id()
        self.operation = message.operation
        self.until = until
        self.bucket = 0
        self.epoch = epoch
        """The incarnation that answers."""
        self.end: E | None = None
        self._chunk = reader(message.chunk_type())
        self._end = reader(message.end_type())
        self._conversation = Conversation(STREAM)
        self._inflow = Inflow(INITIAL_CREDIT, first)
        self._loop = loop
        self._give_credit = give_credit
        self._give_up = give_up
        self._chunks: deque[C] = deque()
        self._consumed = first
        self._error: NoyauError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def receive(self, envelope: Envelope) -> bool:
        """See `Pending.receive`."""
        if envelope.kind == _CHUNK and self._conversation.state is _OPEN:
            self._inflow.accept(envelope.sequence)
            self._chunks.append(self._chunk(envelope.body))
            if self._waiter is not None:
                self._wake()
            return False
        step = _step(envelope)
        self._conversation.table.next(self._conversation.state, step)
        if step is Step.END:
            self._inflow.check(envelope.sequence)
            self.end = self._end(envelope.body)
        elif step is Step.HEARTBEAT:
            self._inflow.check(envelope.sequence)
        else:
            self._error = error_from_body(envelope.body)
        self._conversation.take(step)
        self._wake()
        return self._conversation.state is State.DONE

    def go_on(self) -> None:
        """See `Pending.go_on`. Its reader was woken already."""

    def fail(self, error: NoyauError) -> None:
        """See `Pending.fail`. Chunks that had arrived can still be read before it is raised."""
        if self._conversation.state is not State.DONE:
            self._conversation.state = State.DONE
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[C]:
        return self

    async def __anext__(self) -> C:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.end is not None:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._consumed += 1
        if self._consumed >= self._inflow.renew_at and self._conversation.state is _OPEN:
            granted = self._inflow.renew(self._consumed)
            if granted is not None:
                self._give_credit(granted)
        return chunk

    async def aclose(self) -> None:
        """Stop reading: the receiver is told to stop. Nothing happens when it is over."""
        self._give_up()

    async def __aenter__(self) -> OutgoingStream[C, E]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
