"""Memory: semantic memories and conversations, in one database.

::

    conversations ───────────────────────────────► database's thread
    remember, recall ──► embedding's thread ─────► database's thread, where the vectors are too

READY means that the database is open: conversations are answered from then on. The embedding model
and the vectors come beside; who wants to remember or recall waits for them, and is told why when
they cannot be had.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from actors.kernel import Actor, Surroundings, handles
from actors.memory.embedder import RETRY_AFTER_S, Batcher, Embedder
from actors.memory.provision import ask_storage, load_model
from actors.memory.recollection import LoadedVectors, Recollection
from actors.memory.store import ConversationRow, MemoryRow, Request, Store, TurnRow
from actors.memory.texts import check_text, metadata_as_json
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
from protocol.messages.base import Message
from protocol.messages.memory import (
    Appended,
    AppendTurns,
    Conversation,
    Conversations,
    ConversationSummary,
    Embed,
    Embedded,
    FindAppended,
    Forget,
    ForgetConversation,
    Forgotten,
    GetConversation,
    Hit,
    ListConversations,
    ListMemories,
    Memories,
    MemoryItem,
    Recall,
    Recalled,
    Remember,
    Remembered,
    StoredTurn,
)
from protocol.messages.storage import AssetProgress

RETRY: Final = Backoff(first_s=2.0, factor=2.0, max_s=60.0)
"""Between two tries to get the model: whoever has mended the network waits at most a minute."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ready:
    """What remembering and recalling need."""

    batcher: Batcher
    recollection: Recollection


