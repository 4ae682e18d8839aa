"""An engine: one model, generating several answers at once, each streamed as it is made.

The model library blocks, so each generation has a thread; what it makes is handed to the event
loop, which streams it. A generation that nobody wants any more is told so by a flag, and its slot
is free when the library has seen it: after one token, or one batch of the prompt.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from actors.engine.backends import Backend, Loaded, Outcome, Piece, Prefill, Task, make_backend
from actors.kernel import Actor, Surroundings, handles
from configs.schema import EngineSettings
from protocol.errors import EngineFailed, InvalidSettings, NoyauError, Overloaded
from protocol.messages.engine import Generate, Generated, Tokens
from protocol.messages.storage import Located, Provide

FETCH_S = 24 * 3600.0
"""How long fetching a model may take: a large one over a slow line. Stalls are seen in storage."""
RETRY_AFTER_S = 0.05
TOGETHER_S = 0.02
"""Pieces that come sooner than this after the last ones are sent together with the next. Each
message wakes three processes on cores that the model wants for itself; nobody reads 50 pieces a
second one by one. A model that takes longer for a token sends each at once."""


class Engine(Actor):
    """Generates text for the orchestrator, and for nobody else."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(EngineSettings)
        self._threads = ThreadPoolExecutor(self._options.slots, thread_name_prefix="slot")
        self._running: set[Generation] = set()
        self._slot_freed = asyncio.Event()
        self._model = ""
        self._loaded = Loaded("", 0)
        self._backend: Backend | None = None

    async def on_start(self) -> None:
        """Get the model's file, then load it."""
        backend = make_backend(self._options.backend)
        path, self._model = await self._find_model()
        self.say("loading the model")
        # Not one of the slots' threads: those pass the text on and are in a hurry.
        with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
            self._loaded = await asyncio.get_running_loop().run_in_executor(
                loader, _load_nicely, backend, path, self._model, self._options
            )
        self._backend = backend
        self.info = {
            "model": self._loaded.name,
            "model_id": self._model,
            "device": backend.device,
            "slots": self._options.slots,
            "context_tokens": self._loaded.context_tokens,
        }

    async def _find_model(self) -> tuple[Path, str]:
        """The model's file and what identifies it."""
        name = self._options.model
        if "/" in name or name.endswith(".gguf"):
            return _own_file(self.name, Path(name).expanduser())
        self.say("asking storage for the model")
        stream = await self.caller.stream("storage", Provide(asset=name), timeout_s=FETCH_S)
        async with stream:
            async for progress in stream:
                what = f"{progress.stage} {progress.asset}"
                self.say(what, progress.done_bytes, progress.total_bytes, "bytes")
                self.progressed()
        located = stream.end
        if not isinstance(located, Located):
            raise EngineFailed("storage did not say where the model is")
        return Path(located.path), located.sha256

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """Stream one answer, or the rest of one."""
        await self._wait_for_slot()
        task = Task(message.messages, message.sampling, message.begun)
        generation = Generation(task, asyncio.get_running_loop())
        self._running.add(generation)
        self._show_load()
        assert self._backend is not None
        try:
            generation.start(self._threads, self._backend)
            async for item in generation:
                if isinstance(item, Piece):
                    self.progressed(item.count)
                    yield Tokens(text=item.text, tokens=item.tokens, count=item.count)
                elif isinstance(item, Outcome):
                    yield self._generated(item)
                else:
                    self.progressed()
        finally:
            task.cancelled.set()
            generation.when_over(lambda: self._over(generation))

    async def _wait_for_slot(self) -> None:
        """Wait for slots that are about to be free; refuse when none is."""
        while len(self._running) >= self._options.slots:
            if not any(one.cancelled for one in self._running):
                raise Overloaded(
                    f"all {self._options.slots} slots of {self.name} are in use",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._slot_freed.clear()
            await self._slot_freed.wait()

    def _over(self, generation: Generation) -> None:
        self._running.discard(generation)
        self._slot_freed.set()
        self._show_load()

    def _show_load(self) -> None:
        busy = len(self._running)
        self.say("generating" if busy else "idle", busy, self._options.slots if busy else 0,
                 "slots" if busy else "")  # fmt: skip

    def _generated(self, outcome: Outcome) -> Generated:
        seconds = outcome.decode_ms / 1000
        assert self._backend is not None
        return Generated(
            finish_reason=outcome.finish_reason,
            model=self._model,
            model_name=self._loaded.name,
            device=self._backend.device,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            prefill_ms=outcome.prefill_ms,
            decode_ms=outcome.decode_ms,
            tokens_per_s=outcome.completion_tokens / seconds if seconds > 0 else 0.0,
        )


class Generation:
    """One generation: a thread at one end, the event loop at the other."""

    def __init__(self, task: Task, loop: asyncio.AbstractEventLoop) -> None:
        self._task = task
        self._loop = loop
        self._items: deque[Piece | Prefill | Outcome | NoyauError] = deque()
        self._news = asyncio.Event()
        self._told_at = 0.0
        self._thread: asyncio.Future[None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more; its thread may still be busy with it."""
        return self._task.cancelled.is_set()

    def start(self, threads: ThreadPoolExecutor, backend: Backend) -> None:
        """Begin in a thread."""
        self._thread = self._loop.run_in_executor(threads, self._run, backend)

    def _run(self, backend: Backend) -> None:
        """In the thread."""
        try:
            outcome = backend.generate(self._task, self._emit)
            if outcome is not None:
                self._emit(outcome)
        except NoyauError as error:
            self._emit(error)
        except Exception as error:  # noqa: BLE001 - from a library: must reach the caller as ours
            self._emit(EngineFailed(f"the backend raised {error!r}"))

    def _emit(self, item: Piece | Prefill | Outcome | NoyauError) -> None:
        """Called in the thread."""
        self._items.append(item)
        now = time.monotonic()
        # What is held back here is on its way with the next token or the end, whichever is first.
        # Should the process die before, the next one makes it again.
        if isinstance(item, Piece):
            if now - self._told_at < TOGETHER_S:
                return
            self._told_at = now
        self._loop.call_soon_threadsafe(self._news.set)

    def when_over(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the thread has let go of its slot."""
        if self._thread is None or self._thread.done():
            action()
        else:
            self._thread.add_done_callback(lambda _: action())

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Piece | Prefill | Outcome:
        # Waits for the event even when something is there: it may be held back for company.
        while not (self._items and self._news.is_set()):
            self._news.clear()
            await self._news.wait()
        item = self._items.popleft()
        while isinstance(item, Piece) and self._items and isinstance(self._items[0], Piece):
            item = _joined(item, cast(Piece, self._items.popleft()))
        if not self._items:
            self._news.clear()
        if isinstance(item, NoyauError):
            raise item
        return item


def _load_nicely(backend: Backend, path: Path, model: str, options: EngineSettings) -> Loaded:
    """In a thread of its own: the library's threads inherit how nice it is to others."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), options.niceness)
    return backend.load(path, model, options)


def _joined(first: Piece, second: Piece) -> Piece:
    known = bool(first.tokens) and bool(second.tokens)
    return Piece(
        first.text + second.text,
        [*first.tokens, *second.tokens] if known else [],
        first.count + second.count,
    )


def _own_file(actor: str, path: Path) -> tuple[Path, str]:
    """A model file of the user's own. Identified by path, size and time: hashing many GB would
    delay every start, and its owner vouches for it."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidSettings(
            f"actors.{actor}.settings.model: {path}: {error.strerror}; give the path of a GGUF "
            "file, or the name of an asset"
        ) from None
    return path, f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
