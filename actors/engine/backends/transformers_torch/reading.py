"""From tokens to pieces of text: whole characters, stop strings, how likely they were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from actors.engine.backends import Piece
from actors.engine.backends.stops import StopStrings
from protocol.messages.engine import TokenLogprob

LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8 at most."""


class Characters:
    """Joins the bytes of tokens to whole characters."""

    def __init__(self) -> None:
        self._bytes = b""

    def add(self, more: bytes) -> str:
        """The text that is whole now; nothing while its last character is not."""
        self._bytes += more
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError as error:
            cut_off = error.reason == "unexpected end of data"
            if cut_off and len(self._bytes) - error.start < LONGEST_CHARACTER:
                return ""
            # No character will ever come of it.
            text = self._bytes.decode(errors="replace")
        self._bytes = b""
        return text


class Pieces:
    """The pieces of one answer."""

    def __init__(self, bytes_of: Callable[[int], bytes], stops: list[str]) -> None:
        self._bytes_of = bytes_of
        self._characters = Characters()
        self._stops = StopStrings(stops)
        self._logprobs: list[TokenLogprob] = []
        """Of the tokens since the last piece."""

    @property
    def stopped(self) -> bool:
        """A stop string came: the answer ends."""
        return self._stops.found

    def add(self, token: int, logprob: TokenLogprob | None) -> Iterator[Piece]:
        """The next token; what may be said now."""
        if logprob is not None:
            self._logprobs.append(logprob)
        yield from self._with_logprobs(
            self._stops.add(self._characters.add(self._bytes_of(token)), [token])
        )

    def rest(self) -> Iterator[Piece]:
        """No more tokens come; what was held back."""
        yield from self._with_logprobs(self._stops.rest())

    def _with_logprobs(self, piece: Piece | None) -> Iterator[Piece]:
        if piece is not None:
            told, self._logprobs = self._logprobs[: piece.count], self._logprobs[piece.count :]
            yield replace(piece, logprobs=tuple(told))
