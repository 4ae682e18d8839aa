"""Streams at the answering end: what a handler yields goes out by credit, to its reader's end.

Such a stream may be kept for a reader whose connection was cut; see `actors.kernel.resuming`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from actors.kernel.outbox import Outbox
from actors.kernel.request import Request
from actors.kernel.resuming import Part, Resuming
from protocol.clock import Clock
from protocol.conversation import INITIAL_CREDIT, Outflow, State, Step
from protocol.envelope import Envelope, Kind
from protocol.errors import Cancelled, InternalError, NoyauError, StreamBroken
from protocol.messages.base import Message, Operation, Stream
from protocol.ports import Peer

# Plain numbers: packing an enum's member takes three times as long.
_CHUNK, _END, _ERROR = Kind.CHUNK.value, Kind.END.value, Kind.ERROR.value
_OPEN = State.OPEN


class Streams:
    """Those of one server. All methods belong to the event loop's thread."""

    def __init__(self, out: Outbox, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._resuming = Resuming()

    # --- one after the other ----------------------------------------------------------------

    def began(self, request: Request, token: str) -> None:
        """A stream is about to run; with a ``token`` it is kept."""
        if token:
            self._resuming.began(request, token)

    async def run(self, request: Request, message: Operation) -> None:
        """Send what the handler yields, to its end. Raises what the handler raises, `Cancelled`
        when nobody reads it any more, and `InternalError` where it stops without an end."""
        outflow = request.outflow
        assert outflow is not None
        assert isinstance(message, Stream)
        end_type = message.end_type()
        chunks: AsyncGenerator[Message, None] = request.handler.call(*request.arguments(message))
        try:
            async for chunk in chunks:
                if isinstance(chunk, end_type):
                    self._send_end(request, outflow, chunk)
                    return
                if not outflow.open:
                    await self._credit(request, outflow)
                self._send_chunk(request, outflow, chunk)
        finally:
            # Now, not when the collector finds it: whatever it holds must be let go.
            await chunks.aclose()
        raise InternalError(f"{request.operation} stopped without saying how it ended")

    async def _credit(self, request: Request, outflow: Outflow) -> None:
        """Wait until one more chunk may be sent."""
        assert request.credit is not None
        while not outflow.open:
            request.credit.clear()
            await request.credit.wait()

    def _send_chunk(self, request: Request, outflow: Outflow, chunk: Message) -> None:
        if request.conversation.state is not _OPEN:
            request.conversation.take(Step.CHUNK)
        number = outflow.number()
        if request.tail is None:
            self._out.deliver(request, _CHUNK, chunk, number)
        else:
            part = Part(_CHUNK, chunk, number)
            request.tail.add(part)
            self._deliver(request, part)

    def _send_end(self, request: Request, outflow: Outflow, end: Message) -> None:
        request.conversation.table.next(request.conversation.state, Step.END)
        part = Part(_END, end, outflow.next)
        if request.tail is not None:
            request.tail.end = part
        self._deliver(request, part)
        request.conversation.take(Step.END)

    def _deliver(self, request: Request, part: Part) -> None:
        if request.lost_at is not None:
            return
        try:
            self._out.deliver(request, *part)
        except Cancelled:
            if request.tail is None:
                raise
            request.lost_at = self._clock.now()

    def failed(self, request: Request, error: NoyauError) -> None:
        """An error is being sent instead of the rest."""
        if request.tail is not None:
            request.tail.end = Part(_ERROR, error.to_body(), 0)

    def ended(self, request: Request) -> None:
        """A stream is over; of a kept one the end may be on its way to nobody."""
        if request.token:
            self._resuming.ended(request, self._clock.now())

    # --- for who comes back -----------------------------------------------------------------

    def kept(self, peer: Peer, envelope: Envelope) -> Request | None:
        """The stream that this request is to go on with; None for one that begins. Raises
        `StreamBroken` where it was kept and is not any more."""
        if not envelope.idempotency_key:
            return None
        found = self._resuming.find(
            peer, envelope.operation, envelope.idempotency_key, self._clock.now()
        )
        if found is None and envelope.sequence:
            raise StreamBroken(
                "that stream is not kept any more: resume it by what you have", not_kept=True
            )
        return found

    def rest_of(self, request: Request, first: int) -> list[Part]:
        """What was sent of a kept stream from this chunk on. Raises `StreamBroken` where not all of
        that is there."""
        assert request.tail is not None
        assert request.outflow is not None
        if request.conversation.state is State.DONE and request.tail.end is None:
            raise StreamBroken(
                "that stream was taken back, or given up: resume it by what you have", not_kept=True
            )
        parts = request.tail.since(first, request.outflow.next)
        if parts is None:
            raise StreamBroken(
                f"chunk {first} is not kept any more, of {request.outflow.next} that were sent: "
                "resume it by what you have",
                not_kept=True,
            )
        return parts

    def send_again(self, request: Request, parts: Iterable[Part], first: int) -> None:
        """Send these to where the request is now, and go on with a credit from there."""
        assert request.outflow is not None
        assert request.credit is not None
        for part in parts:
            self._deliver(request, part)
        request.outflow.credit(first + INITIAL_CREDIT)
        request.credit.set()
