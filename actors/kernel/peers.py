"""Who is at the other end of each connection, and what he may do. Pure.

The name a listener gives to a connection (its routing id) is the only thing trusted. What a
connection may do comes from its socket, and is raised to `internal` by a hello with the secret.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from protocol.errors import NotAllowed
from protocol.messages.actor import Hello
from protocol.messages.base import Role

# An enum's member is looked up anew, slowly, wherever it is named; this one is for every request.
_INTERNAL = Role.INTERNAL


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connection that proved to be an actor's."""

    name: str
    epoch: str


class Peers:
    """Connections that said hello; all others are strangers."""

    def __init__(self, secret: bytes, strangers: Role = Role.OPERATE) -> None:
        self.strangers = strangers
        """What a connection may do that proved nothing. On a local socket in a folder that only
        its owner can enter, that is everything the owner may do."""
        self._secret = secret
        self._known: dict[bytes, PeerInfo] = {}

    def hello(self, peer: bytes, hello: Hello) -> PeerInfo:
        """Take a hello. Raises `NotAllowed` when the secret is wrong; the role stays low."""
        if not hmac.compare_digest(hello.secret, self._secret):
            self._known.pop(peer, None)
            raise NotAllowed("the hello's secret is wrong: it is not of this boot")
        info = self._known[peer] = PeerInfo(hello.name, hello.epoch)
        return info

    def role(self, peer: bytes) -> Role:
        """What this connection may do."""
        return _INTERNAL if peer in self._known else self.strangers

    def info(self, peer: bytes) -> PeerInfo | None:
        """Which actor is at the other end, where that was proved."""
        return self._known.get(peer)

    def forget(self, epoch: str) -> list[bytes]:
        """An incarnation is dead; returns the connections it had."""
        gone = [peer for peer, info in self._known.items() if info.epoch == epoch]
        for peer in gone:
            del self._known[peer]
        return gone