class Memory(Actor):
    """What was said, and what is worth remembering."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(MemorySettings)
        self._folder = surroundings.incarnation.settings.data.folder
        self._loop = asyncio.get_running_loop()
        # One thread each, so neither the database nor the model needs a lock.
        self._database = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="embedding")
        self._indexing = ThreadPoolExecutor(1, thread_name_prefix="indexing")
        self._opened: Store | None = None
        self._ready: Ready | None = None
        self._failure: NoyauError | None = None
        self._fetching = ""
        self._news = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Open the database; begin to get the model."""
        path = self._folder / "memory.db"
        self._opened = await self._in(self._database, Store, path, time.time())
        self.info = {"model": None}
        self._preparing = self._loop.create_task(self._prepare())

    async def on_stop(self) -> None:
        """Let go of the database, which empties its log into it."""
        if self._preparing is not None:
            self._preparing.cancel()
        if self._opened is not None:
            await self._in(self._database, self._opened.close)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(threads, work, *arguments)

    @property
    def _store(self) -> Store:
        assert self._opened is not None
        return self._opened

    # --- getting the model ----------------------------------------------------------------

    async def _prepare(self) -> None:
        """Get the model and the vectors, trying again for as long as that fails."""
        attempt = 0
        while self._ready is None:
            try:
                embedder = await self._get_embedder()
                self._ready = await self._get_ready(embedder)
            except NoyauError as error:
                delay = RETRY.ceiling(attempt)
                attempt += 1
                self._failed(error)
                self.log.warning("no_model", code=error.code, error=error.message, again_in_s=delay)
                await asyncio.sleep(delay)
            except Exception as error:
                self.log.critical("no_model", exc_info=error)
                self._failed(InternalError(f"getting the embedding model raised {error!r}"))
                return
        self._failure, self._fetching, self.reason = None, "", ""
        self.say("idle")
        self._news.set()
        try:
            await self._fill_in(self._ready)
            await self._approximate(self._ready)
        except Exception as error:
            self.log.error("vectors_not_complete", exc_info=error)
            self.reason = f"some memories may not be recalled, or slowly, until a restart: {error}"
            self.changed()

    def _failed(self, error: NoyauError) -> None:
        self._failure, self._fetching = error, ""
        self.reason = f"cannot remember or recall: {error.message}"
        self.say("waiting to try again")
        self.changed()
        self._news.set()

    async def _get_embedder(self) -> Embedder:
        """The embedding model, loaded."""
        options = self._options
        self.say("asking storage for the embedding model")
        sources = await ask_storage(
            self.caller, options.weights, options.vocabulary, self._show_fetching
        )
        self._fetching = ""
        self.say("loading the embedding model")
        return await self._in(
            self._embedding, load_model, self._folder / "models", sources, options.threads,
            lambda problem: self.log.warning("model_made_anew", problem=problem),
        )  # fmt: skip

    def _show_fetching(self, progress: AssetProgress) -> None:
        self.progressed()
        what = f"{progress.stage} {progress.asset}"
        self.say(what, progress.done_bytes, progress.total_bytes, "bytes")
        if progress.stage != "verifying":
            self._fetching = (
                f"{what}, {100 * progress.done_bytes // max(1, progress.total_bytes)} %"
            )
            self._news.set()

    async def _get_ready(self, embedder: Embedder) -> Ready:
        options = self._options
        model = embedder.identity
        numbers, vectors = await self._in(self._database, self._store.vectors, model)
        loaded = LoadedVectors(model, embedder.dimension, numbers, vectors)
        # Exact at first, however many there are: an approximate one takes minutes to make.
        index = await self._in(self._indexing, _exact, loaded)
        recollection = Recollection(self._store, model, index, options.duplicate_score)
        await self._in(self._database, recollection.catch_up, loaded)
        batcher = Batcher(
            embedder, self._embedding, batch_texts=options.batch_texts,
            max_waiting=options.max_waiting_texts, progressed=self.progressed,
        )  # fmt: skip
        self.info = {"model": model, "dimension": embedder.dimension}
        return Ready(batcher, recollection)

    async def _fill_in(self, ready: Ready) -> None:
        """Make the vectors that are missing, as after a change of the model; then let go of those
        of other models."""
        model, batch = ready.recollection.model, self._options.batch_texts
        while rows := await self._in(self._database, self._store.without_vector, model, batch):
            try:
                vectors = await ready.batcher.embed([text for _, text in rows])
            except Overloaded:
                # Callers first: they wait for an answer, this does not.
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            numbered = [(n, vector) for (n, _), vector in zip(rows, vectors, strict=True)]
            await self._in(self._database, ready.recollection.add_vectors, numbered)
        await self._in(self._database, self._store.drop_other_vectors, model)

    async def _approximate(self, ready: Ready) -> None:
        """Make an approximate index beside the exact one, where there are many memories."""
        recollection, dimension = ready.recollection, ready.batcher.embedder.dimension
        if len(recollection) <= self._options.approximate_above:
            return
        loaded = await self._in(self._database, recollection.begin_switch, dimension)
        index = await self._in(self._indexing, lambda: loaded.fill(UsearchIndex(dimension)))
        await self._in(self._database, recollection.switch, index)

    async def _when_ready(self) -> Ready:
        """Wait for the model. Raises at once when it was not to be had, or is being fetched."""
        while self._ready is None:
            if self._failure is not None:
                _raise_anew(self._failure)
            if self._fetching:
                raise ActorUnavailable(
                    f"the embedding model is being fetched ({self._fetching}): remembering and "
                    "recalling work when it is there",
                    name=self.name,
                )
            self._news.clear()
            await self._news.wait()
        return self._ready

    # --- semantic memories ----------------------------------------------------------------

    @handles(Remember)
    async def remember(self, message: Remember) -> Remembered:
        """Store the text, unless a near-duplicate is there."""
        self._check(message.text, "the text to remember")
        request = _request(message)
        ready = await self._when_ready()
        (vector,) = await ready.batcher.embed([message.text])
        reply = await self._in(
            self._database, ready.recollection.remember,
            request, message.text, message.source, vector,
        )  # fmt: skip
        return Remembered.model_validate(reply)

    @handles(Recall)
    async def recall(self, message: Recall) -> Recalled:
        """The memories nearest to the query."""
        self._check(message.query, "the query")
        if self._ready and not await self._in(self._database, self._store.count_memories):
            # The usual case of whoever only talks: nothing to find, so nothing to compute.
            return Recalled(hits=[])
        ready = await self._when_ready()
        (vector,) = await ready.batcher.embed([message.query])
        found, unsearched = await self._in(
            self._database, ready.recollection.recall, vector, message.limit, message.min_score
        )
        now = time.time()
        hits = [
            Hit(
                id=one.memory.id, text=one.memory.text, score=one.score,
                age_s=max(0.0, now - one.memory.created_at), source=one.memory.source,
            )
            for one in found
        ]  # fmt: skip
        return Recalled(hits=hits, unsearched=unsearched)

    @handles(Forget)
    async def forget(self, message: Forget) -> Forgotten:
        """Remove memories; works without the model."""
        return await self._in(self._database, self._forget, _request(message), message.ids)

    def _forget(self, request: Request, ids: list[str]) -> Forgotten:
        """In the database's thread, as one step: the index made meanwhile catches up."""
        reply, gone = self._store.forget_memories(request, ids)
        if self._ready is not None:
            self._ready.recollection.forgot(gone)
        return Forgotten.model_validate(reply)

    @handles(ListMemories)
    async def list_memories(self, message: ListMemories) -> Memories:
        """A page of all memories."""
        rows, total = await self._in(
            self._database, self._store.memories, message.offset, message.limit
        )
        return Memories(items=[_item(row) for row in rows], total=total)

    @handles(Embed)
    async def embed(self, message: Embed) -> Embedded:
        """Vectors of texts, for other actors."""
        for text in message.texts:
            self._check(text, "a text to embed")
        ready = await self._when_ready()
        embedder = ready.batcher.embedder
        vectors = await ready.batcher.embed(message.texts)
        return Embedded(vectors=vectors, dimension=embedder.dimension, model=embedder.identity)

    def _check(self, text: str, what: str) -> None:
        check_text(text, what, self._options.max_text_chars)

    # --- conversations --------------------------------------------------------------------

    @handles(AppendTurns)
    async def append(self, message: AppendTurns) -> Appended:
        """Put turns behind a conversation."""
        limit = self._options.max_turn_chars
        rows = []
        for turn in message.turns:
            check_text(turn.content, "the content of a turn", limit, empty=True)
            rows.append(TurnRow(turn.role, turn.content, metadata_as_json(turn.metadata, limit)))
        reply = await self._in(
            self._database, self._store.append, _request(message), message.conversation, rows
        )
        return Appended.model_validate(reply)

    @handles(GetConversation)
    async def conversation(self, message: GetConversation) -> Conversation:
        """The last turns of a conversation."""
        found, rows = await self._in(
            self._database, self._store.conversation, message.conversation, message.last
        )
        return _conversation(found, rows)

    @handles(FindAppended)
    async def appended(self, message: FindAppended) -> Conversation:
        """What a key wrote, whatever was written behind it."""
        found = await self._in(self._database, self._store.appended, message.key)
        if found is None:
            return Conversation(conversation="", title="", turns=[], total=0)
        return _conversation(*found)

    @handles(ListConversations)
    async def conversations(self, message: ListConversations) -> Conversations:
        """A page of all conversations."""
        rows, total = await self._in(
            self._database, self._store.conversations, message.offset, message.limit
        )
        items = [
            ConversationSummary(
                conversation=row.id, title=row.title, turns=row.turns,
                created_at=row.created_at, updated_at=row.updated_at,
            )
            for row in rows
        ]  # fmt: skip
        return Conversations(items=items, total=total)

    @handles(ForgetConversation)
    async def forget_conversation(self, message: ForgetConversation) -> Forgotten:
        """Remove a conversation."""
        reply = await self._in(
            self._database, self._store.forget_conversation,
            _request(message), message.conversation,
        )  # fmt: skip
        return Forgotten.model_validate(reply)


