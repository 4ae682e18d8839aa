"""Two engines of one model, and answers whose first engine is killed at a token."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.harness import System
from protocol.errors import NoyauError
from protocol.messages.orchestrator import Answered, Query, Text

FIRST, SECOND = "cpu_engine", "cpu_two"
STABLE_S = 0.1
READY_S = 60.0
TRIES = 5
SETTINGS = (
    f"actors.{SECOND}.class=actors.engine:Engine",
    f"actors.{SECOND}.preload=true",
    f'actors.{SECOND}.needs=["storage"]',
    "actors.gpu_engine.enabled=false",
    "device.profile=lite",
    f'query.engines=["{FIRST}", "{SECOND}"]',
    f'actors.orchestrator.uses=["{FIRST}", "{SECOND}", "memory", "tool_user"]',
    # Each of so many kills is to meet the same system: none is a matter of breakers, of health or
    # of the restart intensity, and each restart is a first one.
    "restart.stable_s=0.05", "restart.max_restarts=10000", "restart.backoff_max_s=0.1",
    "engine_breaker.failures=1000", "query_breaker.failures=1000",
    "health.min_calls=1000000", "health.failures_in_a_row=1000000",
    "query.max_deaths_in_a_row=1000", "query.max_continuations=1000",
)  # fmt: skip


def both(*settings: str) -> list[str]:
    """These settings of an engine, for each of the two."""
    return [f"actors.{name}.settings.{one}" for name in (FIRST, SECOND) for one in settings]


@dataclass
class Heard:
    """What a client got."""

    pieces: list[Text] = field(default_factory=list)
    end: Answered | None = None
    error: str = ""
    """Code of the error that it ended in."""
    gap_ms: float | None = None
    """From the kill to the first text behind the seam, as the reader has it."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> int:
        """Of the text."""
        return sum(piece.count for piece in self.pieces)

    @property
    def was_cut(self) -> bool:
        """Whether it went on behind a seam, and the first engine was the one that it lost."""
        return self.end is not None and any(s.lost.startswith(FIRST) for s in self.end.seams)

    def tokens_until(self, position: int) -> int:
        """Of the text before this character, about: pieces may have several."""
        found = 0
        for piece in self.pieces:
            if position <= 0:
                break
            found += piece.count
            position -= len(piece.text)
        return found


async def ready(system: System) -> int:
    """Wait until the first engine is READY and its next restart a first one; returns its pid."""
    caller = system.client.caller
    for name in (FIRST, SECOND):
        await caller.ready(name, caller.clock.now() + READY_S)
    await asyncio.sleep(STABLE_S)
    pid = await system.pid(FIRST)
    assert pid is not None
    return pid


async def hear(system: System, query: Query, *, kill: int | None = None, after: int = 0) -> Heard:
    """Read an answer; SIGKILL the process ``kill`` as soon as ``after`` tokens of it are read."""
    heard, read, killed_at = Heard(), 0, None
    try:
        async with system.client.stream(query) as stream:
            async for piece in stream:
                if piece.seam is not None and killed_at is not None and heard.gap_ms is None:
                    heard.gap_ms = (time.perf_counter() - killed_at) * 1000
                heard.pieces.append(piece)
                read += piece.count
                if kill is not None and killed_at is None and read >= after:
                    os.kill(kill, signal.SIGKILL)
                    killed_at = time.perf_counter()
        heard.end = stream.end
    except NoyauError as error:
        heard.error = error.code
    return heard


def first_difference(one: str, other: str) -> int | None:
    """The character from which on they differ; None where they do not."""
    if one == other:
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass
class Cut:
    """One kill: the answers that it may have cut, as they are without it and with it. The first is
    the one that it was timed by."""

    after: int
    whole: Sequence[Heard]
    cut: Sequence[Heard]

    @property
    def complete(self) -> int:
        """How many answers came to their end."""
        return sum(one.end is not None for one in self.cut)

    @property
    def hit(self) -> int:
        """How many went on behind a seam."""
        return sum(one.was_cut for one in self.cut)

    @property
    def identical(self) -> bool:
        """Whether all say what they say without the kill."""
        pairs = zip(self.whole, self.cut, strict=True)
        return all(w.end is not None and w.text == c.text for w, c in pairs)


async def cut(system: System, queries: Sequence[Query], after: int, whole: list[Heard]) -> Cut:
    """Have them answered at once, the first engine killed when the first query's reader has
    ``after`` tokens. Again where that one was at its end already: the last try counts as it is."""
    for left in reversed(range(TRIES)):
        pid = await ready(system)
        again = [one.model_copy(update={"id": Query().id}) for one in queries]
        first, *others = await asyncio.gather(
            hear(system, again[0], kill=pid, after=after),
            *(hear(system, one) for one in again[1:]),
        )
        if first.was_cut or first.end is None or not left:
            return Cut(after, whole, [first, *others])
    raise AssertionError("one try is the last")
