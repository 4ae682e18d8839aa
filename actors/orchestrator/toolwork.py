"""Tools on the way of a query: one that is surely meant says the answer; one that the question is
like is asked with arguments that the model fills in, and what it says goes into the prompt.

::

    exact    ─► call ─► that is the answer
    similar  ─► model fills the arguments ─► call ─► model answers, knowing what the tool says
                        └── they do not fit ──┴── the model answers without
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog

from actors.orchestrator.acceptance import Accepted
from actors.orchestrator.gathering import TOOL_USER, Gathered, Gatherer
from actors.orchestrator.generating import Engines
from actors.orchestrator.prompt import filling
from actors.orchestrator.wanted import Wanted
from protocol.caller import Caller
from protocol.errors import ActorDied, ActorUnavailable, NoyauError, OutcomeUnknown, Poisoned
from protocol.messages.orchestrator import ToolUse
from protocol.messages.tool_user import CallTool, FoundTool, ToolInfo, ToolResult

LOOK_S = 0.5
"""How long the first word of an answer waits to know whether a tool is like the question. Looking
takes a tenth of what a model needs to read a prompt, and goes on beside that."""

log = structlog.get_logger("orchestrator")


class ToolFits(Exception):
    """The question is like this tool: the answer is not to be begun without having asked it."""

    def __init__(self, tool: ToolInfo) -> None:
        super().__init__(tool.name)
        self.tool = tool


class Look:
    """Looking for a tool that the question is like, beside everything else."""

    def __init__(self, task: asyncio.Task[FoundTool | None]) -> None:
        self._task = task

    async def decide(self) -> None:
        """Raises `ToolFits`; returns when there is none, or none was found in time."""
        await asyncio.wait([self._task], timeout=LOOK_S)
        if not self._task.done():
            log.info("tools_not_looked_at", reason=f"not done within {LOOK_S:g} s")
            return
        found = self._task.result()
        if found is not None and found.tool is not None and found.how == "similar":
            raise ToolFits(found.tool)


class Tools:
    """Asks tools on behalf of queries."""

    def __init__(self, caller: Caller, gatherer: Gatherer, engines: Engines) -> None:
        self._caller = caller
        self._gatherer = gatherer
        self._engines = engines

    async def exact(self, tool: FoundTool, found: Gathered) -> tuple[ToolUse, ToolResult] | None:
        """What a tool says that is surely meant; None when its actor is lost. Raises what the tool
        refuses: a division by zero has no other answer."""
        assert tool.tool is not None
        call = CallTool(name=tool.tool.name, arguments=tool.arguments or {})
        try:
            result = await self._caller.ask(TOOL_USER, call)
        except (ActorDied, ActorUnavailable, OutcomeUnknown) as loss:
            found.missing.append(f"without the tool {tool.tool.name}: {loss.message}")
            return None
        return _use(result, call, "exact"), result

    @contextlib.asynccontextmanager
    async def looking(self, question: str) -> AsyncGenerator[Look, None]:
        """Look for a similar tool until this is left."""
        task = asyncio.create_task(self._gatherer.similar_tool(question))
        try:
            yield Look(task)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def similar(
        self, tool: ToolInfo, question: str, accepted: Accepted, wanted: Wanted
    ) -> tuple[ToolUse, ToolResult] | None:
        """What a similar tool says with arguments that the model filled in; None when they do not
        fit, which is usual: likeness is no more than a guess. Raises `Poisoned` when engines died
        over the query."""
        prompt = filling(tool, question)
        try:
            filling_in = wanted.to_fill(prompt, tool.parameters)
            arguments = await self._engines.fill(filling_in, accepted)
            call = CallTool(name=tool.name, arguments=arguments)
            return _use(result := await self._caller.ask(TOOL_USER, call), call, "similar"), result
        except (NoyauError, ValueError) as error:
            if isinstance(error, Poisoned) and not error.remote:
                raise
            log.info("tool_does_not_fit", tool=tool.name, reason=str(error))
            return None


def _use(result: ToolResult, call: CallTool, how: str) -> ToolUse:
    return ToolUse.model_validate(
        {"name": result.tool, "how": how, "arguments": call.arguments, "took_ms": result.took_ms}
    )
