"""Runs tools, each call in processes of its own: keeps the fork server, the deadlines, the slots.

    run ──► fork server ──► warden ──► tool
     │  ◄──────────── report ───────────┘
     └── deadline, cancel, end ──► bury: SIGTERM to the warden, which kills all below it

If the fork server dies it is started again, and the calls that were running fail as `ToolFailed`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from actors.tool_user.limits import Limits
from actors.tool_user.orders import Order, read_report
from actors.tool_user.results import Shaped
from actors.tool_user.running import Running
from actors.tool_user.server import ForkServer, exec_tools
from protocol.errors import Cancelled, DeadlineExceeded, Overloaded, ToolFailed
from supervision.forking import StartedProcess

START_S = 30.0
"""From exec to every tool imported: a quarter of a second warm, ten from a cold, slow disk."""
FORK_S = 3.0
"""From an order to the fork. It takes milliseconds, so this is a stopped or lost server."""
RETRY_AFTER_S = 0.1

log = structlog.get_logger("tools")


class Runner:
    """Runs tools of the built-in folder and ``folders``. Belongs to the event loop's thread.

    ``scratch`` is where the working folders are made; it need not exist.
    """

    def __init__(
        self, folders: Sequence[Path], limits: Limits, scratch: Path, max_running: int = 8
    ) -> None:
        self._folders = folders
        self._limits = limits
        self._scratch = scratch
        self._max_running = max_running
        self._server: ForkServer | None = None
        self._count = 0
        self._open: set[str] = set()
        self._burials: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """Calls of which something is left."""
        return len(self._open)

    @property
    def server_pid(self) -> int | None:
        """The fork server's pid, where there is one."""
        return None if self._server is None or self._server.lost else self._server.pid

    def start(self, started: StartedProcess | None = None) -> None:
        """Take over a fork server that was started, or start one ahead of the first call. Returns
        at once."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._live_server(started)

    async def run(
        self, tool: str, arguments: dict[str, Any], options: Mapping[str, Any], timeout_s: float
    ) -> Shaped:
        """Run one tool and return its result; its processes are gone then, however it ends.

        Raises `ToolFailed`, the tool's own `RequestError`, `DeadlineExceeded` after ``timeout_s``,
        `Overloaded`, or `InvalidRequest` for arguments that have no JSON form.
        """
        if self._closed:
            raise Cancelled("the tool user is stopping")
        if self.running >= self._max_running:
            raise Overloaded(
                f"{self.running} tools are running, as many as may", retry_after_s=RETRY_AFTER_S
            )
        self._count += 1
        key = str(self._count)
        call = Running(
            tool, self._scratch,
            lambda folder: Order(tool, arguments, dict(options), folder, self._limits),
        )  # fmt: skip
        self._open.add(key)
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._report(key, call)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{tool} did not end within {timeout_s:g} s; it was killed", tool=tool
            ) from None
        finally:
            # A task of its own: a cancel must not leave anything half buried.
            burial = asyncio.create_task(self._bury(key, call))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)
            await asyncio.shield(burial)
        return read_report(tool, self._limits, data)

    async def _report(self, key: str, call: Running) -> bytes:
        try:
            server = self._live_server()
            if not await _done_within(server.ready, START_S):
                reason = f"the process that starts tools was not ready after {START_S:g} s"
                server.close(reason)
                raise ToolFailed(reason, tool=call.tool, kind="lost")
            await server.ready
        except ToolFailed as error:
            call.fail(error.message)
            raise
        server.order(key, call)
        if not await _done_within(call.started, FORK_S):
            server.close("the process that starts tools does not answer")
        return await call.report

    async def _bury(self, key: str, call: Running) -> None:
        server = self._server
        if server is None or key not in server.calls:
            # It never got as far as being ordered.
            call.fail("it was not begun")
        await call.bury()
        if server is not None:
            server.calls.pop(key, None)
        self._open.discard(key)

    def _live_server(self, started: StartedProcess | None = None) -> ForkServer:
        if self._server is None or self._server.lost:
            self._server = server = ForkServer(started or exec_tools(self._folders))
            watch = asyncio.create_task(self._replace(server))
            self._burials.add(watch)
            watch.add_done_callback(self._burials.discard)
        return self._server

    async def _replace(self, server: ForkServer) -> None:
        """Have the next one ready when a server is lost that once worked; one that never did would
        only be lost again."""
        with contextlib.suppress(ToolFailed):
            await asyncio.shield(server.ready)
            await server.gone.wait()
            if not self._closed and self._server is server:
                log.warning("fork_server_lost", status=server.exit_code)
                self._live_server()

    async def close(self) -> None:
        """End everything. Calls that are running fail."""
        self._closed = True
        if self._server is not None:
            self._server.close("the tool user is stopping")
        await asyncio.gather(*self._burials)


async def _done_within(future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it has a result in time, or one that is there when the time is found to be over:
    this process may have been paused meanwhile, and not the one that it waits for."""
    await asyncio.wait([future], timeout=seconds)
    return future.done()
