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
KEPT_TEXTS: Final = 64
"""Whose vectors are kept for those who ask for the same: 100 kB."""


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
        self._latest: dict[str, bytes] = {}
        """Vectors of the latest texts, the oldest first: a question is embedded for the memories
        and for the tools that are like it, at nearly the same time."""
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
            # Those of the same text at the same time are one.
            texts = list(dict.fromkeys(t for t, _ in batch if t not in self._latest))
            try:
                if texts:
                    await self._compute(texts)
            except NoyauError as error:
                _fail(batch, error)
            except Exception as error:  # noqa: BLE001 - of a library: must reach the callers as ours
                _fail(batch, EngineFailed(f"the embedding model raised {error!r}"))
            else:
                for text, future in batch:
                    if not future.done():
                        future.set_result(self._latest[text])
                self._forget_oldest()
        self._working = None

    async def _compute(self, texts: list[str]) -> None:
        vectors = await asyncio.get_running_loop().run_in_executor(
            self._threads, self.embedder.embed, texts
        )
        self._latest.update(zip(texts, vectors, strict=True))
        self._progressed(len(texts))

    def _forget_oldest(self) -> None:
        while len(self._latest) > KEPT_TEXTS:
            del self._latest[next(iter(self._latest))]

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
