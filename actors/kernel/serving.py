"""The answering side of all conversations: frames in, handlers run, answers out.

The way of one frame: decoded, looked up, allowed?, ready?, validated, handled. Whatever goes
wrong on the way is a typed error to the sender and a count; nothing ends the process. Each
conversation's key is (connection, message id): nobody can touch another's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

import structlog

from actors.kernel.farewells import Farewells
from actors.kernel.faults import Faults
from actors.kernel.handlers import Handler, Shape, handlers_of
from actors.kernel.hooks import Hooks
from actors.kernel.outbox import Outbox
from actors.kernel.peers import Peers
from actors.kernel.request import Request, Tally
from actors.kernel.resuming import KEPT_S
from actors.kernel.streaming import Streams
from actors.kernel.throttle import Throttle
from protocol.clock import Clock
from protocol.codec import Codec, salvage_id
from protocol.context import CURRENT
from protocol.conversation import INITIAL_CREDIT, Outflow, State, Step
from protocol.envelope import NO_ID, Envelope, Kind
from protocol.errors import (
    ActorUnavailable,
    Cancelled,
    DeadlineExceeded,
    InternalError,
    MalformedFrame,
    NotAllowed,
    NoyauError,
    Overloaded,
    ProtocolError,
    StreamBroken,
    UnknownOperation,
)
from protocol.keyfiles import AuthorizedKeys
from protocol.lifecycle import ActorState
from protocol.messages.actor import Counters, Farewell, Hello
from protocol.messages.base import Operation
from protocol.ports import Listener, Peer, Remote
from protocol.timers import Timers

MAX_OPEN_PER_PEER = 1024
"""Conversations one connection may have open; more get `Overloaded`."""
PROBE_S = 5.0
"""How often it is looked whether streams stand still, and clients are still there."""
MOST_LOGGED = 500
"""Characters of what a stranger sent that a log line repeats."""

# An enum's member is looked up anew, slowly, wherever it is named; these are for every frame. Plain
# numbers where they go out: packing a member takes three times as long.
_REQUEST, _REPLY, _EVENT = Kind.REQUEST.value, Kind.REPLY.value, Kind.EVENT.value
_READY = ActorState.READY
_PLAIN, _STREAM = Shape.PLAIN, Shape.STREAM

log = structlog.get_logger("kernel")


class Server:
    """Answers for one endpoint. All methods belong to the event loop's thread."""

    def __init__(
        self,
        owner: object,
        *,
        name: str,
        epoch: str,
        secret: bytes,
        clock: Clock,
        codec: Codec | None = None,
        hooks: list[Hooks] | None = None,
        state: Callable[[], ActorState] = lambda: ActorState.READY,
        max_open_per_peer: int = MAX_OPEN_PER_PEER,
        faults: Faults | None = None,
        keys: AuthorizedKeys | None = None,
    ) -> None:
        """``keys``: who may come from other machines; None where nobody may."""
        self.name = name
        self.epoch = epoch
        self.peers = Peers(secret) if keys is None else Peers(secret, role_of_key=keys.role)
        self.tally = Tally()
        self.idle = asyncio.Event()
        """Set while no conversation is open."""
        self.idle.set()
        self._keys = keys
        self._table = handlers_of(owner)
        self._clock = clock
        self._codec = codec or Codec()
        self._faults = faults
        self._farewells = Farewells()
        self._out = Outbox(
            name, epoch, self._codec, self.tally, self.peers, self._farewells, faults
        )
        self._hooks = hooks or []
        self._state = state
        self._max_open = max_open_per_peer
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(clock, self._loop)
        self._open: dict[tuple[Peer, bytes], Request] = {}
        self._per_peer: dict[Peer, int] = {}
        self._streams = Streams(self._out, clock)
        self._throttle = Throttle()
        self._probing = False
        self._closed = False

    def attach(self, listener: Listener) -> None:
        """The listener to answer through. Frames may come as soon as it exists."""
        self._out.listener = listener

    @property
    def remote(self) -> Listener | None:
        """The listener for other machines, where there is one."""
        return self._out.remote

    def attach_remote(self, listener: Listener) -> None:
        """The same for other machines."""
        self._out.remote = listener

    @property
    def in_flight(self) -> int:
        """Conversations open now."""
        return len(self._open)

    def counters(self) -> Counters:
        """A snapshot for a heartbeat."""
        t = self.tally
        return Counters(
            handled=t.handled, failed=t.failed, failed_in_a_row=t.failed_in_a_row,
            in_flight=self.in_flight, waiting=t.waiting, rejected=t.rejected, late=t.late,
            progress=t.progress, loop_lag_ms=t.loop_lag_ms,
        )  # fmt: skip

    # --- frames in ------------------------------------------------------------------------

    def on_frame(self, peer: Peer, frame: bytes) -> None:
        """Take one frame of one connection. Never raises."""
        if self._closed:
            return
        try:
            if type(peer) is not bytes:
                self.peers.check(peer)
            envelope = self._codec.decode(frame)
        except (ProtocolError, NotAllowed) as error:
            self._refuse(peer, salvage_id(frame) or NO_ID, "", error)
            return
        try:
            if envelope.kind == _REQUEST:
                self._on_request(peer, envelope)
            else:
                self._on_other(peer, envelope)
        except NoyauError as error:
            self._refuse(peer, envelope.id, envelope.operation, error)

    def _on_other(self, peer: Peer, envelope: Envelope) -> None:
        match Kind(envelope.kind):
            case Kind.CANCEL | Kind.CREDIT:
                self._on_note(peer, envelope)
            case Kind.EVENT | Kind.HEARTBEAT:
                self._on_event(peer, envelope)
            case kind:
                raise MalformedFrame(f"a {kind.name.lower()} was not asked for here")

    def _refuse(self, peer: Peer, conversation: bytes, operation: str, error: NoyauError) -> None:
        self._note_refusal(
            operation=operation[:MOST_LOGGED], code=error.code, error=error.message[:MOST_LOGGED]
        )
        for hook in self._hooks:
            self._run_hook(hook.on_refused, peer, error)
        self._out.error(peer, conversation, operation, error)

    def _note_refusal(self, **what: str) -> None:
        """Count one, and log it unless there are too many."""
        self.tally.rejected += 1
        skipped = self._throttle.passes(self._clock.now())
        if skipped is not None:
            log.warning("refused", **what, **({"skipped": skipped} if skipped else {}))

    def lets_in(self, key: str, address: str) -> bool:
        """See `protocol.ports.Door`: whoever is on the list of keys."""
        if self.peers.role(Remote(b"", key)) is not None:
            return True
        problem = self._keys.problem if self._keys is not None else ""
        why = problem or f"the key {key} is not authorized"
        self._note_refusal(code="stranger", error=why[:MOST_LOGGED], by=address)
        return False

    def turned_away(self, why: str) -> None:
        """See `protocol.ports.Door`."""
        self._note_refusal(code="stranger", error=why)

    def _find(self, peer: Peer, envelope: Envelope) -> Handler:
        handler = self._table.get(envelope.operation)
        if handler is None:
            if envelope.operation == Hello.operation:
                raise MalformedFrame("a hello is an event, and is not sent as anything else")
            raise UnknownOperation(f"{self.name} has no operation {envelope.operation!r}")
        has = self.peers.role(peer)
        if has is None or has < handler.role:
            raise NotAllowed(
                f"{envelope.operation} needs the role {handler.role.name.lower()}, "
                f"this connection has {'none' if has is None else has.name.lower()}"
            )
        if handler.takes_event is (envelope.kind == _REQUEST):
            kind = Kind(envelope.kind).name.lower()
            raise MalformedFrame(f"{envelope.operation} is not sent as a message of kind {kind}")
        return handler

    def _on_event(self, peer: Peer, envelope: Envelope) -> None:
        if envelope.operation == Hello.operation:
            self.peers.hello(peer, Hello.from_body(envelope.body))
            return
        handler = self._find(peer, envelope)
        message = handler.read(envelope.body)
        request = Request(peer, envelope, handler, self.peers.info(peer))
        try:
            self._call(request, message)
        except NoyauError as error:
            # Nobody waits for the outcome of an event: it is the receiver's own problem.
            self.tally.failed += 1
            log.error("event_failed", operation=envelope.operation, error=error.message)

    def _on_note(self, peer: Peer, envelope: Envelope) -> None:
        request = self._open.get((peer, envelope.id))
        if request is None or request.conversation.state is State.DONE:
            self.tally.late += 1
        elif envelope.kind == Kind.CANCEL:
            self._stop(request, Step.CANCEL, Cancelled("the caller took the request back"))
        else:
            request.conversation.take(Step.CREDIT)
            if request.outflow is not None:
                request.outflow.credit(envelope.sequence)
                if request.credit is not None:
                    request.credit.set()

    def _on_request(self, peer: Peer, envelope: Envelope) -> None:
        self._farewells.asks(peer)
        handler = self._find(peer, envelope)
        if handler.shape is _STREAM:
            kept = self._streams.kept(peer, envelope)
            if kept is not None:
                self._resume(kept, peer, envelope)
                return
        state = self._state()
        if state is not _READY and not handler.always:
            raise ActorUnavailable(f"{self.name} is {state.value}", name=self.name, refused=True)
        if self._open:
            self._check_open(peer, envelope.id)
        if self._faults is not None:
            handler = self._faults.instead_of(handler)
        message = handler.read(envelope.body)
        deadline = None
        if envelope.deadline_ms is not None:
            deadline = self._clock.now() + envelope.deadline_ms / 1000
        request = Request(peer, envelope, handler, self.peers.info(peer), deadline)
        for hook in self._hooks:
            self._run_hook(hook.before_handle, request, message)
        if handler.shape is _PLAIN:
            self._answer_plainly(request, message)
        else:
            if handler.shape is _STREAM:
                token = envelope.idempotency_key if handler.keepable else ""
                self._streams.began(request, token)
            self._begin(request, message)

    def _check_open(self, peer: Peer, conversation: bytes) -> None:
        if (peer, conversation) in self._open:
            raise MalformedFrame("a conversation with this id is open already")
        if self._per_peer.get(peer, 0) >= self._max_open:
            raise Overloaded(
                f"this connection has {self._max_open} conversations open", retry_after_s=0.1
            )

    # --- plain handlers: no task, no timer --------------------------------------------------

    def _call(self, request: Request, message: Operation) -> object:
        """Run the handler in the request's context. Whatever it raises becomes a NoyauError."""
        token = CURRENT.set(request.context)
        try:
            if request.handler.takes_request:
                return request.handler.call(message, request)
            return request.handler.call(message)
        except NoyauError:
            raise
        except Exception as error:
            raise self._defect(request, error) from error
        finally:
            CURRENT.reset(token)

    def _answer_plainly(self, request: Request, message: Operation) -> None:
        error: NoyauError | None = None
        try:
            reply = self._call(request, message)
            self._out.answer(request, _REPLY, reply)
        except NoyauError as raised:
            error = raised
            self._send_error(request, error)
        self._count(request, message, error)

    # --- coroutines and streams: a task and a deadline --------------------------------------

    def _begin(self, request: Request, message: Operation) -> None:
        self._file(request, request.context.deadline)
        if not self._probing:
            self._probe_later()
        self.idle.clear()
        if request.handler.shape is _STREAM:
            request.outflow = Outflow(INITIAL_CREDIT)
            request.credit = asyncio.Event()
        request.task = self._loop.create_task(self._work(request, message))

    def _file(self, request: Request, deadline: float | None) -> None:
        key = (request.peer, request.id)
        self._open[key] = request
        self._per_peer[request.peer] = self._per_peer.get(request.peer, 0) + 1
        if deadline is not None:
            request.bucket = self._timers.file(deadline, key, lambda: self._out_of_time(request))

    def _unfile(self, request: Request) -> bool:
        key = (request.peer, request.id)
        if self._open.pop(key, None) is None:
            return False
        if request.bucket >= 0:
            self._timers.remove(request.bucket, key)
            request.bucket = -1
        left = self._per_peer[request.peer] - 1
        if left:
            self._per_peer[request.peer] = left
        else:
            del self._per_peer[request.peer]
        return True

    async def _work(self, request: Request, message: Operation) -> None:
        CURRENT.set(request.context)
        error: NoyauError | None = None
        request.begun = True
        try:
            if request.verdict is not None:
                raise request.verdict
            if request.handler.shape is _STREAM:
                await self._streams.run(request, message)
            else:
                await self._reply(request, message)
        except NoyauError as raised:
            error = raised
        except asyncio.CancelledError:
            error = request.verdict or self._stopping()
        except Exception as raised:  # noqa: BLE001 - the boundary: a defect must not end the actor
            error = self._defect(request, raised)
        if error is not None and request.conversation.state is State.OPEN:
            self._send_error(request, error)
        self._finish(request)
        self._count(request, message, error)

    async def _reply(self, request: Request, message: Operation) -> None:
        reply = await request.handler.call(*request.arguments(message))
        request.conversation.table.next(request.conversation.state, Step.REPLY)
        self._out.answer(request, _REPLY, reply)
        # Only now: a reply that cannot be packed leaves the conversation open for its error.
        request.conversation.take(Step.REPLY)

    def _finish(self, request: Request) -> None:
        if not self._unfile(request):
            return
        self._streams.ended(request)
        if not self._open:
            self.idle.set()

    def _resume(self, request: Request, peer: Peer, envelope: Envelope) -> None:
        """Go on with a stream on another connection."""
        self._check_open(peer, envelope.id)
        try:
            parts = self._streams.rest_of(request, envelope.sequence)
        except StreamBroken:
            self._stop(request, Step.DEATH, Cancelled("its reader needs more than is kept"))
            raise
        open_ = self._unfile(request)
        request.peer, request.id, request.lost_at = peer, envelope.id, None
        if open_:
            deadline = request.context.deadline
            if envelope.deadline_ms is not None:
                deadline = self._clock.now() + envelope.deadline_ms / 1000
            self._file(request, deadline)
        try:
            self._streams.send_again(request, parts, envelope.sequence)
        except NoyauError:
            # Whoever is told that gets nothing more.
            self._stop(request, Step.DEATH, Cancelled("it could not be sent again"))
            raise

    # --- the ways a conversation is ended from outside ---------------------------------------

    def _stop(self, request: Request, step: Step, verdict: NoyauError) -> None:
        if request.conversation.state is State.OPEN:
            self._send_error(request, verdict)
            request.conversation.take(step)
            self._cancel(request, verdict)

    def _cancel(self, request: Request, verdict: NoyauError) -> None:
        request.verdict = request.verdict or verdict
        # A task that is cancelled before its first step never runs at all, and nobody would close
        # the conversation: it finds the verdict when it begins.
        if request.begun and request.task is not None:
            request.task.cancel()

    def _out_of_time(self, request: Request) -> None:
        self._stop(
            request, Step.DEADLINE, DeadlineExceeded(f"no end of {request.operation} in time")
        )

    def _probe_later(self) -> None:
        self._probing = True
        self._timers.file(self._clock.now() + PROBE_S, self._probe, self._probe)

    def _probe(self) -> None:
        """While a stream waits for its credit nothing is sent that would show what is wrong: that
        chunks were lost, so that its reader waits too, or that its reader is gone."""
        self._probing = False
        for peer in {request.peer for request in self._open.values() if request.info is None}:
            try:
                if not self._out.reaches(peer):
                    self._lost(peer)
            except NotAllowed as revoked:
                self._end_all({peer}, revoked)
        for request in self._open.values():
            waits = request.outflow is not None and not request.outflow.open
            if waits and request.lost_at is None and request.conversation.state is State.OPEN:
                assert request.outflow is not None
                with contextlib.suppress(NotAllowed):
                    # Revoked in this moment: the next look sees it.
                    self._out.tell_sent(request, request.outflow.next)
        if self._open:
            self._probe_later()

    def _lost(self, peer: Peer) -> None:
        """A client is gone: what it asked for ends, but for what it may come back to."""
        now = self._clock.now()
        for request in [one for one in self._open.values() if one.peer == peer]:
            if request.tail is not None and request.lost_at is None:
                request.lost_at = now
            if request.lost_at is None or now - request.lost_at > KEPT_S:
                self._stop(request, Step.DEATH, Cancelled("the caller is gone"))

    def _end_all(self, peers: Collection[Peer], verdict: NoyauError) -> None:
        for request in list(self._open.values()):
            if request.peer in peers:
                self._stop(request, Step.DEATH, verdict)

    def peer_died(self, epoch: str) -> None:
        """An actor died: what it had asked for is not waited for any more."""
        self._end_all(set(self.peers.forget(epoch)), Cancelled("the caller died"))

    def give_up(self) -> int:
        """End what is open with `ActorUnavailable`, and go on taking requests; returns how many."""
        requests = [request for request in self._open.values() if request.task is not None]
        for request in requests:
            text = f"{self.name} gave this up, as it did not get on with it"
            self._cancel(request, ActorUnavailable(text, name=self.name))
        return len(requests)

    async def stop(self) -> None:
        """End what is still open with `ActorUnavailable`, tell those who asked something that
        nothing more is read, and answer nothing more."""
        requests = list(self._open.values())
        for request in requests:
            self._cancel(request, self._stopping())
        tasks = [request.task for request in requests if request.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._closed = True
        self._timers.close()
        for peer in self._farewells.due:
            # Whose key was revoked meanwhile is told nothing.
            with contextlib.suppress(NotAllowed):
                self._out.send(peer, NO_ID, _EVENT, Farewell.operation, None)

    # --- out ----------------------------------------------------------------------------------

    def _stopping(self) -> ActorUnavailable:
        return ActorUnavailable(f"{self.name} is stopping", name=self.name)

    def _defect(self, request: Request, error: Exception) -> InternalError:
        log.error(
            "handler_raised", operation=request.operation,
            correlation=request.context.correlation.hex(), exc_info=error,
        )  # fmt: skip
        return InternalError(f"{self.name}: {request.operation} failed: {error!r:.300}")

    def _send_error(self, request: Request, error: NoyauError) -> None:
        if request.conversation.state is State.OPEN and not isinstance(error, Cancelled):
            self._streams.failed(request, error)
            self._out.error(request.peer, request.id, request.operation, error)

    def _count(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        if error is None:
            self.tally.handled += 1
            self.tally.failed_in_a_row = 0
        elif not error.blames or _is_refusal(error):
            # The caller's mistake or wish is no failure of ours, nor is what was not begun.
            self.tally.handled += 1
        else:
            self.tally.failed += 1
            self.tally.failed_in_a_row += 1
        for hook in self._hooks:
            self._run_hook(hook.after_handle, request, message, error)

    def _run_hook(self, hook: Callable[..., None], *arguments: object) -> None:
        try:
            hook(*arguments)
        except Exception as error:
            log.error("hook_raised", hook=getattr(hook, "__qualname__", "?"), exc_info=error)


def _is_refusal(error: NoyauError) -> bool:
    return isinstance(error, ActorUnavailable) and error.refused
