"""CURVE (RFC 26/CurveZMQ): the one way in from other machines, encrypted, for known keys alone.

Who has no allowed key is answered nothing: not that his key is wrong, and not by whom. That is
ZAP's (RFC 27) status 300, on which libzmq falls silent; 400 would say so.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import zmq
import zmq.utils.monitor

from protocol.drained import DrainedSocket
from protocol.errors import ActorDied
from protocol.keys import KeyPair, parse_key
from protocol.ports import Door, OnFrame, Peer, Remote
from protocol.sockets import ZmqListener

HANDSHAKE_MS = 5_000
"""Time from the connection to the proof; then it is cut, at both ends."""
PROBE_MS = 2_000
"""A cable that was pulled tells nobody: both ends of a connection ask each other (ZMTP's ping)."""
SILENCE_MS = 6_000
"""How long the other end may be silent before the connection is given up."""
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_DOMAIN = b"noyau"
_NOBLOCK = int(zmq.NOBLOCK)
# What a listener's monitor tells of those who did not get as far as showing a key.
_FAILED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it speaks no CURVE, or not to this server's key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it left before it had shown a key",
}
_WATCHED = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
)
MOST_CONNECTIONS = 4096
"""From other machines, of one process. Strangers count until their handshake has taken too long."""
SHARE_OF_FILES = 0.5
"""Of the files that a process may have open: the rest is for its own sockets and files. Without one
left, libzmq aborts the process at the next local connection."""
CLOSED_S = 1.0
"""How long nobody from other machines is listened to when they were too many."""


@dataclass(frozen=True, slots=True)
class ServerCurve:
    """What it takes to listen to other machines."""

    keys: KeyPair
    door: Door


@dataclass(frozen=True, slots=True)
class ClientCurve:
    """What it takes to connect to another machine."""

    server: str
    """The server's public key."""
    keys: KeyPair


def new_key_pair() -> KeyPair:
    """A key pair that nobody else has."""
    public, secret = zmq.curve_keypair()
    return KeyPair(parse_key(public.decode()), parse_key(secret.decode()))


