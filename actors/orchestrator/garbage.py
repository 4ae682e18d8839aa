"""Whether what an engine says is text at all. Pure.

A broken device, or weights with flipped bits, give characters that no text has. Text that looks
like that is held back until it shows what it is, so that nothing of it was said when the engine is
given up, and another goes on with the text before it.
"""

from __future__ import annotations

import unicodedata

from protocol.errors import EngineGarbage
from protocol.messages.engine import Tokens

ENOUGH = 3
"""Bad characters that make garbage. One or two may be a model that quotes broken text."""
SHARE = 4
"""And from the first on, at least one in so many characters is bad."""
HELD_CHARS = 64
"""More, from the first bad one on, is not held back: what is not garbage by then is text with odd
characters."""

_BAD_CATEGORIES = frozenset({"Cc", "Cn", "Cs"})
"""Controls, characters that are none, and halves of characters."""
_NEW_CHARACTERS = range(0x1F000, 0x1FC00)
"""Where each year brings new emoji: models know some that this Python does not."""
_GOOD_CONTROLS = frozenset("\t\n\r\f\x1b")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def is_garbage(text: str) -> bool | None:
    """Whether it is, from its first bad character on; None where it has too few to say so."""
    # Nearly all text is looked at no further.
    if text.isprintable() and REPLACEMENT not in text:
        return False
    bad = [at for at, letter in enumerate(text) if _is_bad(letter)]
    if not bad:
        return False
    suspect = len(text) - bad[0]
    if len(bad) >= ENOUGH and len(bad) * SHARE >= suspect:
        return True
    return None if suspect <= HELD_CHARS else False


def _is_bad(letter: str) -> bool:
    if letter == REPLACEMENT:
        return True
    if letter in _GOOD_CONTROLS or ord(letter) in _NEW_CHARACTERS:
        return False
    return unicodedata.category(letter) in _BAD_CATEGORIES


class GarbageFilter:
    """Of one engine's part in an answer."""

    def __init__(self) -> None:
        self._held: list[Tokens] = []

    def take(self, piece: Tokens) -> list[Tokens]:
        """What may be said now. Raises `EngineGarbage`; what is held back then was never said."""
        if not self._held and is_garbage(piece.text) is False:
            return [piece]
        self._held.append(piece)
        text = "".join(one.text for one in self._held)
        verdict = is_garbage(text)
        if verdict:
            raise EngineGarbage(f"the engine says what is no text: {text[-HELD_CHARS:]!a}")
        return [] if verdict is None else self.rest()

    def rest(self) -> list[Tokens]:
        """What was held back and is text after all."""
        held, self._held = self._held, []
        return held
