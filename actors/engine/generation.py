"""One generation of an engine: a thread at one end, the event loop at the other.

The model library blocks, so each has a thread; what it makes is handed to the event loop, which
streams it. One that nobody wants any more is told so by a flag, and its thread lets go when the
library has seen that: after one token, or one batch of the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from actors.engine.backends import Backend, Outcome, Piece, Prefill, Task
from actors.engine.courier import Courier, Mailbox
from actors.engine.misbehaving import Misbehaving
from protocol.errors import EngineFailed, NoyauError

Item = Piece | Prefill | Outcome | NoyauError


class Generation:
    """See the module."""

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

    @property
    def running(self) -> bool:
        """Whether its thread works on it: not while its model is loaded, nor when it is over."""
        return self._thread is not None and not self._thread.done()

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


def _joined(first: Piece, second: Piece) -> Piece:
    known = bool(first.tokens) and bool(second.tokens)
    return Piece(
        first.text + second.text,
        [*first.tokens, *second.tokens] if known else [],
        first.count + second.count,
        first.logprobs + second.logprobs,
    )