def prepare_listening(socket: zmq.Socket[bytes], endpoint: str, curve: ServerCurve) -> None:
    """Have a socket take nobody but those whom its transport's ZAP lets in."""
    _prepare(socket, endpoint)
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, bytes.fromhex(curve.keys.secret))
    # Enforced: were nobody there to ask, everybody would be let in.
    socket.set(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def prepare_connecting(socket: zmq.Socket[bytes], endpoint: str, curve: ClientCurve) -> None:
    """Have a socket prove its key, to the one server that is meant."""
    _prepare(socket, endpoint)
    socket.set(zmq.CURVE_SERVERKEY, bytes.fromhex(curve.server))
    socket.set(zmq.CURVE_PUBLICKEY, bytes.fromhex(curve.keys.public))
    socket.set(zmq.CURVE_SECRETKEY, bytes.fromhex(curve.keys.secret))
    socket.set(zmq.CONNECT_TIMEOUT, HANDSHAKE_MS)


def _prepare(socket: zmq.Socket[bytes], endpoint: str) -> None:
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.set(zmq.HEARTBEAT_IVL, PROBE_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
    if "[" in endpoint:
        socket.set(zmq.IPV6, 1)


class Zap(DrainedSocket):
    """Answers libzmq's question, once for each connection, whether a key may come in."""

    def __init__(
        self, socket: zmq.Socket[bytes], loop: asyncio.AbstractEventLoop, door: Door
    ) -> None:
        self._door = door
        socket.bind(_ZAP_ENDPOINT)
        super().__init__(socket, loop)

    def _receive_one(self) -> int:
        """See `DrainedSocket._receive_one`."""
        # RFC 27: version, request id, domain, address, identity, mechanism, credentials.
        asker, _, version, request, _, address, _, *proof = self.socket.recv_multipart(_NOBLOCK)
        key = proof[1].hex() if len(proof) == 2 and proof[0] == b"CURVE" else ""
        known = bool(key) and self._door.lets_in(key, address.decode(errors="replace"))
        status = b"200" if known else b"300"
        self.socket.send_multipart(
            [asker, b"", version, request, status, b"", key.encode(), b""], _NOBLOCK
        )
        return 1


class RemoteListener(ZmqListener):
    """A ROUTER for other machines, whose peers are `Remote`."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        on_frame: OnFrame,
        door: Door,
    ) -> None:
        self._take = on_frame
        self._door = door
        self._most = most_connections()
        self._shut: asyncio.TimerHandle | None = None
        self._watch = _Watch(_monitor_of(socket), loop, door, self._too_many)
        super().__init__(socket, loop, endpoint, self._on_remote_frame)

    def _receive_peer(self) -> Peer:
        name = self.socket.recv(_NOBLOCK, copy=False)
        return Remote(name.bytes, str(name.get("User-Id")))

    def _on_remote_frame(self, peer: Peer, frame: bytes) -> None:
        assert isinstance(peer, Remote)
        if peer.connection[:1] == b"\x00":
            self._take(peer, frame)
        else:
            # One that is chosen may be somebody's who was here before, and gets his answers.
            self._door.turned_away("it chooses its routing id by itself")

    def send(self, peer: Peer, frame: bytes) -> None:
        """See `Listener.send`."""
        if not isinstance(peer, Remote):
            raise ActorDied("the peer is not from another machine")
        super().send(peer.connection, frame)

    def _too_many(self, connections: int) -> None:
        """Where there are too many, cut them all, and listen to nobody for a while: zmq cannot let
        go of some. Who belongs here comes back, and finds what was kept for him."""
        if connections <= self._most or self._shut is not None or self.closed:
            return
        self._door.turned_away(f"{connections} connections are more than {self._most}; all are cut")
        self.socket.unbind(self.endpoint)
        # Of those that an unbinding cuts zmq says nothing.
        self._watch.connections = 0
        self._shut = self.loop.call_later(CLOSED_S, self._open_again)

    def _open_again(self) -> None:
        self._shut = None
        if self.closed:
            return
        try:
            self.socket.bind(self.endpoint)
        except zmq.ZMQError as error:
            self._door.turned_away(f"cannot listen to anybody again: {error}")
            self._shut = self.loop.call_later(CLOSED_S, self._open_again)

    def close(self) -> None:
        """See `Listener.close`."""
        if self._shut is not None:
            self._shut.cancel()
        if not self.closed:
            self.socket.disable_monitor()
            self._watch.close_socket()
        super().close()


def most_connections() -> int:
    """How many other machines may be connected to this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MOST_CONNECTIONS, int(soft * SHARE_OF_FILES))


def _monitor_of(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Where a socket's events can be read. Without a bound: in a full queue zmq's I/O thread would
    wait for this one, with the lock held that is needed to stop it."""
    address = f"inproc://monitor.{id(socket)}"
    socket.monitor(address, _WATCHED)
    monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
    monitor.set(zmq.RCVHWM, 0)
    monitor.connect(address)
    return monitor


def shuffle_routing_ids() -> None:
    """Have the next ROUTER give its connections other names than any before it.

    libzmq counts them up from a number of C's `rand`, which it seeds nowhere: of every process they
    would be the same. A client may choose its own, also one of these; who could guess another's
    would get what is sent to that one, or end the process by taking the next.
    """
    ctypes.CDLL(None).srand(secrets.randbits(32))


class _Watch(DrainedSocket):
    """Sees who comes, who goes, and who never shows a key."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        loop: asyncio.AbstractEventLoop,
        door: Door,
        told: Callable[[int], None],
    ) -> None:
        """``told`` is called with the number of connections when it grows."""
        self.connections = 0
        self._door = door
        self._told = told
        super().__init__(socket, loop)

    def _receive_one(self) -> int:
        """See `DrainedSocket._receive_one`."""
        event = zmq.utils.monitor.recv_monitor_message(self.socket, zmq.NOBLOCK)
        if event["event"] == zmq.EVENT_ACCEPTED:
            self.connections += 1
            self._told(self.connections)
        elif event["event"] == zmq.EVENT_DISCONNECTED:
            self.connections = max(0, self.connections - 1)
        else:
            self._door.turned_away(_FAILED[event["event"]])
        return 1
