"""The one thread that computes, for all requests together; and what it does in each step.

A step reads one chunk of a prompt (of several short ones), and makes one token of every answer that
is being written.
Whatever goes wrong is the end of the request that met it, and of no other where that can be told.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from actors.engine.backends import Prefill
from actors.engine.backends.transformers_torch.batch import Batch
from actors.engine.backends.transformers_torch.requests import Chosen, End, Request, Steps, Want
from protocol.errors import EngineFailed, EngineOutOfMemory, NoyauError

NO_MEMORY = (
    "the device has no memory left for this answer; fewer slots, less context or smaller batches "
    "(slots, context_tokens, batch_tokens in the engine's settings) need less"
)
BROKEN = "the device computes nothing more for this process"


class Worker:
    """See the module. `add` and `stop` may be called from any thread, the rest is its own."""

    def __init__(
        self, steps: Steps, rows: int, chunk_tokens: int, on_broken: Callable[[Exception], None]
    ) -> None:
        """``on_broken``: the device computes nothing more for this process, which is to end."""
        self._steps = steps
        self._on_broken = on_broken
        self._chunk = chunk_tokens
        self._batch: Batch[Request] = Batch(rows)
        self._changed = threading.Condition()
        self._come: list[Request] = []
        self._stopping = False

    def add(self, request: Request) -> None:
        """Work on it, too. Everything that comes of it is put into its ``items``; the last one is
        an `End` or an error."""
        with self._changed:
            if self._stopping:
                request.items.put(EngineFailed("the model was unloaded"))
                return
            self._come.append(request)
            self._changed.notify()

    def stop(self) -> None:
        """End `run` after the step that it is in."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """The thread."""
        while self._wait():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - nobody would hear of it, and all would hang
                self._end_all(EngineFailed(f"the model failed: {error!r:.300}"))
        self._end_all(EngineFailed("the model was unloaded"))

    def _end_all(self, error: NoyauError) -> None:
        for request in self._batch.all():
            self._over(request, error)

    def _wait(self) -> bool:
        """Until there is something to do; False when it is to stop."""
        with self._changed:
            while not (self._stopping or self._come or len(self._batch)):
                self._changed.wait()
            return not self._stopping

    def step(self) -> None:
        """One step, if there is anything to do."""
        with self._changed:
            come, self._come = self._come, []
        for request in come:
            self._batch.add(request)
        for request in self._batch.all():
            if request.unwanted:
                self._over(request, End("cancelled"))
        placed = self._batch.place()
        for request in placed:
            request.placed_at = time.monotonic()
        for request in come:
            if request not in placed:
                request.items.put(Prefill(0, len(request.prompt), waits=True))
        self._read_some()
        writing = self._batch.writing
        if writing:
            self._guarded(writing, lambda: self._write(writing))

    def _guarded(self, concerned: list[Request], work: Callable[[], None]) -> None:
        """Do it; what it raises ends those that it was for. Without memory the youngest of them
        has to go, and the others try again in the next step."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - of any library: must reach the requests as ours
            if self._steps.is_out_of_memory(error):
                self._over(concerned[-1], EngineOutOfMemory(NO_MEMORY))
                error.__traceback__ = None  # its frames hold on to what was computed
                self._steps.release()
                return
            if self._steps.is_broken(error):
                self._on_broken(error)
                self._end_all(EngineFailed(f"{BROKEN}: {error!r:.300}"))
                return
            ours = error if isinstance(error, NoyauError) else None
            for request in concerned:
                self._over(request, ours or EngineFailed(f"the model failed: {error!r:.300}"))

    def _read_some(self) -> None:
        """Chunks of as many prompts as make one full chunk together; at least one."""
        left = self._chunk
        while (request := self._batch.to_read) is not None:
            size = min(self._chunk, len(request.prompt) - request.done)
            if size > left:
                return
            left -= size
            self._batch.had_turn(request)
            self._guarded([request], functools.partial(self._read, request))

    def _read(self, request: Request) -> None:
        if request.done == 0:
            # Even what is never looked at would spread, were it no number.
            self._steps.forget(self._batch.row(request))
        part = request.prompt[request.done : request.done + self._chunk]
        logits = self._steps.read(self._batch.row(request), part, request.done)
        request.done += len(part)
        request.items.put(Prefill(request.done, len(request.prompt)))
        if request.done == len(request.prompt):
            self._batch.read(request)
            request.read_at = time.monotonic()
            self._choose([request], logits)

    def _write(self, requests: list[Request]) -> None:
        # One that has just been read has its first token already; with it comes the second.
        last = {
            self._batch.row(one): (one.made[-1], len(one.prompt) + len(one.made) - 1)
            for one in requests
        }
        self._choose(requests, self._steps.write(last))

    def _choose(self, requests: list[Request], logits: Any) -> None:
        wants = [self._want(one) for one in requests]
        for one, chosen in zip(requests, self._steps.choose(logits, wants), strict=True):
            try:
                if isinstance(chosen, NoyauError):
                    raise chosen
                self._take(one, chosen)
            except NoyauError as error:
                self._over(one, error)

    def _want(self, request: Request) -> Want:
        sampling = request.task.sampling
        return Want(
            sampling,
            request.draws.current,
            request.recent.penalty(sampling),
            # None as well for one whose guide is broken: it ends when its token is taken.
            request.guide.allowed() if request.guide is not None else None,
            request.task.logprobs,
        )

    def _take(self, request: Request, chosen: Chosen) -> None:
        request.made.append(chosen.token)
        request.recent.add([chosen.token])
        request.draws.advance()
        request.items.put(chosen)
        if chosen.token in self._steps.ends:
            self._over(request, End("stop"))
            return
        if request.guide is not None:
            request.guide.take(chosen.token)
            if request.guide.over:
                self._over(request, End("stop"))
                return
        if len(request.made) >= request.left:
            self._over(request, End("length"))

    def _over(self, request: Request, last: End | NoyauError) -> None:
        self._batch.remove(request)
        request.items.put(last)
