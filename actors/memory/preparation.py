"""How memory gets what remembering and recalling need: the embedding model, and the vectors.

::

    storage ─► weights ─► model ─┐
    database ─► vectors ─► index ┴─► ready ─► missing vectors ─► approximate index, if many

It comes beside the conversations, which need none of it, and is tried again for as long as it
cannot be had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from actors.kernel import Actor
from actors.memory.embedder import RETRY_AFTER_S, Batcher, Embedder
from actors.memory.recollection import LoadedVectors, Recollection
from actors.memory.store import Store
from actors.memory.vectors import ExactIndex, UsearchIndex, VectorIndex
from configs.actor_settings import MemorySettings
from protocol.backoff import Backoff
from protocol.errors import (
    ActorUnavailable,
    InternalError,
    NoyauError,
    Overloaded,
    error_from_body,
)

RETRY: Final = Backoff(first_s=2.0, factor=2.0, max_s=60.0)
"""Between two tries to get the model: whoever has mended the network waits at most a minute."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ready:
    """What remembering and recalling need."""

    batcher: Batcher
    recollection: Recollection


@dataclass(frozen=True, slots=True)
class Threads:
    """One thread each, so neither the database nor the model needs a lock."""

    database: ThreadPoolExecutor
    embedding: ThreadPoolExecutor
    indexing: ThreadPoolExecutor

    @classmethod
    def start(cls) -> Threads:
        """None of them runs before it has work."""
        return cls(
            *(ThreadPoolExecutor(1, thread_name_prefix=name)
              for name in ("database", "embedding", "indexing"))
        )  # fmt: skip

    async def run(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        """Do the work in that thread."""
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


class Preparation:
    """Gets it, and says of ``actor`` what it is doing."""

    def __init__(
        self,
        actor: Actor,
        options: MemorySettings,
        threads: Threads,
        get_embedder: Callable[[], Awaitable[Embedder]],
    ) -> None:
        self._actor = actor
        self._options = options
        self._threads = threads
        self._get_embedder = get_embedder
        self._ready: Ready | None = None
        self._failure: NoyauError | None = None
        self._fetching = ""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, store: Store) -> None:
        """Begin. Returns at once."""
        self._task = asyncio.create_task(self._prepare(store))

    def stop(self) -> None:
        """Whatever is still missing is not needed any more."""
        if self._task is not None:
            self._task.cancel()

    async def finished(self) -> None:
        """Wait until nothing is missing any more."""
        if self._task is not None:
            await self._task

    @property
    def ready(self) -> Ready | None:
        """What is needed, once it is there."""
        return self._ready

    def fetching(self, what: str) -> None:
        """The model's files are being fetched, and so far; empty: no longer."""
        self._fetching = what
        self._news.set()

    async def wait(self) -> Ready:
        """Wait for it. Raises at once when it was not to be had, or is being fetched."""
        while self._ready is None:
            if self._failure is not None:
                _raise_anew(self._failure)
            if self._fetching:
                raise ActorUnavailable(
                    f"the embedding model is being fetched ({self._fetching}): remembering and "
                    "recalling work when it is there",
                    name=self._actor.name,
                    refused=True,
                )
            self._news.clear()
            await self._news.wait()
        return self._ready

    async def _prepare(self, store: Store) -> None:
        attempt = 0
        while self._ready is None:
            try:
                self._ready = await self._get_ready(store, await self._get_embedder())
            except NoyauError as error:
                delay = RETRY.ceiling(attempt)
                attempt += 1
                self._failed(error)
                self._actor.log.warning(
                    "no_model", code=error.code, error=error.message, again_in_s=delay
                )
                await asyncio.sleep(delay)
            except Exception as error:
                self._actor.log.critical("no_model", exc_info=error)
                self._failed(InternalError(f"getting the embedding model raised {error!r}"))
                return
        self._failure, self._fetching, self._actor.reason = None, "", ""
        self._actor.say("idle")
        self._news.set()
        try:
            await self._fill_in(store, self._ready)
            await self._approximate(self._ready)
        except Exception as error:
            self._actor.log.error("vectors_not_complete", exc_info=error)
            self._actor.reason = (
                f"some memories may not be recalled, or slowly, until a restart: {error}"
            )
            self._actor.changed()

    def _failed(self, error: NoyauError) -> None:
        self._failure, self._fetching = error, ""
        self._actor.reason = f"cannot remember or recall: {error.message}"
        self._actor.say("waiting to try again")
        self._actor.changed()
        self._news.set()

    async def _get_ready(self, store: Store, embedder: Embedder) -> Ready:
        options, model = self._options, embedder.identity
        numbers, vectors = await self._threads.run(self._threads.database, store.vectors, model)
        loaded = LoadedVectors(model, embedder.dimension, numbers, vectors)
        # Exact at first, however many there are: an approximate one takes minutes to make.
        index = await self._threads.run(self._threads.indexing, _exact, loaded)
        recollection = Recollection(store, model, index, options.duplicate_score)
        await self._threads.run(self._threads.database, recollection.catch_up, loaded)
        batcher = Batcher(
            embedder, self._threads.embedding, batch_texts=options.batch_texts,
            max_waiting=options.max_waiting_texts, progressed=self._actor.progressed,
        )  # fmt: skip
        self._actor.info |= {"model": model, "dimension": embedder.dimension}
        return Ready(batcher, recollection)

    async def _fill_in(self, store: Store, ready: Ready) -> None:
        """Make the vectors that are missing, as after a change of the model; then let go of those
        of other models."""
        run, database = self._threads.run, self._threads.database
        model, batch = ready.recollection.model, self._options.batch_texts
        while rows := await run(database, store.without_vector, model, batch):
            try:
                vectors = await ready.batcher.embed([text for _, text in rows])
            except Overloaded:
                # Callers first: they wait for an answer, this does not.
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            numbered = [(n, vector) for (n, _), vector in zip(rows, vectors, strict=True)]
            await run(database, ready.recollection.add_vectors, numbered)
        await run(database, store.drop_other_vectors, model)

    async def _approximate(self, ready: Ready) -> None:
        """Make an approximate index beside the exact one, where there are many memories."""
        run, threads = self._threads.run, self._threads
        recollection, dimension = ready.recollection, ready.batcher.embedder.dimension
        if len(recollection) <= self._options.approximate_above:
            return
        loaded = await run(threads.database, recollection.begin_switch, dimension)
        index = await run(threads.indexing, lambda: loaded.fill(UsearchIndex(dimension)))
        await run(threads.database, recollection.switch, index)


def _exact(loaded: LoadedVectors) -> VectorIndex:
    return loaded.fill(ExactIndex(loaded.dimension))


def _raise_anew(error: NoyauError) -> NoReturn:
    """A fresh one for each caller: one raised again and again would collect all their traces."""
    raise error_from_body(error.to_body())
