"""What a query is answered from: the conversation, the memories, the tool that fits.

All of it is asked for at once, and only a conversation that is to go on is waited for. Memories and
tools are looked up where their actors are READY; where they are not, the answer is made without
them and says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

from actors.orchestrator.prompt import own_tools
from configs.actor_settings import OrchestratorSettings
from protocol.caller import Caller
from protocol.clock import Clock
from protocol.errors import NoyauError
from protocol.messages.base import Ask, Message
from protocol.messages.memory import Conversation, FindAppended, GetConversation, Hit, Recall
from protocol.messages.orchestrator import Query
from protocol.messages.tool_user import MAX_TEXT, FindTool, FoundTool

M = TypeVar("M", bound=Message)

MEMORY, TOOL_USER = "memory", "tool_user"
LOOK_S = 2.0
"""How long a memory or a tool is looked for: longer than either takes on a busy machine, and short
enough to be given up for an answer."""


@dataclass(slots=True)
class Gathered:
    """What was found."""

    conversation: Conversation | None = None
    hits: list[Hit] = field(default_factory=list)
    tool: FoundTool | None = None
    missing: list[str] = field(default_factory=list)
    """What the answer is made without, and why."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that is in its conversation."""

    conversation: str
    text: str


class Gatherer:
    """Asks memory and tool_user on behalf of queries."""

    def __init__(self, caller: Caller, clock: Clock, options: OrchestratorSettings) -> None:
        self._caller = caller
        self._clock = clock
        self._options = options

    async def gather(self, query: Query, question: str) -> Gathered:
        """Everything there is for this query. Raises what stands in the way of going on with its
        conversation: `NotFound`, or memory's being away until the deadline."""
        found = Gathered()
        await asyncio.gather(
            self._conversation(query, found),
            self._memories(query, question, found),
            self._tool(query, question, found),
        )
        return found

    async def stored(self, query: Query) -> StoredAnswer | None:
        """The answer of a query that comes back, where a dead incarnation had stored it already and
        died before it could say so."""
        if query.begun is None or query.conversation is None:
            return None
        # By the key under which it was stored: others may have gone on with the conversation.
        found = await self._caller.ask(MEMORY, FindAppended(key=query.id))
        return StoredAnswer(found.conversation, found.turns[-1].content) if found.turns else None

    async def _conversation(self, query: Query, found: Gathered) -> None:
        if query.conversation:
            found.conversation = await self._caller.ask(
                MEMORY,
                GetConversation(conversation=query.conversation, last=self._options.history_turns),
            )

    async def _memories(self, query: Query, question: str, found: Gathered) -> None:
        options = self._options
        if not (options.memories and query.memories and question.strip()):
            return
        recall = Recall(
            query=question, limit=options.memories, min_score=options.memory_min_score
        )  # fmt: skip
        recalled = await self._look(MEMORY, recall, "memories", found)
        found.hits = recalled.hits if recalled is not None else []

    async def _tool(self, query: Query, question: str, found: Gathered) -> None:
        if own_tools(query) and question.strip() and len(question) <= MAX_TEXT:
            found.tool = await self._look(
                TOOL_USER, FindTool(text=question, similar=False), "tools", found
            )

    async def similar_tool(self, question: str) -> FoundTool | None:
        """The tool that the question is like, if one is near enough; None also where that cannot be
        looked at: whoever asked gets an answer all the same."""
        if len(question) > MAX_TEXT or TOOL_USER not in self._caller.directory.entries:
            return None
        found = await self._look(TOOL_USER, FindTool(text=question), "", Gathered())
        return found if found is not None and found.tool is not None else None

    async def _look(self, actor: str, message: Ask[M], what: str, found: Gathered) -> M | None:
        """The reply, or None and a word on why there is none. An actor that is switched off is no
        lack."""
        if actor not in self._caller.directory.entries:
            return None
        try:
            if self._caller.directory.ready(actor, self._clock.now()) is None:
                found.missing.append(f"without {what}: {actor} is not ready")
                return None
            return await self._caller.ask(actor, message, timeout_s=LOOK_S)
        except NoyauError as error:
            found.missing.append(f"without {what}: {error.message}")
            return None
