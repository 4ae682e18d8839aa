"""The zmq transport: ROUTER listeners and DEALER links on the event loop, without zmq.asyncio.

zmq.asyncio costs about five times as much per message as draining the socket in a reader
callback (facts: 49,000 against 173,000 messages a second one way). The file descriptor of a zmq
socket is edge-triggered, so every wake-up drains until EAGAIN, and every send, which may swallow
an edge, is followed by another look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import zmq
import zmq.utils.monitor

from protocol.errors import ActorDied, Overloaded, RunFolderUnusable
from protocol.ports import Link, Listener, OnFrame

HIGH_WATER_MARK = 10_000
"""Frames that zmq queues for one peer before it says EAGAIN."""
BACKLOG_FRAMES = 10_000
"""Frames held on our side, over all peers, for those whose zmq queue is full."""
BATCH = 200
"""Frames taken at one wake-up before other callbacks of the loop get their turn."""
HARD_LIMIT_BYTES = 64 * 1024 * 1024
"""zmq disconnects a peer that sends more; the codec's lower limit is answered with an error."""
LINGER_MS = 200
"""How long a closed socket may go on sending what it has queued."""
_RETRY_S = 0.005
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE | zmq.NOBLOCK)
_NEVER_MS = 3_600_000
"""A link is closed as soon as it is lost, long before zmq would connect it again. Zmq's own word
for never, -1, throws away what had arrived on the connection and was not read yet."""

# A link's monitor: the connection is lost for good at any of these, as links never reconnect.
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED


