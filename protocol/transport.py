"""The zmq transport: makes listeners and links on the running event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import zmq

from protocol.curve import (
    ClientCurve,
    RemoteListener,
    ServerCurve,
    Zap,
    prepare_connecting,
    prepare_listening,
    shuffle_routing_ids,
)
from protocol.drained import HARD_LIMIT_BYTES, LINGER_MS
from protocol.endpoints import REMOTE
from protocol.errors import AddressUnusable, RunFolderUnusable, SetupError, UnusableKey
from protocol.ports import Link, Listener, OnFrame
from protocol.sockets import ZmqLink, ZmqListener

HIGH_WATER_MARK = 1_000
"""Messages that zmq queues for one peer at each end before it says EAGAIN. Batches of small frames
are at most 16 KiB, so that a peer that does not read costs some 16 MiB."""
ROOT = 0
"""May do what every other user may, and is let in too."""
_NEVER_MS = 3_600_000
"""A link is closed as soon as it is lost, long before zmq would connect it again. Zmq's own word
for never, -1, throws away what had arrived on the connection and was not read yet."""

_NOT_CLOSED: set[ZmqTransport] = set()
"""Kept from the garbage collector: a zmq context that is collected together with sockets that are
still open waits for them for ever, in whatever code the collector happened to interrupt. So a
connection that somebody forgot to close costs its descriptors, and nothing else."""


class ZmqTransport:
    """zmq sockets on the running event loop. One zmq context, made after any fork."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        server: ServerCurve | None = None,
        client: ClientCurve | None = None,
    ) -> None:
        """``server`` and ``client``: what it takes to listen to other machines (``tcp://``), and
        to connect to them."""
        self._loop = loop or asyncio.get_running_loop()
        self.server = server
        self._client = client
        self._zap: Zap | None = None
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 8192)
        self._open: set[ZmqListener | ZmqLink] = set()
        self._closed = False
        _NOT_CLOSED.add(self)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.set(zmq.MAXMSGSIZE, HARD_LIMIT_BYTES)
        socket.set(zmq.LINGER, LINGER_MS)
        return socket

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        """See `Transport.listen`."""
        if _is_remote(endpoint):
            shuffle_routing_ids()
        socket = self._socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.BACKLOG, 4096)
        curve = self.server if _is_remote(endpoint) else None
        if curve is not None:
            prepare_listening(socket, endpoint, curve)
            if self._zap is None:
                self._zap = Zap(self._socket(zmq.ROUTER), self._loop, curve.door)
        elif _is_remote(endpoint):
            socket.close(0)
            raise AddressUnusable(f"{endpoint}: other machines are listened to with CURVE alone")
        else:
            # The folder is closed to others; should somebody open it, the socket still is.
            for user in {os.geteuid(), ROOT}:
                socket.set(zmq.IPC_FILTER_UID, user)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise _cannot_listen(endpoint, error) from None
        if curve is not None:
            door = curve.door
            listener: ZmqListener = RemoteListener(socket, self._loop, endpoint, on_frame, door)
        else:
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
        if _is_remote(endpoint):
            if self._client is None:
                socket.close(0)
                raise UnusableKey(f"{endpoint}: other machines are spoken to with a key alone")
            prepare_connecting(socket, endpoint, self._client)
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
            if self._zap is not None:
                self._zap.close_socket()
            self._context.term()
            _NOT_CLOSED.discard(self)


def _is_remote(endpoint: str) -> bool:
    return endpoint.startswith(REMOTE)


def _cannot_listen(endpoint: str, error: zmq.ZMQError) -> SetupError:
    if _is_remote(endpoint):
        return AddressUnusable(
            f"cannot listen on {endpoint}: {error}; choose an address of this machine and a free "
            "port, as in --set remote.listen=tcp://127.0.0.1:5570"
        )
    return RunFolderUnusable(f"cannot listen on {endpoint}: {error}")
