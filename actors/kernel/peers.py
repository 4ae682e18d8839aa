"""Who is at the other end of each connection, and what he may do. Pure.

The name a listener gives to a connection (its routing id, and the key that one from another
machine has proved) is the only thing trusted. What a local connection may do comes from its
socket, and is raised to `internal` by a hello with the secret; what a key may do says the list of
keys, which is asked for every message.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import NotAllowed
from protocol.messages.actor import Hello
from protocol.messages.base import Role
from protocol.ports import Peer, Remote

# An enum's member is looked up anew, slowly, wherever it is named; this one is for every request.
_INTERNAL = Role.INTERNAL


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connection that proved to be an actor's."""

    name: str
    epoch: str


class Peers:
    """Connections that said hello; all others are strangers."""

    def __init__(
        self,
        secret: bytes,
        strangers: Role = Role.OPERATE,
        role_of_key: Callable[[str], Role | None] = lambda key: None,
    ) -> None:
        self.strangers = strangers
        """What a connection may do that proved nothing. On a local socket in a folder that only
        its owner can enter, that is everything the owner may do."""
        self._secret = secret
        self._role_of_key = role_of_key
        self._known: dict[Peer, PeerInfo] = {}

    def hello(self, peer: Peer, hello: Hello) -> PeerInfo:
        """Take a hello. Raises `NotAllowed` when the secret is wrong; the role stays low."""
        if type(peer) is Remote:
            raise NotAllowed("a hello is for actors, which are all on one machine")
        if not hmac.compare_digest(hello.secret, self._secret):
            self._known.pop(peer, None)
            raise NotAllowed("the hello's secret is wrong: it is not of this boot")
        info = self._known[peer] = PeerInfo(hello.name, hello.epoch)
        return info

    def role(self, peer: Peer) -> Role | None:
        """What this connection may do; None: nothing, its key is not on the list any more."""
        if type(peer) is Remote:
            return self._role_of_key(peer.key)
        return _INTERNAL if peer in self._known else self.strangers

    def check(self, peer: Peer) -> None:
        """Raises `NotAllowed` where this connection may do nothing any more."""
        if type(peer) is Remote and self._role_of_key(peer.key) is None:
            raise NotAllowed("this key may not come in any more: it was revoked")

    def info(self, peer: Peer) -> PeerInfo | None:
        """Which actor is at the other end, where that was proved."""
        return self._known.get(peer)

    def forget(self, epoch: str) -> list[Peer]:
        """An incarnation is dead; returns the connections it had."""
        gone = [peer for peer, info in self._known.items() if info.epoch == epoch]
        for peer in gone:
            del self._known[peer]
        return gone
