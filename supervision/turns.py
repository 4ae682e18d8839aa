"""Which of many processes the kernel is asked about in one look. Pure."""

from __future__ import annotations

from collections.abc import Sequence

LOOKS_AT_ONCE = 40
"""Processes of which the kernel is asked in one look. It takes some 25 us for each; with more of
them, those whose event loops turn take turns."""
QUIET_LOOKS = 4
"""Looks without a turn of its event loop after which a process is asked about at each. With the
defaults, a loop turns every second or third look."""


class Turns:
    """Whose turn it is, by key."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, keys: Sequence[str]) -> set[str]:
        """Those who are asked about in this look, however their loops do."""
        if len(keys) <= LOOKS_AT_ONCE:
            return set(keys)
        begin = self._next % len(keys)
        self._next = begin + LOOKS_AT_ONCE
        return set([*keys, *keys][begin : begin + LOOKS_AT_ONCE])


class Quiet:
    """For how many looks one event loop has not turned."""

    def __init__(self) -> None:
        self._beat_at = 0.0
        self._looks = 0

    def look(self, beat_at: float | None) -> bool:
        """One look at when it last turned, None where that does not show; whether the kernel is to
        be asked, whoever's turn it is."""
        if beat_at is None or beat_at == self._beat_at:
            self._looks += 1
        else:
            self._looks, self._beat_at = 0, beat_at
        return self._looks >= QUIET_LOOKS