def _exact(loaded: LoadedVectors) -> VectorIndex:
    return loaded.fill(ExactIndex(loaded.dimension))


def _item(row: MemoryRow) -> MemoryItem:
    return MemoryItem(id=row.id, text=row.text, source=row.source, created_at=row.created_at)


def _conversation(found: ConversationRow, rows: Sequence[TurnRow]) -> Conversation:
    turns = [
        StoredTurn.model_validate(
            {
                "role": row.role, "content": row.content, "number": row.number,
                "metadata": json.loads(row.metadata), "created_at": row.created_at,
            }
        )
        for row in rows
    ]  # fmt: skip
    return Conversation(conversation=found.id, title=found.title, turns=turns, total=found.turns)


def _request(message: Remember | Forget | AppendTurns | ForgetConversation) -> Request:
    """The key of a change, and what the key must mean whenever it comes again."""
    return Request(message.key, _digest(message), time.time())


def _digest(message: Message) -> bytes:
    said = json.dumps(message.model_dump(exclude={"key"}), sort_keys=True)
    return hashlib.sha256(f"{type(message).__name__} {said}".encode()).digest()


def _raise_anew(error: NoyauError) -> NoReturn:
    """A fresh one for each caller: one raised again and again would collect all their traces."""
    raise error_from_body(error.to_body())