class _DrainedSocket:
    """One zmq socket whose messages arrive by callback."""

    def __init__(self, socket: zmq.Socket[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.socket = socket
        self.loop = loop
        self.closed = False
        self._draining = False
        self._look_scheduled = False
        self._recv = socket.recv
        # Of the class below, without what it adds for types of sockets that are not used here.
        self._send = super(zmq.Socket, socket).send
        self._fd = int(socket.getsockopt(zmq.FD))
        loop.add_reader(self._fd, self._drain)
        self.look_again()

    def _receive_one(self) -> None:
        """Take one message off the socket. Raises `zmq.Again` when there is none."""
        raise AssertionError("a drained socket says how it receives")

    def _skip_rest(self) -> None:
        """Read off what should not be there: an envelope is one frame."""
        while self.socket.getsockopt(zmq.RCVMORE):
            self.socket.recv(zmq.NOBLOCK)

    def look_again(self) -> None:
        """Drain soon: something may have come in without a wake-up."""
        if not (self._draining or self._look_scheduled):
            self._look_scheduled = True
            self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._look_scheduled = False
        if self.closed:
            return
        self._draining = True
        drained = False
        try:
            for _ in range(BATCH):
                self._receive_one()
                if self.closed:
                    return
        except zmq.Again:
            drained = True
        finally:
            # Also when a callback raised: the edge is used up, what is left must be looked for.
            self._draining = False
            if not (drained or self.closed):
                self.look_again()

    def close_socket(self, linger_ms: int = LINGER_MS) -> None:
        if not self.closed:
            self.closed = True
            self.loop.remove_reader(self._fd)
            self.socket.close(linger_ms)


class ZmqListener(_DrainedSocket):
    """A ROUTER. ROUTER_MANDATORY: without it, a full queue loses messages without a word."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        on_frame: OnFrame,
    ) -> None:
        self.endpoint = endpoint
        self._on_frame = on_frame
        self._backlog: deque[tuple[bytes, bytes]] = deque()
        self._behind: dict[bytes, int] = {}
        self._retry: asyncio.TimerHandle | None = None
        super().__init__(socket, loop)

    def _receive_one(self) -> None:
        peer = self._recv(_NOBLOCK)
        # Uncopied: such a part knows whether more follow. Asking the socket for that takes three
        # times as long as receiving.
        part = self._recv(_NOBLOCK, False)
        if part.more:
            self._skip_rest()
            # Is sure to be refused, and the sender told.
            self._on_frame(peer, b"")
        else:
            self._on_frame(peer, part.bytes)

    def send(self, peer: bytes, frame: bytes) -> None:
        """See `Listener.send`."""
        if self.closed:
            raise ActorDied("the listener is closed")
        try:
            if peer in self._behind or not self._send_now(peer, frame):
                self._queue(peer, frame)
        finally:
            # Also after a send that was refused: it too may have swallowed an edge.
            self.look_again()

    def _send_now(self, peer: bytes, frame: bytes) -> bool:
        try:
            self._send(peer, _SNDMORE)
            self._send(frame, _NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise ActorDied("the peer is gone") from None
            raise
        return True

    def _queue(self, peer: bytes, frame: bytes) -> None:
        if len(self._backlog) >= BACKLOG_FRAMES:
            raise Overloaded("the peer reads too slowly", retry_after_s=0.1)
        self._backlog.append((peer, frame))
        self._behind[peer] = self._behind.get(peer, 0) + 1
        self._schedule_retry()

    def _schedule_retry(self) -> None:
        if self._retry is None:
            self._retry = self.loop.call_later(_RETRY_S, self._flush)

    def _flush(self) -> None:
        self._retry = None
        if self.closed:
            return
        waiting, self._backlog = self._backlog, deque()
        self._behind = {}
        for peer, frame in waiting:
            sent = False
            if peer not in self._behind:
                # A peer that went away meanwhile needs nothing more; its conversations end
                # when somebody next sends to it.
                with contextlib.suppress(ActorDied):
                    sent = self._send_now(peer, frame)
                    if not sent:
                        self._behind[peer] = 0
            if not sent and peer in self._behind:
                self._backlog.append((peer, frame))
                self._behind[peer] += 1
        if self._backlog:
            self._schedule_retry()
        self.look_again()

    def close(self) -> None:
        """See `Listener.close`."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.close_socket()


class ZmqLink(_DrainedSocket):
    """A DEALER to one incarnation of one actor, with a monitor that tells when it is cut."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        monitor = socket.get_monitor_socket(_LOST)
        self._monitor = _Monitor(monitor, loop, self._lost)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            loop.call_soon(self._lost, f"cannot connect: {error}")
        super().__init__(socket, loop)

    def _receive_one(self) -> None:
        part = self._recv(_NOBLOCK, False)
        if part.more:
            self._skip_rest()
            self._on_frame(b"")
        else:
            self._on_frame(part.bytes)

    def send(self, frame: bytes) -> None:
        """See `Link.send`."""
        if self.closed:
            raise ActorDied("the connection is closed")
        try:
            self._send(frame, _NOBLOCK)
        except zmq.Again:
            # Either the queue is full, or the connection is gone and with it the queue: then the
            # monitor has been told already, but may not have had its turn on the loop yet.
            self._monitor.look_now()
            if self.closed:
                raise ActorDied("the connection was cut") from None
            raise Overloaded("the receiver reads too slowly", retry_after_s=0.1) from None
        finally:
            # Also after a send that was refused: it too may have swallowed an edge.
            self.look_again()

    def _lost(self, reason: str) -> None:
        if not self.closed:
            # What the peer had sent before it went is still to be read.
            self._drain_rest()
        if not self.closed:
            # Still: a callback may have closed it meanwhile, and then nobody is to be told.
            self._close(linger_ms=0)
            self._on_lost(reason)

    def _drain_rest(self) -> None:
        while not self.closed:
            try:
                self._receive_one()
            except zmq.Again:
                return
            except Exception as error:  # noqa: BLE001 - a callback's defect hides no later frame
                self.loop.call_exception_handler(
                    {"message": "a callback of a lost link raised", "exception": error}
                )

    def close(self) -> None:
        """See `Link.close`."""
        self._close(LINGER_MS)

    def _close(self, linger_ms: int) -> None:
        if not self.closed:
            # The monitor is told to stop before its reader goes: zmq's I/O thread blocks on an
            # event that nobody can take, with the lock held that stopping needs.
            self.socket.disable_monitor()
            self._monitor.close_socket()
            self.close_socket(linger_ms)


class _Monitor(_DrainedSocket):
    """The PAIR socket on which zmq reports what happens to a link's connection."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[str], None],
    ) -> None:
        self._on_lost = on_lost
        super().__init__(socket, loop)

    def look_now(self) -> None:
        """Take what has been reported so far."""
        self._drain()

    def _receive_one(self) -> None:
        event = zmq.utils.monitor.recv_monitor_message(self.socket, zmq.NOBLOCK)
        if event["event"] & _LOST:
            self._on_lost("the connection was cut")


class ZmqTransport:
    """zmq sockets on the running event loop. One zmq context, made after any fork."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 8192)
        self._open: set[ZmqListener | ZmqLink] = set()
        self._closed = False

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.set(zmq.MAXMSGSIZE, HARD_LIMIT_BYTES)
        socket.set(zmq.LINGER, LINGER_MS)
        return socket

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        """See `Transport.listen`."""
        socket = self._socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.BACKLOG, 4096)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise RunFolderUnusable(f"cannot listen on {endpoint}: {error}") from None
        listener = ZmqListener(socket, self._loop, endpoint, on_frame)
        self._forget_closed()
        self._open.add(listener)
        return listener

    def connect(
        self, endpoint: str, on_frame: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> Link:
        """See `Transport.connect`."""
        socket = self._socket(zmq.DEALER)
        socket.set(zmq.RECONNECT_IVL, _NEVER_MS)
        link = ZmqLink(socket, self._loop, endpoint, on_frame, on_lost)
        self._forget_closed()
        self._open.add(link)
        return link

    def _forget_closed(self) -> None:
        self._open = {one for one in self._open if not one.closed}

    def close(self) -> None:
        """See `Transport.close`. Returns when all is sent, or `LINGER_MS` later."""
        if not self._closed:
            self._closed = True
            for one in self._open:
                one.close()
            self._open.clear()
            self._context.term()
