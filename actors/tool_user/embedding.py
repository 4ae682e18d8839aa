"""The vectors of texts, asked from memory, which may be missing: then similarity is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.kernel.vectors import read_vector
from actors.tool_user.finding import Nearest, Similarity, Vector
from protocol.caller import Caller
from protocol.errors import ActorUnavailable, NoyauError
from protocol.messages.memory import Embed

MEMORY = "memory"
"""The actor that embeds."""
EMBED_S = 2.0
"""Seconds for one batch. Milliseconds are usual; who waits longer finds no tool, and hears why."""
TOGETHER = 64
"""Texts in one request: far below what memory takes, and answered within `EMBED_S`."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What similarity found, or why nothing was looked at."""

    nearest: Nearest | None = None
    note: str = ""


class SimilarTools:
    """Finds the nearest tool with memory's help. ``texts`` gives what there is to compare with."""

    def __init__(self, caller: Caller, texts: Callable[[], Sequence[tuple[str, str]]]) -> None:
        self._caller = caller
        self._texts = texts
        self._known: Similarity | None = None
        self._epoch = ""

    async def look(self, text: str) -> Looked:
        """The nearest tool. Never raises for memory's sake."""
        try:
            known = await self._similarity()
            (vector,) = await self._embed([text])
        except (NoyauError, ValueError) as error:
            return Looked(note=f"likeness was not looked at: {error}")
        return Looked(known.nearest(vector))

    async def _similarity(self) -> Similarity:
        """The tools' own vectors: made once for each incarnation of memory, whose model may differ
        from the last one's."""
        entry = self._caller.directory.ready(MEMORY, self._caller.clock.now())
        if entry is None:
            raise ActorUnavailable(f"{MEMORY} is not ready", name=MEMORY)
        if self._known is None or self._epoch != entry.epoch:
            texts = self._texts()
            self._known = Similarity(texts, await self._embed([text for _, text in texts]))
            self._epoch = entry.epoch
        return self._known

    async def _embed(self, texts: Sequence[str]) -> list[Vector]:
        found: list[Vector] = []
        for begin in range(0, len(texts), TOGETHER):
            batch = Embed(texts=list(texts[begin : begin + TOGETHER]))
            embedded = await self._caller.ask(MEMORY, batch, timeout_s=EMBED_S)
            found += [read_vector(one) for one in embedded.vectors]
        return found
