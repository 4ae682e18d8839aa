"""What turns texts into vectors, as the rest of memory sees it; and how waiting texts share it.

::

    callers ── embed ──► waiting texts ──► at most `batch_texts` together ──► a thread ──► callers
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, Protocol

from protocol.errors import EngineFailed, NoyauError, Overloaded, error_from_body

RETRY_AFTER_S: Final = 0.5
"""About two batches."""


class Embedder(Protocol):
    """An embedding model. `embed` is called from one thread at a time."""

    @property
    def identity(self) -> str:
        """Of its weights and dimension; vectors of another identity are never compared."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector of unit length for each text, as little-endian float32; blocks.

        Raises `EngineFailed`.
        """
        ...


class Batcher:
    """Embeds texts of many callers, those that wait together. Belongs to the event loop."""

    def __init__(
        self,
        embedder: Embedder,
        threads: Executor,
        *,
        batch_texts: int,
        max_waiting: int,
        progressed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.embedder = embedder
        self._threads = threads
        self._batch_texts = batch_texts
        self._max_waiting = max_waiting
        self._progressed = progressed
        self._waiting: deque[tuple[str, asyncio.Future[bytes]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text. Raises `Overloaded` or `EngineFailed`."""
        if len(self._waiting) + len(texts) > self._max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} texts wait to be embedded, {len(texts)} more would be "
                f"over the {self._max_waiting} that may",
                retry_after_s=RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        mine = [loop.create_future() for _ in texts]
        self._waiting.extend(zip(texts, mine, strict=True))
        if self._working is None:
            self._working = loop.create_task(self._work())
        try:
            return list(await asyncio.gather(*mine))
        finally:
            # Of a caller who left: what nobody waits for is not computed.
            for future in mine:
                future.cancel()

    async def _work(self) -> None:
        while batch := self._take():
            texts = [text for text, _ in batch]
            try:
                vectors = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self.embedder.embed, texts
                )
            except NoyauError as error:
                _fail(batch, error)
            except Exception as error:  # noqa: BLE001 - of a library: must reach the callers as ours
                _fail(batch, EngineFailed(f"the embedding model raised {error!r}"))
            else:
                for (_, future), vector in zip(batch, vectors, strict=True):
                    if not future.done():
                        future.set_result(vector)
                self._progressed(len(batch))
        self._working = None

    def _take(self) -> list[tuple[str, asyncio.Future[bytes]]]:
        batch: list[tuple[str, asyncio.Future[bytes]]] = []
        while self._waiting and len(batch) < self._batch_texts:
            text, future = self._waiting.popleft()
            if not future.done():
                batch.append((text, future))
        return batch


def _fail(batch: Sequence[tuple[str, asyncio.Future[bytes]]], error: NoyauError) -> None:
    for _, future in batch:
        if not future.done():
            # One for each: an error raised twice would collect both traces.
            future.set_exception(error_from_body(error.to_body()))
