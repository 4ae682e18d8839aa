"""The orchestrator: a query's way. It owns nothing: any incarnation can go on where one died.

::

    query ─► conversation, memories, tool ─┬─ tool is sure ─► its result ─┬─► turn stored ─► end
                                           └─ else: prompt ─► engines ────┘
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.request import Request
from actors.orchestrator.acceptance import Acceptance, Accepted
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.gathering import MEMORY, Gathered, Gatherer
from actors.orchestrator.generating import Engines
from actors.orchestrator.promises import answer_without_model, without_gpu
from actors.orchestrator.prompt import question_of, said_before, with_system
from actors.orchestrator.toolwork import ToolFits, Tools
from configs.actor_settings import OrchestratorSettings
from configs.profiles import in_force
from protocol.errors import InvalidRequest
from protocol.lifecycle import Profile
from protocol.messages.engine import ChatMessage, Generated, Sampling, Tokens
from protocol.messages.memory import AppendTurns, Turn
from protocol.messages.orchestrator import Answered, MemoryUse, Query, Text
from protocol.messages.supervisor import DirectoryEntry
from protocol.messages.tool_user import FoundTool, ToolResult

T = TypeVar("T")

SETTLE_ON_STOP_S = 1.0
"""How long a stop waits for the ends of its queries to be written; what is not, is ended by the
next incarnation."""


@dataclass(slots=True)
class Making:
    """All that an answer is made from."""

    query: Query
    turns: list[ChatMessage]
    found: Gathered
    answer: AnswerInProgress
    accepted: Accepted
    until: float
    said: ToolResult | None = None
    """What a tool said to it."""


class Orchestrator(Actor):
    """Takes questions and sees each through to its end."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(OrchestratorSettings)
        self._settings = surroundings.incarnation.settings
        self._query = self._settings.query
        self._engines = Engines(self.caller, self.clock, self._query)
        self._gatherer = Gatherer(self.caller, self.clock, self._options)
        self._tools = Tools(self.caller, self._gatherer, self._engines)
        self._acceptance = Acceptance(self.caller, self.epoch, self._query.abandoned_after_s)
        self._sweeping: asyncio.Task[list[str]] | None = None

    async def on_start(self) -> None:
        """Look after what a dead incarnation left; in the background."""
        self._sweeping = asyncio.create_task(self._acceptance.end_abandoned())
        self._sweeping.add_done_callback(self._swept)

    def _swept(self, sweeping: asyncio.Task[list[str]]) -> None:
        if not sweeping.cancelled() and (error := sweeping.exception()) is not None:
            self.log.warning("abandoned_queries_not_ended", error=str(error))

    async def on_stop(self) -> None:
        """Have written how every query ended."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._acceptance.settled(SETTLE_ON_STOP_S)

    @property
    def waiting(self) -> int:
        """Queries that wait for an engine's slot."""
        return self._engines.waiting

    @handles(Query)
    async def query(
        self, message: Query, request: Request
    ) -> AsyncGenerator[Text | Answered, None]:
        """Answer one question."""
        now = self.clock.now()
        if request.context.deadline is None:
            request.context.deadline = now + self._query.deadline_s
        answer = AnswerInProgress(
            message.id, request.context.correlation.hex(), now, self._query.max_continuations,
            message.begun,
        )  # fmt: skip
        async with self._acceptance.of(message, request) as accepted:
            turns = self._turns(message)
            stored = await self._gatherer.stored(message)
            if stored is not None:
                rest = stored.text.removeprefix(answer.text)
                yield answer.take(Tokens(text=rest, count=0), self.clock.now())
                accepted.done = True
                told = answer.finish(self.clock.now(), self._profile())
                yield told.model_copy(update={"conversation": stored.conversation})
                return
            found = await self._gatherer.gather(message, question_of(message))
            ways = self._ways(message, turns, found, answer, accepted, request.context.deadline)
            async with contextlib.aclosing(ways) as pieces:
                async for piece in pieces:
                    if piece.text:
                        accepted.got_on()
                    yield piece
            end = self._told(message, found, answer)
            if message.conversation is not None:
                end = end.model_copy(update={"conversation": await self._store(message, answer)})
            accepted.done = True
            yield end

    async def _ways(
        self,
        message: Query,
        turns: list[ChatMessage],
        found: Gathered,
        answer: AnswerInProgress,
        accepted: Accepted,
        until: float,
    ) -> AsyncGenerator[Text, None]:
        """The answer's pieces: by a tool that is surely meant, or else by an engine."""
        if found.tool is not None and found.tool.how == "exact":
            piece = await self._by_tool(found.tool, found, answer, accepted)
            if piece is not None:
                yield piece
                return
        if self._profile() == "micro":
            if not answer.text:
                accepted.begin()
                await accepted.committed()
                text = answer_without_model(found.hits)
                yield answer.take(Tokens(text=text, count=0), self.clock.now())
            return
        making = Making(message, turns, found, answer, accepted, until)
        # What was begun is gone on with; a tool comes too late for it.
        may_ask = message.tools and not answer.text and question_of(message).strip()
        by_engine = self._with_similar_tool(making) if may_ask else self._by_engine(making)
        async with contextlib.aclosing(by_engine) as pieces:
            async for piece in pieces:
                yield piece

    async def _with_similar_tool(self, making: Making) -> AsyncGenerator[Text, None]:
        """By an engine; where the question is like a tool, that is asked first."""
        question = question_of(making.query)
        async with self._tools.looking(question) as look:
            try:
                async with contextlib.aclosing(self._by_engine(making, look.decide)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except ToolFits as fits:
                tool = fits.tool
        asked = await self._tools.similar(tool, question, making.accepted, making.until)
        if asked is not None:
            making.answer.tool, making.said = asked
        async with contextlib.aclosing(self._by_engine(making)) as pieces:
            async for piece in pieces:
                yield piece

    async def _by_engine(
        self, making: Making, before_first: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncGenerator[Text, None]:
        found = making.found
        before = said_before(found.conversation.turns) if found.conversation else []
        prompt = with_system(
            [*before, *making.turns], self._options.system_prompt, found.hits, making.said
        )
        generating = self._engines.generate(
            prompt, self._sampling(making.query), making.answer, making.accepted, making.until,
            before_first,
        )  # fmt: skip
        async with contextlib.aclosing(generating) as items:
            async for item in items:
                if not isinstance(item, Generated):
                    self.progressed(item.count)
                    yield item

    async def _by_tool(
        self, tool: FoundTool, found: Gathered, answer: AnswerInProgress, accepted: Accepted
    ) -> Text | None:
        """What the tool says; None when the model answers instead."""
        accepted.begin()
        asked = await self._tools.exact(tool, found)
        if asked is None or not asked[1].text.startswith(answer.text):
            # The tool is lost; or the model had begun to answer before it was there.
            return None
        await accepted.committed()
        use, result = asked
        return answer.said_by_tool(use, result.text, self.clock.now())

    # --- the question -----------------------------------------------------------------------

    def _turns(self, message: Query) -> list[ChatMessage]:
        """The question as turns. Raises `InvalidRequest`."""
        if message.text and message.messages:
            raise InvalidRequest("give the question as text or as messages, not as both")
        turns = list(message.messages)
        if message.text:
            turns.append(ChatMessage(role="user", content=message.text))
        if not any(turn.role == "user" and turn.content.strip() for turn in turns):
            raise InvalidRequest("the question is empty")
        if message.conversation is not None and len(turns) > 1:
            raise InvalidRequest("a conversation goes on with one question; it knows the rest")
        return turns

    def _sampling(self, message: Query) -> Sampling:
        options = self._options
        return Sampling(
            max_tokens=_chosen(message.max_tokens, options.max_tokens),
            temperature=_chosen(message.temperature, options.temperature),
            top_p=_chosen(message.top_p, options.top_p),
            seed=_chosen(message.seed, options.seed),
            stop=message.stop,
        )

    # --- the end ----------------------------------------------------------------------------

    def _told(self, message: Query, found: Gathered, answer: AnswerInProgress) -> Answered:
        by_tool_alone = answer.tool is not None and answer.tool.how == "exact"
        used = [] if by_tool_alone else found.hits
        profile = self._profile()
        told = answer.finish(self.clock.now(), profile)
        lack = without_gpu(profile, told, self._gpu_engines())
        missing = [*found.missing, *([lack] if lack else [])]
        return told.model_copy(
            update={
                "memories": [MemoryUse(id=h.id, score=h.score, text=h.text) for h in used],
                "prompt": answer.prompt if message.explain else [],
                "missing": missing,
                "degraded": bool(missing),
            }
        )

    def _gpu_engines(self) -> list[DirectoryEntry]:
        entries = self.caller.directory.entries
        return [entries[name] for name in self._settings.gpu_engines if name in entries]

    def _profile(self) -> Profile:
        return in_force(
            self._settings.device.profile, [entry.state for entry in self._gpu_engines()]
        )

    async def _store(self, message: Query, answer: AnswerInProgress) -> str:
        """Put question and answer behind the conversation; returns its id. The key is the query's,
        so that they are stored once, whoever asks again."""
        told = answer.finish(self.clock.now(), self._profile())
        made_by = [use.engine for use in told.engines]
        by = ", ".join([*([told.tool.name] if told.tool else []), *made_by])
        stored = await self.caller.ask(
            MEMORY,
            AppendTurns(
                conversation=message.conversation or "",
                key=message.id,
                turns=[
                    Turn(role="user", content=question_of(message)),
                    Turn(
                        role="assistant", content=answer.text,
                        metadata={"query": message.id, "by": by, "seams": len(told.seams)},
                    ),
                ],
            ),
        )  # fmt: skip
        return stored.conversation


def _chosen(asked: T | None, default: T) -> T:
    return default if asked is None else asked
