"""What goes out of a server: answers, parts of streams, and errors that always arrive."""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from actors.kernel.farewells import Farewells
from actors.kernel.faults import Faults
from actors.kernel.peers import Peers
from actors.kernel.request import Request, Tally
from protocol.codec import Codec
from protocol.envelope import NO_ID, NOTHING, Envelope, Kind
from protocol.errors import (
    ActorDied,
    Cancelled,
    NotAllowed,
    NoyauError,
    Overloaded,
    ProtocolError,
)
from protocol.messages.base import Message
from protocol.ports import Listener, Peer

ERROR_CHARACTERS = 500
"""What is kept of the message of an error that is too large to be sent whole."""

# Plain numbers: packing an enum's member takes three times as long.
_ERROR, _HEARTBEAT = Kind.ERROR.value, Kind.HEARTBEAT.value

_MODEL = type(Message)
"""The class of models: to look at it costs less than `isinstance` does with these."""

log = structlog.get_logger("kernel")


class Outbox:
    """Packs and sends for one actor, through the listener that it is given."""

    def __init__(
        self,
        name: str,
        epoch: str,
        codec: Codec,
        tally: Tally,
        peers: Peers,
        farewells: Farewells,
        faults: Faults | None = None,
    ) -> None:
        self.listener: Listener | None = None
        self.remote: Listener | None = None
        """The one for other machines, where there is one."""
        self._peers = peers
        self._farewells = farewells
        self._name = name
        self._epoch = epoch
        self._codec = codec
        self._tally = tally
        self._faults = faults

    def answer(self, request: Request, kind: int, body: object) -> None:
        """Send a reply or error. A peer that is gone by now needs none. Raises `NotAllowed` where
        its key was revoked."""
        self.send(request.peer, request.id, kind, request.operation, body)

    def send(
        self, peer: Peer, conversation: bytes, kind: int, operation: str, body: object,
        sequence: int = 0,
    ) -> None:  # fmt: skip
        """The same, for what never became a request."""
        try:
            self._transmit(peer, conversation, kind, operation, body, sequence)
        except ActorDied:
            self._tally.late += 1
        except Overloaded as error:
            # The peer asks faster than it reads answers; its own deadline tells it the rest.
            self._tally.rejected += 1
            self._farewells.lacks(peer)
            log.warning("answer_not_sent", operation=operation, error=error.message)

    def error(self, peer: Peer, conversation: bytes, operation: str, error: NoyauError) -> None:
        """Send an error, whatever is in it: it must not become silence. Who has a key that was
        revoked is told that, and not what went wrong."""
        try:
            self._peers.check(peer)
        except NotAllowed as revoked:
            error = revoked
        self.send(peer, conversation, _ERROR, operation, error.to_body())

    def deliver(self, request: Request, kind: int, body: object, sequence: int) -> None:
        """Send a part of a stream. Raises `Cancelled` when its reader is gone, and `NotAllowed`
        when its key was revoked."""
        try:
            self._transmit(request.peer, request.id, kind, request.operation, body, sequence)
        except ActorDied:
            raise Cancelled("the reader is gone") from None

    def tell_sent(self, request: Request, chunks: int) -> None:
        """Tell the reader of a stream how many chunks it was sent so far."""
        self.send(request.peer, request.id, _HEARTBEAT, request.operation, None, chunks)

    def reaches(self, peer: Peer) -> bool:
        """Whether a peer is still there, as far as sending it nothing tells. Raises `NotAllowed`
        where its key was revoked."""
        try:
            listener = self._listener(peer)
            if listener is not None:
                listener.send(peer, NOTHING)
        except ActorDied:
            return False
        except Overloaded:
            # It reads slowly, so it is there.
            return True
        return True

    def _transmit(
        self,
        peer: Peer,
        conversation: bytes,
        kind: int,
        operation: str,
        body: object,
        sequence: int = 0,
    ) -> None:
        # In place, and not by `_listener`: this is for every message.
        listener = self.listener if type(peer) is bytes else self._remote(peer, kind)
        if listener is None:
            raise ActorDied("not listening yet")
        # A model's fields themselves: for the model msgspec has to ask, which takes as long again.
        fields = body.__dict__ if type(type(body)) is _MODEL else body
        envelope = Envelope(
            conversation, kind, operation, self._name, self._epoch, "", NO_ID, sequence,
            body=fields,
        )  # fmt: skip
        try:
            frame = self._codec.encode(envelope)
        except ProtocolError:
            if kind != _ERROR:
                raise
            frame = self._codec.encode(_shortened(envelope))
        if self._faults is None or not self._faults.takes(listener, peer, kind, frame):
            listener.send(peer, frame)
        else:
            self._farewells.lacks(peer)

    def _listener(self, peer: Peer) -> Listener | None:
        return self.listener if type(peer) is bytes else self._remote(peer)

    def _remote(self, peer: Peer, kind: int = _HEARTBEAT) -> Listener | None:
        """Raises `NotAllowed` where the peer's key was revoked: it is told that, and no more."""
        if kind != _ERROR:
            self._peers.check(peer)
        return self.remote


def _shortened(envelope: Envelope) -> Envelope:
    """An error that cannot be packed, or is too large, reduced to what always fits."""
    message = envelope.body["message"][:ERROR_CHARACTERS].encode(errors="replace").decode()
    return replace(envelope, operation="", body={"code": envelope.body["code"], "message": message})
