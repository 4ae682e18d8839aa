"""The tool user's end of the fork server process: starting it, giving it orders, seeing it die.

The first one is a fork of the tool user itself, made while that has one thread, nothing open and
no secret: it has imported all that tools need. Any later one is started by exec, which takes a
quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.tool_user.forkserver import serve
from actors.tool_user.running import Running
from protocol.errors import ToolFailed
from supervision.forking import StartedProcess, exec_server, fork_server


def fork_tools(folders: Sequence[Path]) -> StartedProcess | None:
    """Fork one off this process, which must have one thread; None when there can be none."""
    try:
        return fork_server(lambda channel, tool_user: serve(channel, tool_user, folders))
    except OSError:
        return None


def exec_tools(folders: Sequence[Path]) -> StartedProcess:
    """Start one in a fresh Python. Raises `ToolFailed`."""
    path = [str(Path(one).absolute()) for one in sys.path]
    try:
        return exec_server(
            ["-P", "-m", "actors.tool_user.forkserver"],
            [str(one) for one in folders],
            # Nothing else of the environment, which may hold keys: tools could read it.
            {"PYTHONPATH": os.pathsep.join(path)},
        )
    except OSError as error:
        raise ToolFailed(
            f"the process that starts tools cannot be started: {error.strerror}", kind="lost"
        ) from None


class ForkServer:
    """The event loop's end of one fork server process."""

    def __init__(self, started: StartedProcess) -> None:
        self._loop = asyncio.get_running_loop()
        self.calls: dict[str, Running] = {}
        """Those that it has, or is about to have, processes for."""
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.gone = asyncio.Event()
        self.pid = started.pid
        self.exit_code: int | None = None
        """Or the negated number of the signal that ended it."""
        self._channel = started.channel
        self._loop.add_reader(self._channel, self._on_readable)

    @property
    def lost(self) -> bool:
        """Whether it is of no more use."""
        return self.gone.is_set()

    def order(self, key: str, call: Running) -> None:
        """Have a process forked for the call."""
        self.calls[key] = call
        try:
            socket.send_fds(self._channel, [key.encode()], call.descriptors)
        except OSError as error:
            self.close(f"the process that starts tools takes no order: {error.strerror}")
        else:
            call.sent()

    def _on_readable(self) -> None:
        while not self.lost:
            try:
                packet, fds, _, _ = socket.recv_fds(self._channel, 65536, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet, fds = b"", []
            if not packet:
                self.close("the process that starts tools died")
                return
            self._on_message(json.loads(packet), fds)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        if "ready" in message:
            self.ready.set_result(None)
        elif "failed" in message:
            self.calls[message["failed"]].fail(message["reason"])
        else:
            call = self.calls.get(message["started"])
            if call is None or call.started.done():
                # It came too late: nobody waits for it, so nobody would ever end it.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fds[0], signal.SIGKILL)
                os.close(fds[0])
            else:
                call.started.set_result(fds[0])

    def close(self, reason: str) -> None:
        """End it and all below it. Does nothing the second time."""
        if self.lost:
            return
        self.gone.set()
        self._loop.remove_reader(self._channel)
        self._channel.close()
        os.kill(self.pid, signal.SIGKILL)
        self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        failed = ToolFailed(f"{reason}; the next call starts another", kind="lost")
        if not self.ready.done():
            self.ready.set_exception(failed)
        for call in list(self.calls.values()):
            call.fail(reason)
