"""What an engine gets wrong on purpose, at a token that was named: for tests, and for showing how
others go on from there. It works with any backend, as it stands between that and whoever reads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

from actors.engine.backends import Emit, Piece, Prefill, Task
from protocol.errors import EngineFailed, EngineGarbage, EngineOutOfMemory
from protocol.messages.engine import Misbehaviour

GARBAGE = "\N{REPLACEMENT CHARACTER}\N{ZERO WIDTH JOINER}"
SLOWDOWN = 10
TOLD = "as it was told to"


class Misbehaving:
    """Of one engine. `order` belongs to the event loop's thread; the rest may be called from any,
    and a generation keeps to the order that there was when it began."""

    def __init__(self) -> None:
        self._how: Misbehaviour = "none"
        self._after_tokens = 0
        self._left = 0
        self._lock = threading.Lock()

    def order(self, how: Misbehaviour, after_tokens: int, answers: int) -> None:
        """From now on; ``answers``: so many of them, and then no more. 0 is all."""
        with self._lock:
            self._how, self._after_tokens = how, after_tokens
            self._left = answers or -1

    def between(self, task: Task, begun_tokens: int, emit: Emit) -> Emit:
        """What a generation is to call instead of ``emit``."""
        with self._lock:
            if self._how == "none" or not self._left:
                return emit
            self._left -= 1
            return _Between(task, self._how, self._after_tokens, begun_tokens, emit)


class _Between:
    """One generation that goes wrong."""

    def __init__(
        self, task: Task, how: Misbehaviour, after_tokens: int, begun_tokens: int, emit: Emit
    ) -> None:
        self._task = task
        self._how = how
        self._after = after_tokens
        self._position = begun_tokens
        self._emit = emit
        self._last_at = time.monotonic()

    def __call__(self, item: Prefill | Piece) -> None:
        if isinstance(item, Prefill):
            self._emit(item)
            return
        # Whoever goes on behind that token has survived it.
        if self._position <= self._after < self._position + item.count:
            self._fail()
        self._position += item.count
        if self._position > self._after:
            item = self._spoil(item)
        self._emit(item)
        self._last_at = time.monotonic()

    def _fail(self) -> None:
        match self._how:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail":
                raise EngineFailed(f"the engine failed, {TOLD}")
            case "out_of_memory":
                raise EngineOutOfMemory(f"the device has no memory left, {TOLD}")
            case "nan":
                raise EngineGarbage(f"the engine computes with numbers that are none, {TOLD}")

    def _spoil(self, piece: Piece) -> Piece:
        match self._how:
            case "stall":
                self._task.cancelled.wait()
            case "slow":
                took_s = time.monotonic() - self._last_at
                self._task.cancelled.wait(took_s * (SLOWDOWN - 1))
            case "garble":
                return replace(piece, text=GARBAGE * piece.count, tokens=[])
        return piece
