"""Who is told, when a process ends in order, that nothing more of what it asked is read. Pure.

A farewell says: what has no answer yet was never begun, and may be asked of the next process. So
nobody is told it to whom an answer was once not sent.
"""

from __future__ import annotations

from protocol.ports import Peer

MOST = 1024
"""Of those that asked last; others see their connection lost."""


class Farewells:
    """Connections that asked something."""

    def __init__(self) -> None:
        self._asked: dict[Peer, bool] = {}
        """Whether each has all its answers, those that asked first first."""

    def asks(self, peer: Peer) -> None:
        """It asked something. For every request, so that it must cost next to nothing."""
        if peer not in self._asked:
            self._note(peer, whole=True)

    def lacks(self, peer: Peer) -> None:
        """Something was not sent to it."""
        self._note(peer, whole=False)

    def _note(self, peer: Peer, *, whole: bool) -> None:
        self._asked[peer] = whole
        if len(self._asked) > MOST:
            del self._asked[next(iter(self._asked))]

    @property
    def due(self) -> list[Peer]:
        """Those that are told."""
        return [peer for peer, whole in self._asked.items() if whole]
