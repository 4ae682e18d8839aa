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

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.request import Request
from actors.orchestrator.acceptance import Acceptance, Accepted
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.breaking import QueryBreaker
from actors.orchestrator.experts import Manner, manner_of
from actors.orchestrator.functions import CallFilter, Functions, as_said
from actors.orchestrator.gathering import MEMORY, Gathered, Gatherer
from actors.orchestrator.generating import Engines
from actors.orchestrator.policies import breaker_policy
from actors.orchestrator.promises import NO_MODEL, answer_without_model, unwanted, without_gpu
from actors.orchestrator.prompt import own_tools, question_of, said_before, with_system
from actors.orchestrator.showing import breaker_status
from actors.orchestrator.toolwork import ToolFits, Tools
from actors.orchestrator.wanted import Wanted
from configs.actor_settings import OrchestratorSettings
from configs.profiles import in_force
from protocol.errors import (
    ActorUnavailable,
    InvalidRequest,
)
from protocol.lifecycle import Profile
from protocol.messages.engine import ChatMessage, Generate, Tokens
from protocol.messages.memory import AppendTurns, Turn
from protocol.messages.orchestrator import (
    Answered,
    GetRuntime,
    MemoryUse,
    Query,
    RuntimeStatus,
    Text,
)
from protocol.messages.supervisor import DirectoryEntry
from protocol.messages.tool_user import FoundTool, ToolResult

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
    manner: Manner
    functions: Functions
    request: Request
    said: ToolResult | None = None
    """What a tool said to it."""


