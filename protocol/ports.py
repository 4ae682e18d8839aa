"""What a transport is: listeners that many peers reach, and links to one peer.

All implementations, zmq's local and remote sockets and the in-memory loopback, keep this contract;
one suite runs on all of them. All calls and callbacks happen on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Remote(NamedTuple):
    """A connection from another machine, and the key that it has proved to have."""

    connection: bytes
    key: str
    """The public one, 64 hexadecimal digits."""


Peer = bytes | Remote
"""A listener's own name for a connection: bytes for one of this machine."""
OnFrame = Callable[[Peer, bytes], None]
"""Called with (peer, frame)."""


class Listener(Protocol):
    """An endpoint that peers connect to."""

    endpoint: str

    def send(self, peer: Peer, frame: bytes) -> None:
        """Queue a frame for one peer; never blocks.

        Raises `ActorDied` when the peer is gone and `Overloaded` when it reads too slowly and
        its bounded queue is full. Nothing is ever dropped without one of the two.
        """
        ...

    def close(self) -> None:
        """Stop listening. What was queued is still sent, for a short while. Idempotent."""
        ...


class Link(Protocol):
    """One connection to one endpoint. Never reconnects: a new incarnation needs a new link."""

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        """Queue a frame; never blocks. Raises `ActorDied` or `Overloaded` as a listener does.

        ``at_once``: somebody waits for it; it is not to wait for others to travel with.
        """
        ...

    def close(self) -> None:
        """Disconnect; ``on_lost`` is not called. Idempotent."""
        ...


class Transport(Protocol):
    """Makes listeners and links."""

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        """Bind. Raises `SetupError` when the endpoint cannot be bound."""
        ...

    def connect(
        self, endpoint: str, on_frame: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> Link:
        """Connect; frames may be sent at once. ``on_lost`` is called at most once, with a reason,
        when the connection could not be made or broke; the link is closed then."""
        ...

    def close(self) -> None:
        """Close every listener and link. Idempotent."""
        ...


class Door(Protocol):
    """Who may come in from other machines."""

    def lets_in(self, key: str, address: str) -> bool:
        """Whether whoever has this public key may connect; asked once for each connection."""
        ...

    def turned_away(self, why: str) -> None:
        """Somebody did not get as far as that."""
        ...
