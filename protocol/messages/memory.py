"""Messages to memory: what is worth remembering, and what was said.

Whatever changes something carries a key that names the request, made anew for each message unless
given. The key is stored in one transaction with the effect: a request sent again with its key is
answered as it was the first time, so callers may send it again when memory died.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from protocol.envelope import new_id
from protocol.messages.base import Ask, Message, Role

MemoryId = Annotated[str, Field(min_length=1, max_length=64)]
Key = Annotated[str, Field(min_length=1, max_length=100)]
Offset = Annotated[int, Field(ge=0, lt=2**62)]
Limit = Annotated[int, Field(ge=1, le=1000)]


def new_key() -> str:
    """A key that no other request has."""
    return new_id().hex()


# --- semantic memories ----------------------------------------------------------------------


class Remembered(Message):
    """The text is on disk, or something that says the same already was."""

    id: str
    """Of the memory that holds it: the new one, or the one that it is a near-duplicate of."""
    duplicate_of: str | None = None
    """The memory that says the same already; the text was not stored then."""
    score: float | None = None
    """Cosine similarity to the nearest memory there was; None where there was none."""


class Remember(Ask[Remembered], operation="memory.remember", role=Role.ASK):
    """Remember a text for ever."""

    idempotent = True
    text: str
    source: str = Field(default="", max_length=200)
    """Where it comes from, in the caller's own words."""
    key: Key = Field(default_factory=new_key)


class Hit(Message):
    """One memory that fits a query."""

    id: str
    text: str
    score: float
    """Cosine similarity to the query, at most 1."""
    age_s: float
    source: str


class Recalled(Message):
    """The best hits, best first."""

    hits: list[Hit]
    unsearched: int = 0
    """Memories that could not be searched yet: the embedding model changed, and their vectors
    are still being computed."""


class Recall(Ask[Recalled], operation="memory.recall", role=Role.ASK):
    """Which memories fit the query?"""

    idempotent = True
    query: str
    limit: int = Field(default=5, ge=1, le=100)
    min_score: float = Field(default=0.0, ge=-1, le=1, allow_inf_nan=False)


class Forgotten(Message):
    """How many memories, or turns, were there and are gone."""

    count: int


class Forget(Ask[Forgotten], operation="memory.forget", role=Role.ASK):
    """Forget these memories; ids that are unknown count for nothing."""

    idempotent = True
    ids: list[MemoryId] = Field(min_length=1, max_length=1000)
    key: Key = Field(default_factory=new_key)


class MemoryItem(Message):
    """One memory."""

    id: str
    text: str
    source: str
    created_at: float
    """Unix seconds."""


class Memories(Message):
    """A page of all memories."""

    items: list[MemoryItem]
    total: int


class ListMemories(Ask[Memories], operation="memory.list", role=Role.ASK):
    """All memories, the newest first."""

    idempotent = True
    offset: Offset = 0
    limit: Limit = 50


class Embedded(Message):
    """One vector of unit length for each text, in their order."""

    vectors: list[bytes]
    """Each ``dimension`` little-endian float32."""
    dimension: int
    model: str
    """Identifies the model: vectors of different ones must not be compared."""


class Embed(Ask[Embedded], operation="memory.embed", role=Role.INTERNAL):
    """What do these texts mean, as vectors?"""

    idempotent = True
    texts: list[str] = Field(min_length=1, max_length=256)


# --- conversations --------------------------------------------------------------------------


class Turn(Message):
    """What one side said."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class StoredTurn(Turn):
    """A turn and its place in the conversation."""

    number: int
    """From 0, without gaps."""
    created_at: float
    """Unix seconds."""


class Appended(Message):
    """The turns are on disk."""

    conversation: str
    numbers: list[int]


class AppendTurns(Ask[Appended], operation="memory.append", role=Role.ASK):
    """Put turns behind those of a conversation, all or none; or begin one."""

    idempotent = True
    conversation: str = Field(default="", max_length=64)
    """Empty: a new one."""
    turns: list[Turn] = Field(min_length=1, max_length=1000)
    key: Key = Field(default_factory=new_key)


class Conversation(Message):
    """A conversation's last turns, in their order."""

    conversation: str
    title: str
    turns: list[StoredTurn]
    total: int
    """How many turns it has in all."""


class FindAppended(Ask[Conversation], operation="memory.appended", role=Role.ASK):
    """The turns that an `AppendTurns` with this key put on disk, and their conversation; both empty
    when there was none, or when what it wrote was forgotten."""

    idempotent = True
    key: Key


class GetConversation(Ask[Conversation], operation="memory.conversation", role=Role.ASK):
    """What was said?"""

    idempotent = True
    conversation: str = Field(min_length=1, max_length=64)
    last: int = Field(default=100, ge=1, le=10_000)
    """So many of the last turns."""


class ConversationSummary(Message):
    """A conversation without what was said in it."""

    conversation: str
    title: str
    turns: int
    created_at: float
    updated_at: float
    """Unix seconds, both."""


class Conversations(Message):
    """A page of all conversations."""

    items: list[ConversationSummary]
    total: int


class ListConversations(Ask[Conversations], operation="memory.conversations", role=Role.ASK):
    """All conversations, the one that went on last first."""

    idempotent = True
    offset: Offset = 0
    limit: Limit = 50


class ForgetConversation(Ask[Forgotten], operation="memory.forget_conversation", role=Role.ASK):
    """Forget a conversation and all that was said in it."""

    idempotent = True
    conversation: str = Field(min_length=1, max_length=64)
    key: Key = Field(default_factory=new_key)