class Orchestrator(Actor):
    """Takes questions and sees each through to its end."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(OrchestratorSettings)
        self._settings = surroundings.incarnation.settings
        self._query = self._settings.query
        self._engines = Engines(self.caller, self.clock, self._settings, self.publish)
        policy = breaker_policy(self._settings.query_breaker)
        self._breaker = QueryBreaker(policy, self.clock, self.publish)
        self._gatherer = Gatherer(self.caller, self.clock, self._options)
        self._tools = Tools(self.caller, self._gatherer, self._engines)
        self._acceptance = Acceptance(
            self.caller, self.epoch, self._query.abandoned_after_s, self._query.max_deaths_in_a_row
        )
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
        with self._breaker.permitted(accepted=message.begun is not None) as passed:
            async with self._acceptance.of(message, request) as accepted:
                answering = self._answer(message, request, answer, accepted)
                async with contextlib.aclosing(answering) as pieces:
                    async for piece in pieces:
                        passed()
                        yield piece

    async def _answer(
        self, message: Query, request: Request, answer: AnswerInProgress, accepted: Accepted
    ) -> AsyncGenerator[Text | Answered, None]:
        functions = Functions(message.functions, message.function_choice)
        turns = self._turns(message)
        # What was accepted goes on, with another model if its own is lost.
        models = self._engines.models if message.begun is None else ()
        manner = manner_of(message, self._options, models)
        stored = await self._gatherer.stored(message)
        if stored is not None:
            calls = CallFilter(functions, answer.text)
            rest = stored.text.removeprefix(answer.text)
            piece = answer.take(Tokens(text=rest, count=0), self.clock.now())
            for one in [*calls.take(piece), *calls.rest()]:
                yield one
            accepted.done = True
            told = answer.finish(self.clock.now(), self._profile())
            called = functions.called(answer.text, message.id) if calls.is_call else {}
            yield told.model_copy(update={"conversation": stored.conversation, **called})
            return
        found = await self._gatherer.gather(message, question_of(message))
        found.missing += manner.missing
        making = Making(message, turns, found, answer, accepted, manner, functions, request)
        self._check_degraded(making)
        calls = CallFilter(functions, answer.text)
        async with contextlib.aclosing(self._ways(making)) as pieces:
            async for piece in pieces:
                if piece.text:
                    accepted.got_on()
                for one in calls.take(piece):
                    yield one
        for one in calls.rest():
            yield one
        end = self._told(making, calls.is_call)
        if message.conversation is not None:
            end = end.model_copy(update={"conversation": await self._store(message, answer)})
        accepted.done = True
        yield end

    def _check_degraded(self, making: Making) -> None:
        """Raises `WouldBeDegraded` where the query wants no answer that lacks something."""
        if making.query.fail_if_degraded and making.found.missing:
            raise unwanted(making.found.missing)

    async def _ways(self, making: Making) -> AsyncGenerator[Text, None]:
        """The answer's pieces: by a tool that is surely meant, or else by an engine."""
        message, found, answer = making.query, making.found, making.answer
        if found.tool is not None and found.tool.how == "exact":
            piece = await self._by_tool(found.tool, making)
            if piece is not None:
                yield piece
                return
        if self._profile() == "micro":
            if message.format is not None or making.functions.required:
                raise ActorUnavailable(f"{NO_MODEL}, and nothing else can answer in a format")
            if not answer.text:
                making.accepted.begin()
                await making.accepted.committed()
                text = answer_without_model(found.hits)
                yield answer.take(Tokens(text=text, count=0), self.clock.now())
            return
        # What was begun is gone on with; a tool comes too late for it.
        may_ask = own_tools(message) and not answer.text and question_of(message).strip()
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
        asked = await self._tools.similar(tool, question, making.accepted, self._wanted(making))
        if asked is not None:
            making.answer.tool, making.said = asked
        async with contextlib.aclosing(self._by_engine(making)) as pieces:
            async for piece in pieces:
                yield piece

    async def _by_engine(
        self, making: Making, before_first: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncGenerator[Text, None]:
        wanted = self._wanted(making)
        generating = self._engines.generate(wanted, making.answer, making.accepted, before_first)
        async with contextlib.aclosing(generating) as pieces:
            async for piece in pieces:
                self.progressed(piece.count)
                yield piece

    def _wanted(self, making: Making) -> Wanted:
        """What is wanted of the engines for this answer."""
        query, found, manner = making.query, making.found, making.manner
        before = said_before(found.conversation.turns) if found.conversation else []
        prompt = with_system(
            [*before, *as_said(making.turns)], manner.system_prompt, found.hits, making.said,
            making.functions.told(),
        )  # fmt: skip
        context = making.request.context
        assert context.deadline is not None
        return Wanted(
            Generate(
                messages=prompt, sampling=manner.sampling, logprobs=query.logprobs,
                format=making.functions.format() or query.format, model=manner.model,
                keep_alive_s=query.keep_alive_s,
            ),
            until=context.deadline,
            priority=context.priority,
            client=(making.request.peer, query.user),
            model_may_lack=manner.model_may_lack,
            undegraded=query.fail_if_degraded,
        )  # fmt: skip

    async def _by_tool(self, tool: FoundTool, making: Making) -> Text | None:
        """What the tool says; None when the model answers instead."""
        making.accepted.begin()
        asked = await self._tools.exact(tool, making.found)
        if asked is None or not asked[1].text.startswith(making.answer.text):
            # The tool is lost; or the model had begun to answer before it was there.
            self._check_degraded(making)
            return None
        await making.accepted.committed()
        use, result = asked
        return making.answer.said_by_tool(use, result.text, self.clock.now())

    @handles(GetRuntime)
    def runtime(self, message: GetRuntime) -> RuntimeStatus:
        """See `GetRuntime`."""
        queue, engines = self._engines.status()
        return RuntimeStatus(
            profile=self._profile(), queue=queue, engines=engines,
            queries=breaker_status(self._breaker.breaker, self.clock.now()),
            experts=sorted(self._options.experts),
        )  # fmt: skip

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
        if message.functions and message.format is not None:
            raise InvalidRequest("an answer either has a format or may call functions, not both")
        return turns

    # --- the end ----------------------------------------------------------------------------

    def _told(self, making: Making, is_call: bool) -> Answered:
        message, found, answer = making.query, making.found, making.answer
        by_tool_alone = answer.tool is not None and answer.tool.how == "exact"
        used = [] if by_tool_alone else found.hits
        profile = self._profile()
        told = answer.finish(self.clock.now(), profile)
        lack = without_gpu(profile, told, self._gpu_engines())
        called = making.functions.called(answer.text, message.id) if is_call else {}
        missing = [*found.missing, *answer.missing, *([lack] if lack else [])]
        if is_call and not called and told.finish_reason == "stop":
            missing.append("the function call that the model made is none")
        return told.model_copy(
            update={
                "memories": [MemoryUse(id=h.id, score=h.score, text=h.text) for h in used],
                "prompt": answer.prompt if message.explain else [],
                "missing": missing,
                "degraded": bool(missing),
                "expert": making.manner.expert,
                **called,
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
