"""The tool user's end of the fork server process: starting it, giving it orders, seeing it die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.tool_user.running import Running
from protocol.errors import ToolFailed


class ForkServer:
    """The event loop's end of one fork server process."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._loop = asyncio.get_running_loop()
        self.calls: dict[str, Running] = {}
        """Those that it has, or is about to have, processes for."""
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.gone = asyncio.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                self.process = _start(theirs.fileno(), folders)
            except OSError as error:
                ours.close()
                raise ToolFailed(
                    f"the process that starts tools cannot be started: {error.strerror}",
                    kind="lost",
                ) from None
        self._channel = ours
        self._loop.add_reader(ours, self._on_readable)

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
        self.process.kill()
        self.process.wait()
        failed = ToolFailed(f"{reason}; the next call starts another", kind="lost")
        if not self.ready.done():
            self.ready.set_exception(failed)
        for call in list(self.calls.values()):
            call.fail(reason)


def _start(channel: int, folders: Sequence[Path]) -> subprocess.Popen[bytes]:
    path = [str(Path(one).absolute()) for one in sys.path]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "actors.tool_user.forkserver",
         str(channel), str(os.getpid()), *map(str, folders)],
        stdin=subprocess.DEVNULL, pass_fds=[channel], cwd="/",
        # Nothing else of the environment, which may hold keys: tools could read it.
        env={"PYTHONPATH": os.pathsep.join(path)},
    )  # fmt: skip
