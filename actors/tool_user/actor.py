"""The tool user: which tools there are, which one a text is meant for, and running them.

It decides little itself: `catalogue.py` knows the tools, `finding.py` chooses, `runner.py` runs
each in processes of its own. A tool that needs another actor gives the message for it, and this
asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.kernel import Actor, Surroundings, handles, options_of
from actors.tool_user.catalogue import Catalogue, load_catalogue
from actors.tool_user.embedding import SimilarTools
from actors.tool_user.finding import find_exact, texts_of
from actors.tool_user.limits import Limits
from actors.tool_user.results import NoJson, Shaped, shape
from actors.tool_user.runner import Runner
from actors.tool_user.running import remove_folder
from actors.tool_user.server import fork_tools
from actors.tool_user.tool import Tool
from configs.actor_settings import ToolSettings
from configs.incarnation import Incarnation
from protocol.errors import InvalidSettings, RequestError, ToolFailed
from protocol.messages.base import Ask
from protocol.messages.tool_user import (
    BrokenTool,
    CallTool,
    FindTool,
    FoundTool,
    ListTools,
    ToolInfo,
    ToolResult,
    Tools,
)
from supervision.forking import StartedProcess


class ToolUser(Actor):
    """Finds and runs tools."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(ToolSettings)
        self._started: StartedProcess | None = surroundings.prepared
        self._catalogue = Catalogue()
        self._limits = Limits(
            cpu_s=self._options.cpu_s,
            memory_mib=self._options.memory_mib,
            file_mib=self._options.file_mib,
            output_bytes=self._options.output_bytes,
        )
        scratches = surroundings.incarnation.settings.data.folder / "scratch" / self.name
        self._scratch = scratches / self.epoch
        self._runner = Runner(
            self._options.folders, self._limits, self._scratch, self._options.max_running
        )
        self._similar = SimilarTools(self.caller, lambda: texts_of(self._catalogue))

    @classmethod
    def prepare(cls, incarnation: Incarnation) -> StartedProcess | None:
        """Fork the process that runs tools: before there is anything that tools must not have."""
        options = options_of(incarnation, ToolSettings)
        return fork_tools(options.folders)

    async def on_start(self) -> None:
        """Import the tools, here for what they say of themselves, and in the fork server to run."""
        self.say("loading the tools")
        self._runner.start(self._started)
        loop = asyncio.get_running_loop()
        # In a thread, as pings are answered meanwhile.
        self._catalogue = await loop.run_in_executor(
            None, load_catalogue, self._options.folders, self._options.switched_off
        )
        self._check_settings()
        for broken in self._catalogue.broken:
            self.log.error("broken_tool", file=str(broken.file), problem=broken.problem)
            self.publish("tool.broken", f"{broken.file}: {broken.problem}")
        self.info = {"tools": [tool.name for tool in self._catalogue]}
        loop.run_in_executor(None, _sweep, self._scratch)

    def _check_settings(self) -> None:
        where = f"actors.{self.name}.settings.options"
        for name, options in self._options.options.items():
            if name in self._options.switched_off:
                continue
            if name not in self._catalogue.tools:
                known = ", ".join(tool.name for tool in self._catalogue)
                raise InvalidSettings(f"{where}.{name}: there is no such tool; there are: {known}")
            self._catalogue.get(name).check_options(options, f"{where}.{name}")

    async def on_stop(self) -> None:
        """Leave nothing running."""
        await self._runner.close()
        await asyncio.to_thread(remove_folder, self._scratch)

    # --- looking ----------------------------------------------------------------------------

    @handles(ListTools)
    def list_tools(self, message: ListTools) -> Tools:
        """All of them, and the files that gave none."""
        return Tools(
            tools=[_info(tool) for tool in self._catalogue],
            broken=[
                BrokenTool(file=str(one.file), problem=one.problem)
                for one in self._catalogue.broken
            ],
        )

    @handles(FindTool)
    async def find_tool(self, message: FindTool) -> FoundTool:
        """What a matcher takes, else what is near enough, else none."""
        text = message.text.strip()
        exact = find_exact(self._catalogue, text, self._complain)
        if exact is not None:
            return FoundTool(
                tool=_info(exact.tool), how="exact", arguments=exact.arguments, score=1.0
            )
        if not text or not message.similar:
            return FoundTool()
        looked = await self._similar.look(text)
        if looked.nearest is None:
            return FoundTool(note=looked.note)
        if looked.nearest.score < self._options.similarity:
            return FoundTool(score=looked.nearest.score)
        tool = self._catalogue.get(looked.nearest.tool)
        return FoundTool(tool=_info(tool), how="similar", score=looked.nearest.score)

    def _complain(self, tool: str, problem: str) -> None:
        self.log.warning("tool", tool=tool, problem=problem)

    # --- running ----------------------------------------------------------------------------

    @handles(CallTool)
    async def call_tool(self, message: CallTool) -> ToolResult:
        """Check the arguments, then run it where it belongs."""
        began = time.monotonic()
        tool = self._catalogue.get(message.name)
        tool.check(message.arguments)
        options = self._options.options.get(tool.name, {})
        timeout_s = self._options.timeout_s if message.timeout_s is None else message.timeout_s
        self._show_load(1)
        try:
            run = self._ask_for if tool.runs else self._run_apart
            shaped = await run(tool, message.arguments, options, timeout_s)
        finally:
            self.progressed()
            self._show_load(0)
        return ToolResult(
            tool=tool.name, value=shaped.value, text=shaped.text, truncated=shaped.truncated,
            took_ms=(time.monotonic() - began) * 1000,
        )  # fmt: skip

    async def _run_apart(
        self, tool: Tool, arguments: dict[str, Any], options: Mapping[str, Any], timeout_s: float
    ) -> Shaped:
        return await self._runner.run(tool.name, arguments, options, timeout_s)

    async def _ask_for(
        self, tool: Tool, arguments: dict[str, Any], options: Mapping[str, Any], timeout_s: float
    ) -> Shaped:
        """The tool gives the message, another actor the value."""
        try:
            message = tool.call(arguments, options)
        except RequestError:
            raise
        except Exception as error:
            text = f"{tool.name} raised {type(error).__name__}: {error}"
            raise ToolFailed(text, tool=tool.name, kind=type(error).__name__) from error
        if not isinstance(message, Ask) or message.operation != tool.runs:
            raise ToolFailed(
                f"{tool.name} declares RUNS = {tool.runs!r} and must return that message, not "
                f"{type(message).__name__}",
                tool=tool.name,
                kind="no message",
            )
        reply = await self.caller.ask(message.receiver(), message, timeout_s=timeout_s)
        try:
            return shape(reply, self._limits.output_bytes)
        except NoJson as error:
            raise ToolFailed(
                f"the reply to {tool.name} has no JSON form: {error}",
                tool=tool.name,
                kind="no JSON",
            ) from None

    def _show_load(self, more: int) -> None:
        busy = self._runner.running + more
        if busy:
            self.say("running tools", busy, self._options.max_running, "tools")
        else:
            self.say("idle")


def _info(tool: Tool) -> ToolInfo:
    return ToolInfo(
        name=tool.name, description=tool.description, parameters=tool.parameters,
        examples=tool.examples,
    )  # fmt: skip


def _sweep(mine: Path) -> None:
    """Remove the working folders that killed incarnations left."""
    for folder in mine.parent.iterdir():
        if folder != mine:
            remove_folder(folder)
