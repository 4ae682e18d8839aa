"""Stop strings: text that ends an answer and is not part of it, also where tokens cut it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from actors.engine.backends import Piece


class StopStrings:
    """Holds back text that may become a stop string, and no more than that."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._text = ""
        self._ids: list[int] = []
        self._count = 0
        self._all_known = True
        self.found = False
        """One of them came: the answer ends."""

    def add(self, text: str, ids: Sequence[int]) -> Piece | None:
        """Take a token's text and ids (none where they are not known); returns what may be said
        now, or None."""
        self._text += text
        self._ids += ids
        self._count += 1
        self._all_known = self._all_known and bool(ids)
        at = min((i for i in map(self._text.find, self._stops) if i >= 0), default=-1)
        if at >= 0:
            self.found = True
            # Cut within tokens, so their ids are not those of the text any more.
            self._text, self._ids = self._text[:at], []
            return self.rest()
        if any(self._begins(stop) for stop in self._stops):
            return None
        return self.rest()

    def _begins(self, stop: str) -> bool:
        """Whether the text ends in what may become this stop string."""
        longest = min(len(stop) - 1, len(self._text))
        return any(self._text.endswith(stop[:length]) for length in range(longest, 0, -1))

    def rest(self) -> Piece | None:
        """What was held back and may be said after all."""
        if not self._text:
            return None
        piece = Piece(self._text, self._ids if self._all_known else [], self._count)
        self._text, self._ids, self._count, self._all_known = "", [], 0, True
        return piece
