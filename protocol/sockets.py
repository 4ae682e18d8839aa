"""The two kinds of sockets: a ROUTER that listens, and a DEALER that is linked to one incarnation.

A frame alone is sent at once. In a burst, when the last message held several frames or the last
turn of the event loop sent several, frames for one peer wait for each other until the turn is over
(`protocol.batch`). To those who use a transport that does not show.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable

import zmq
import zmq.utils.monitor

from protocol.batch import Lane
from protocol.blobs import Loaded
from protocol.drained import LINGER_MS, DrainedSocket
from protocol.errors import ActorDied, Overloaded
from protocol.ports import OnFrame, Peer

BACKLOG_FRAMES = 10_000
"""Frames held on our side for a peer whose zmq queue is full. Of each peer, as one that reads
slowly must take nothing from another."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""The same in bytes; one more frame is always taken."""
_RETRY_S = 0.005
_REMEMBERED_GONE = 1024
_GONE = object()
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE | zmq.NOBLOCK)

# A link's monitor: the connection is lost for good at any of these, as links never reconnect.
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED


class ZmqListener(DrainedSocket):
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
        self._unread: deque[tuple[Peer, bytes]] = deque()
        self._lanes: dict[Peer, Lane] = {}
        self._gone: dict[Peer, None] = {}
        self._retry: asyncio.TimerHandle | None = None
        super().__init__(socket, loop)

    def _receive_one(self) -> int:
        """See `DrainedSocket._receive_one`."""
        if self._unread:
            self._on_frame(*self._unread.popleft())
            return 1
        peer = self._receive_peer()
        frames = self._receive_frames()
        rest = iter(frames)
        try:
            for frame in rest:
                self._on_frame(peer, frame)
                if self.closed:
                    break
        except BaseException:
            # The others of its batch are none the worse for it.
            self._unread.extend((peer, frame) for frame in rest)
            raise
        return len(frames)

    def _receive_peer(self) -> Peer:
        """From whom the next message is. Raises `zmq.Again`."""
        peer: bytes = self._recv(_NOBLOCK)
        return peer

    def send(self, peer: Peer, frame: bytes) -> None:
        """See `Listener.send`."""
        if self.closed:
            raise ActorDied("the listener is closed")
        self._sent += 1
        try:
            if self._gone and self._gone.pop(peer, _GONE) is not _GONE:
                raise ActorDied("the peer is gone")
            lane = self._lanes.get(peer)
            waits = self._bursting or self._sent > 1 or lane is not None
            if waits or not self._send_now(peer, frame):
                self._wait(peer, frame, lane)
        finally:
            # Also after a send that was refused: it too may have swallowed an edge.
            self.look_again()

    def _send_now(self, peer: Peer, message: bytes) -> bool:
        """False when zmq's queue for the peer is full. Raises `ActorDied`."""
        try:
            self._send(peer, _SNDMORE)  # type: ignore[arg-type]  # a `Remote` is sent to by its bytes
            if type(message) is Loaded:
                self._send_loaded(message)
            else:
                self._send(message, _NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise ActorDied("the peer is gone") from None
            raise
        return True

    def _wait(self, peer: Peer, frame: bytes, lane: Lane | None) -> None:
        if lane is None:
            lane = self._lanes[peer] = Lane(functools.partial(self._send_now, peer))
        elif lane.stuck and (len(lane.frames) >= BACKLOG_FRAMES or lane.size >= BACKLOG_BYTES):
            raise Overloaded("the peer reads too slowly", retry_after_s=0.1)
        if lane.add(frame) and not lane.stuck:
            self._flush_lane(peer, lane)

    def _flush_lane(self, peer: Peer, lane: Lane) -> None:
        try:
            lane.flush()
        except ActorDied:
            # Its frames are nobody's any more. Who sends to it next is told.
            del self._lanes[peer]
            self._gone[peer] = None
            if len(self._gone) > _REMEMBERED_GONE:
                del self._gone[next(iter(self._gone))]
            return
        if not lane.frames:
            del self._lanes[peer]
        elif self._retry is None:
            self._retry = self.loop.call_later(_RETRY_S, self._try_stuck_again)

    def _flush(self) -> bool:
        """See `DrainedSocket._flush`."""
        if self.closed:
            return False
        ready = [(peer, lane) for peer, lane in self._lanes.items() if not lane.stuck]
        for peer, lane in ready:
            self._flush_lane(peer, lane)
        return bool(ready)

    def _try_stuck_again(self) -> None:
        self._retry = None
        if not self.closed:
            for lane in self._lanes.values():
                lane.stuck = False
            self._flush()
            self.look_again()

    def close(self) -> None:
        """See `Listener.close`."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._flush()
        self.close_socket()


class ZmqLink(DrainedSocket):
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
        self._unread: deque[bytes] = deque()
        self._lane = Lane(self._send_now)
        self._retry: asyncio.TimerHandle | None = None
        monitor = socket.get_monitor_socket(_LOST)
        self._monitor = _Monitor(monitor, loop, self._lost)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            loop.call_soon(self._lost, f"cannot connect: {error}")
        super().__init__(socket, loop)

    def _receive_one(self) -> int:
        """See `DrainedSocket._receive_one`."""
        if self._unread:
            self._on_frame(self._unread.popleft())
            return 1
        frames = self._receive_frames()
        rest = iter(frames)
        try:
            for frame in rest:
                self._on_frame(frame)
                if self.closed:
                    break
        except BaseException:
            # The others of its batch are none the worse for it.
            self._unread.extend(rest)
            raise
        return len(frames)

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """See `Link.send`."""
        if self.closed:
            raise ActorDied("the connection is closed")
        self._sent += 1
        lane = self._lane
        try:
            if lane.stuck:
                self._refuse()
            if lane.frames or (not at_once and (self._bursting or self._sent > 1)):
                if lane.add(frame) or at_once:
                    self._flush()
            elif not self._send_now(frame):
                self._refuse()
        finally:
            # Also after a send that was refused: it too may have swallowed an edge.
            self.look_again()

    def _send_now(self, message: bytes) -> bool:
        try:
            if type(message) is Loaded:
                self._send_loaded(message)
            else:
                self._send(message, _NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _refuse(self) -> None:
        # Either the queue is full, or the connection is gone and with it the queue: then the
        # monitor has been told already, but may not have had its turn on the loop yet.
        self._monitor.look_now()
        if self.closed:
            raise ActorDied("the connection was cut")
        raise Overloaded("the receiver reads too slowly", retry_after_s=0.1)

    def _flush(self) -> bool:
        """See `DrainedSocket._flush`."""
        lane = self._lane
        if self.closed or lane.stuck or not lane.frames:
            return False
        lane.flush()
        if lane.stuck and self._retry is None:
            self._retry = self.loop.call_later(_RETRY_S, self._try_again)
        return True

    def _try_again(self) -> None:
        self._retry = None
        self._lane.stuck = False
        self._flush()
        if not self.closed:
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
        self._flush()
        self._close(LINGER_MS)

    def _close(self, linger_ms: int) -> None:
        if not self.closed:
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            # The monitor is told to stop before its reader goes: zmq's I/O thread blocks on an
            # event that nobody can take, with the lock held that stopping needs.
            self.socket.disable_monitor()
            self._monitor.close_socket()
            self.close_socket(linger_ms)


class _Monitor(DrainedSocket):
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

    def _receive_one(self) -> int:
        event = zmq.utils.monitor.recv_monitor_message(self.socket, zmq.NOBLOCK)
        if event["event"] & _LOST:
            self._on_lost("the connection was cut")
        return 1
