"""Streams that a reader comes back to after its connection was cut. Pure.

A reader that may lose its connection, and not the process at its other end, names its stream with a
secret of its own, a token. Such a stream keeps what it sent last, and goes on for a while without a
reader, as far as its credit lets it. Whoever knows the token, and comes with the same key, gets the
rest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from actors.kernel.request import Request
from protocol.conversation import INITIAL_CREDIT
from protocol.errors import InvalidRequest
from protocol.ports import Peer, Remote

TOKEN_CHARACTERS = 22
"""The least of a token: 128 random bits in base64. In hexadecimal digits they are 32."""
KEPT_CHUNKS = 2 * INITIAL_CREDIT
"""A reader that grants as much as it holds has received all but the last `INITIAL_CREDIT`."""
KEPT_S = 15.0
"""How long a stream is kept without a reader. A network that is away for longer is resumed by what
the reader has, as after a death."""
MOST_ENDED = 256
"""Streams kept after their end, which may have been lost on its way."""


class Part(NamedTuple):
    """A chunk, the end or the error of a stream, as it was sent."""

    kind: int
    body: object
    sequence: int


class Tail:
    """What a stream sent last."""

    __slots__ = ("_chunks", "end")

    def __init__(self) -> None:
        self._chunks: deque[Part] = deque(maxlen=KEPT_CHUNKS)
        self.end: Part | None = None

    def add(self, chunk: Part) -> None:
        """One more chunk is being sent."""
        self._chunks.append(chunk)

    def since(self, sequence: int, following: int) -> list[Part] | None:
        """The chunks from this one on, and the end where there was one; None when they are not all
        there. ``following``: the number of the chunk that is sent next."""
        first = following - len(self._chunks)
        if not first <= sequence <= following:
            return None
        parts = [part for part in self._chunks if part.sequence >= sequence]
        return parts if self.end is None else [*parts, self.end]


Name = tuple[str, str, str]
"""Whose stream it is (its key; empty on this machine), of which operation, and its token."""


class Resuming:
    """The streams of one server that can be resumed."""

    def __init__(self) -> None:
        self._open: dict[Name, Request] = {}
        self._ended: OrderedDict[Name, tuple[float, Request]] = OrderedDict()

    def find(self, peer: Peer, operation: str, token: str, now: float) -> Request | None:
        """The stream of this token. Raises `InvalidRequest` for one that could be guessed."""
        if len(token) < TOKEN_CHARACTERS:
            raise InvalidRequest(
                f"a stream's idempotency_key is the secret by which it is resumed: it has "
                f"{len(token)} characters, where {TOKEN_CHARACTERS} are the least"
            )
        self._forget_old(now)
        name = _name(peer, operation, token)
        ended = self._ended.get(name)
        return self._open.get(name) if ended is None else ended[1]

    def began(self, request: Request, token: str) -> None:
        """A stream that can be resumed begins."""
        request.token = token
        request.tail = Tail()
        self._open[_name(request.peer, request.operation, token)] = request

    def ended(self, request: Request, now: float) -> None:
        """It has ended; its end may be on its way to nobody."""
        name = _name(request.peer, request.operation, request.token)
        if self._open.pop(name, None) is None:
            return
        self._forget_old(now)
        if request.tail is not None and request.tail.end is not None:
            self._ended[name] = (now, request)
            if len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        while self._ended and next(iter(self._ended.values()))[0] < now - KEPT_S:
            self._ended.popitem(last=False)


def _name(peer: Peer, operation: str, token: str) -> Name:
    return (peer.key if isinstance(peer, Remote) else "", operation, token)
