"""An engine: one model, generating several answers at once, each streamed as it is made.

The model library blocks, so each generation has a thread; what it makes is handed to the event
loop, which streams it. A generation that nobody wants any more is told so by a flag, and its slot
is free when the library has seen it: after one token, or one batch of the prompt.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, cast

from actors.engine.accelerators import require_gpu, require_profile
from actors.engine.backends import Backend, Loaded, Outcome, Piece, Prefill, Task, make_backend
from actors.engine.courier import Courier, Mailbox
from actors.engine.formats import check_format
from actors.engine.misbehaving import Misbehaving
from actors.engine.model_file import check_size
from actors.kernel import Actor, Surroundings, handles
from configs.actor_settings import GPU_ELSEWHERE, EngineSettings
from configs.chosen_model import read_choice
from configs.machine import this_machine
from protocol.errors import (
    EngineFailed,
    NoyauError,
    Overloaded,
    UnusableModel,
)
from protocol.messages.base import Empty
from protocol.messages.engine import (
    CountTokens,
    Generate,
    Generated,
    Misbehave,
    Stage,
    TokenCounts,
    Tokens,
)
from protocol.messages.storage import Located, Provide

FETCH_S = 24 * 3600.0
"""How long fetching a model may take: a large one over a slow line. Stalls are seen in storage."""
RETRY_AFTER_S = 0.05
SIMULATED = "simulated"
DEFAULT_MODEL = "default"

Item = Piece | Prefill | Outcome | NoyauError


class Engine(Actor):
    """Generates text for the orchestrator, and for nobody else."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(EngineSettings)
        self._threads = ThreadPoolExecutor(self._options.slots, thread_name_prefix="slot")
        self._courier = Courier(asyncio.get_running_loop())
        self._running: set[Generation] = set()
        self._slot_freed = asyncio.Event()
        self._misbehaving = Misbehaving()
        if self._options.backend == SIMULATED:
            self._misbehaving.order(
                self._options.simulated_failure, self._options.simulated_failure_after_tokens, 0
            )
        self._model = ""
        self._loaded = Loaded("", 0)
        self._backend: Backend | None = None

    async def on_start(self) -> None:
        """Get the model's file, then load it."""
        if self._options.device == "gpu" and self._options.backend not in GPU_ELSEWHERE:
            require_gpu()
        require_profile(self.incarnation.settings.device.profile, self._options.device)
        backend = make_backend(self._options.backend)
        backend.check(self._options)
        path, self._model = Path(), backend.name
        if backend.needs_model:
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
            "models": [DEFAULT_MODEL],
            "device": backend.device,
            "backend": backend.name,
            "slots": self._options.slots,
            "context_tokens": self._loaded.context_tokens,
        }

    async def _find_model(self) -> tuple[Path, str]:
        """The model's file and what identifies it."""
        name = self._options.model
        if "/" in name or name.endswith(".gguf"):
            return _own_file(Path(name).expanduser(), f"actors.{self.name}.settings.model")
        if name == DEFAULT_MODEL:
            chosen = read_choice(self.incarnation.settings.data.folder)
            if chosen.path is not None:
                return _own_file(chosen.path, "the model chosen with `noyau models use`")
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
        """Stream one answer, or the rest of one. Raises `InvalidRequest` for a format that cannot
        be kept to."""
        check_format(message.format)
        await self._wait_for_slot()
        task = Task(
            message.messages, message.sampling, message.begun, message.format, message.logprobs
        )
        generation = Generation(task, self._courier, self._misbehaving, self.progressed)
        self._running.add(generation)
        self._show_load()
        assert self._backend is not None
        try:
            generation.start(self._threads, self._backend)
            async for item in generation.items():
                if isinstance(item, Piece):
                    yield Tokens(
                        text=item.text, tokens=item.tokens, count=item.count,
                        logprobs=list(item.logprobs),
                    )  # fmt: skip
                elif isinstance(item, Outcome):
                    yield self._generated(item)
                elif item.waits or 0 < item.done < item.total:
                    # Not of a prompt that is read in one go: its first text says as much.
                    what: Literal["waiting", "reading"] = "waiting" if item.waits else "reading"
                    yield Tokens(count=0, stage=Stage(what=what, done=item.done, total=item.total))
        finally:
            generation.stop()
            generation.when_over(lambda: self._over(generation))

    @handles(CountTokens)
    async def count_tokens(self, message: CountTokens) -> TokenCounts:
        """Count in a thread beside the slots': nobody waits for a generation to end."""
        assert self._backend is not None
        counts = await asyncio.to_thread(self._backend.count, message.texts)
        return TokenCounts(counts=counts)

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

    @handles(Misbehave)
    def misbehave(self, message: Misbehave) -> Empty:
        """See `Misbehave`. Raises `NotAllowed` unless the settings allow it."""
        if self._options.backend != SIMULATED:
            self.incarnation.settings.chaos.check()
        self.log.warning("misbehaves", how=message.how, after_tokens=message.after_tokens)
        self._misbehaving.order(message.how, message.after_tokens, message.answers)
        return Empty()

    def _show_load(self) -> None:
        busy = len(self._running)
        if busy:
            self.say("generating", busy, self._options.slots, "slots", working=True)
        else:
            self.say("idle")

    def _generated(self, outcome: Outcome) -> Generated:
        seconds = outcome.decode_ms / 1000
        assert self._backend is not None
        return Generated(
            finish_reason=outcome.finish_reason,
            model=self._model,
            model_name=self._loaded.name,
            device=self._backend.device,
            backend=self._backend.name,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            prefill_ms=outcome.prefill_ms,
            decode_ms=outcome.decode_ms,
            tokens_per_s=outcome.completion_tokens / seconds if seconds > 0 else 0.0,
            cached_tokens=outcome.cached_tokens,
            drafted_tokens=outcome.drafted_tokens,
            accepted_tokens=outcome.accepted_tokens,
        )


