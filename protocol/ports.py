"""What a transport is: listeners that many peers reach, and links to one peer.

Both implementations, zmq and the in-memory loopback, keep this contract; one suite runs on both.
All calls and callbacks happen on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnFrame = Callable[[bytes, bytes], None]
"""Called with (peer, frame). The peer is the listener's own name for the connection."""


class Listener(Protocol):
    """An endpoint that peers connect to."""

    endpoint: str

    def send(self, peer: bytes, frame: bytes) -> None:
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

    def send(self, frame: bytes) -> None:
        """Queue a frame; never blocks. Raises `ActorDied` or `Overloaded` as a listener does."""
        ...

    def close(self) -> None:
        """Disconnect; ``on_lost`` is not called. Idempotent."""
        ...


class Transport(Protocol):
    """Makes listeners and links."""

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        """Bind. Raises `RunFolderUnusable` when the endpoint cannot be bound."""
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
