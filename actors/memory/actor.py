"""Memory: semantic memories and conversations, in one database.

::

    conversations ───────────────────────────────► database's thread
    remember, recall ──► embedding's thread ─────► database's thread, where the vectors are too

READY means that the database is open: conversations are answered from then on. The embedding model
and the vectors come beside; who wants to remember or recall waits for them, and is told why when
they cannot be had.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from actors.kernel import Actor, Surroundings, handles
from actors.memory.embedder import Embedder
from actors.memory.preparation import Preparation, Threads
from actors.memory.provision import ask_storage, load_model
from actors.memory.store import ConversationRow, MemoryRow, Request, Store, TurnRow
from actors.memory.texts import check_text, metadata_as_json
from configs.actor_settings import MemorySettings
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

T = TypeVar("T")


class Memory(Actor):
    """What was said, and what is worth remembering."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(MemorySettings)
        self._folder = surroundings.incarnation.settings.data.folder
        self._threads = Threads.start()
        self._preparation = Preparation(
            self, self._options, self._threads, lambda: self._get_embedder()
        )
        self._opened: Store | None = None

    async def on_start(self) -> None:
        """Open the database; begin to get the model."""
        self._opened = await self._in_database(Store, self._folder / "memory.db", time.time())
        self.info = {"model": None}
        self._preparation.start(self._store)

    async def on_stop(self) -> None:
        """Let go of the database, which empties its log into it."""
        self._preparation.stop()
        if self._opened is not None:
            await self._in_database(self._opened.close)

    async def _in_database(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self._threads.run(self._threads.database, work, *arguments)

    @property
    def _store(self) -> Store:
        assert self._opened is not None
        return self._opened

    async def _get_embedder(self) -> Embedder:
        """The embedding model, loaded."""
        options = self._options
        self.say("asking storage for the embedding model")
        sources = await ask_storage(
            self.caller, options.weights, options.vocabulary, self._show_fetching
        )
        self.info |= {"missed_assets": list(sources.missed)}
        self._preparation.fetching("")
        self.say("loading the embedding model")
        return await self._threads.run(
            self._threads.embedding,
            load_model, self._folder / "models", sources, options.threads,
            lambda problem: self.log.warning("model_made_anew", problem=problem),
        )  # fmt: skip

    def _show_fetching(self, progress: AssetProgress) -> None:
        self.progressed()
        what = f"{progress.stage} {progress.asset}"
        self.say(what, progress.done_bytes, progress.total_bytes, "bytes")
        if progress.stage != "verifying":
            done = 100 * progress.done_bytes // max(1, progress.total_bytes)
            self._preparation.fetching(f"{what}, {done} %")

    # --- semantic memories ----------------------------------------------------------------

    @handles(Remember)
    async def remember(self, message: Remember) -> Remembered:
        """Store the text, unless a near-duplicate is there."""
        self._check(message.text, "the text to remember")
        request = _request(message)
        ready = await self._preparation.wait()
        (vector,) = await ready.batcher.embed([message.text])
        reply = await self._in_database(
            ready.recollection.remember,
            request, message.text, message.source, vector,
        )  # fmt: skip
        return Remembered.model_validate(reply)

    @handles(Recall)
    async def recall(self, message: Recall) -> Recalled:
        """The memories nearest to the query."""
        self._check(message.query, "the query")
        if not await self._in_database(self._store.count_memories):
            # The usual case of whoever only talks: nothing to find, so nothing to compute, nor a
            # model to wait for.
            return Recalled(hits=[])
        ready = await self._preparation.wait()
        (vector,) = await ready.batcher.embed([message.query])
        found, unsearched = await self._in_database(
            ready.recollection.recall, vector, message.limit, message.min_score
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
        return await self._in_database(self._forget, _request(message), message.ids)

    def _forget(self, request: Request, ids: list[str]) -> Forgotten:
        """In the database's thread, as one step: the index made meanwhile catches up."""
        reply, gone = self._store.forget_memories(request, ids)
        if self._preparation.ready is not None:
            self._preparation.ready.recollection.forgot(gone)
        return Forgotten.model_validate(reply)

    @handles(ListMemories)
    async def list_memories(self, message: ListMemories) -> Memories:
        """A page of all memories."""
        rows, total = await self._in_database(self._store.memories, message.offset, message.limit)
        return Memories(items=[_item(row) for row in rows], total=total)

    @handles(Embed)
    async def embed(self, message: Embed) -> Embedded:
        """Vectors of texts, for other actors."""
        for text in message.texts:
            self._check(text, "a text to embed")
        ready = await self._preparation.wait()
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
        reply = await self._in_database(
            self._store.append, _request(message), message.conversation, rows
        )
        return Appended.model_validate(reply)

    @handles(GetConversation)
    async def conversation(self, message: GetConversation) -> Conversation:
        """The last turns of a conversation."""
        found, rows = await self._in_database(
            self._store.conversation, message.conversation, message.last
        )
        return _conversation(found, rows)

    @handles(FindAppended)
    async def appended(self, message: FindAppended) -> Conversation:
        """What a key wrote, whatever was written behind it."""
        found = await self._in_database(self._store.appended, message.key)
        if found is None:
            return Conversation(conversation="", title="", turns=[], total=0)
        return _conversation(*found)

    @handles(ListConversations)
    async def conversations(self, message: ListConversations) -> Conversations:
        """A page of all conversations."""
        rows, total = await self._in_database(
            self._store.conversations, message.offset, message.limit
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
        reply = await self._in_database(
            self._store.forget_conversation,
            _request(message), message.conversation,
        )  # fmt: skip
        return Forgotten.model_validate(reply)


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