class Generation:
    """One generation: a thread at one end, the event loop at the other."""

    def __init__(
        self,
        task: Task,
        courier: Courier,
        misbehaving: Misbehaving,
        progressed: Callable[[int], None],
    ) -> None:
        self._task = task
        self._misbehaving = misbehaving
        self._progressed = progressed
        self._courier = courier
        self._mailbox: Mailbox[Item] = Mailbox(courier)
        self._began = False
        self._thread: asyncio.Future[None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more; its thread may still be busy with it."""
        return self._task.cancelled.is_set()

    def start(self, threads: ThreadPoolExecutor, backend: Backend) -> None:
        """Begin in a thread."""
        self._courier.open(self._mailbox)
        self._thread = asyncio.get_running_loop().run_in_executor(threads, self._run, backend)

    def stop(self) -> None:
        """Nobody wants it any more; its thread lets go of its slot as soon as it can."""
        self._task.cancelled.set()
        self._courier.close(self._mailbox)

    def _run(self, backend: Backend) -> None:
        """In the thread."""
        try:
            begun = self._task.begun
            emit = self._misbehaving.between(self._task, begun.count if begun else 0, self._emit)
            outcome = backend.generate(self._task, emit)
            if outcome is not None:
                self._mailbox.post(outcome, urgent=True)
        except NoyauError as error:
            self._mailbox.post(error, urgent=True)
        except Exception as error:  # noqa: BLE001 - from a library: must reach the caller as ours
            self._mailbox.post(EngineFailed(f"the backend raised {error!r}"), urgent=True)

    def _emit(self, item: Piece | Prefill) -> None:
        """In the thread. The first text is waited for, all else may come a moment later; should
        the process die before, the next one makes it again."""
        self._progressed(item.count if isinstance(item, Piece) else 1)
        first = isinstance(item, Piece) and not self._began
        self._began = self._began or first
        self._mailbox.post(item, urgent=first)

    def when_over(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the thread has let go of its slot."""
        if self._thread is None or self._thread.done():
            action()
        else:
            self._thread.add_done_callback(lambda _: action())

    async def items(self) -> AsyncGenerator[Piece | Prefill | Outcome, None]:
        """What it makes, up to its outcome; text that came together as one piece."""
        while True:
            taken = await self._mailbox.take()
            while taken:
                item = taken.popleft()
                if isinstance(item, Prefill) and taken and isinstance(taken[0], Prefill):
                    continue
                while isinstance(item, Piece) and taken and isinstance(taken[0], Piece):
                    item = _joined(item, cast(Piece, taken.popleft()))
                if isinstance(item, NoyauError):
                    raise item
                yield item
                if isinstance(item, Outcome):
                    return


def _load_nicely(backend: Backend, path: Path, model: str, options: EngineSettings) -> Loaded:
    """In a thread of its own: the library's threads inherit how nice it is to others."""
    # From where the process is, as nobody may go below that. More than 19 is 19 to the kernel.
    niceness = os.getpriority(os.PRIO_PROCESS, os.getpid()) + options.niceness
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
    return backend.load(path, model, options)


def _joined(first: Piece, second: Piece) -> Piece:
    known = bool(first.tokens) and bool(second.tokens)
    return Piece(
        first.text + second.text,
        [*first.tokens, *second.tokens] if known else [],
        first.count + second.count,
        first.logprobs + second.logprobs,
    )


def _own_file(path: Path, whose: str) -> tuple[Path, str]:
    """A model file of the user's own. Identified by path, size and time: hashing many GB would
    delay every start, and its owner vouches for it."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UnusableModel(
            f"{whose}: {path}: {error.strerror}; give the path of a GGUF file, or go back to the "
            "default model: noyau models default",
            path=str(path),
        ) from None
    check_size(path, this_machine().memory_bytes)
    return path, model_id_of(path, stat)


def model_id_of(path: Path, stat: os.stat_result) -> str:
    """What a model file of the user's own is known by."""
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
