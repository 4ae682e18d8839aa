"""One call under way: its pipe, its order, its warden. The event loop's end of `child.py`.

Nothing of it is left when `Running.bury` returned: the processes are gone, the descriptors closed,
the working folder removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog

from actors.tool_user.orders import Order, most_bytes
from protocol.errors import ToolFailed

SWEEP_S = 3.0
"""From SIGTERM to SIGKILL of a warden. Its sweep takes milliseconds and gives up after 2 s."""
_CHUNK = 1 << 16

log = structlog.get_logger("tools")


class Running:
    """One call. All methods belong to the event loop's thread."""

    def __init__(self, tool: str, scratch: Path, make_order: Callable[[str], Order]) -> None:
        self.tool = tool
        self.folder = _new_folder(tool, scratch)
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = self._loop.create_future()
        """The warden's pidfd; fails when there will be none."""
        self.report: asyncio.Future[bytes] = self._loop.create_future()
        """All that came up the pipe; fails when it can no longer come."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self._order = -1
        self._data = bytearray()
        try:
            order = make_order(str(self.folder))
            self._most = most_bytes(order.limits.output_bytes)
            self._order = _memory_file(order.packed())
        except BaseException:
            self._close()
            self._remove_folder()
            raise
        os.set_blocking(self._read, False)
        self._loop.add_reader(self._read, self._on_readable)
        for future in (self.started, self.report):
            # Whoever waits is told; when nobody does any more, nobody need be.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def descriptors(self) -> list[int]:
        """What the fork server is sent."""
        return [self._write, self._order]

    def sent(self) -> None:
        """The fork server has them: ours are closed, so that the pipe ends with the call."""
        os.close(self._write)
        os.close(self._order)
        self._write = self._order = -1

    def fail(self, reason: str) -> None:
        """It cannot go on, and why."""
        failed = ToolFailed(f"{self.tool}: {reason}", tool=self.tool, kind="lost")
        for future in (self.started, self.report):
            if not future.done():
                future.set_exception(failed)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._read, _CHUNK)
        except BlockingIOError:
            return
        self._data += data
        if not data:
            self._loop.remove_reader(self._read)
            if not self.report.done():
                self.report.set_result(bytes(self._data))
        elif len(self._data) > self._most:
            self._loop.remove_reader(self._read)
            self.fail("it wrote without end into the channel of its result; it must only return it")

    async def bury(self) -> None:
        """See to it that nothing of the call is left. Never raises; takes up to twice `SWEEP_S`."""
        try:
            with contextlib.suppress(ToolFailed, TimeoutError):
                pidfd = await asyncio.wait_for(asyncio.shield(self.started), SWEEP_S)
                await self._end_warden(pidfd)
        finally:
            self._loop.remove_reader(self._read)
            if (
                self.started.done()
                and not self.started.cancelled()
                and not self.started.exception()
            ):
                os.close(self.started.result())
            self._close()
            await asyncio.to_thread(self._remove_folder)

    async def _end_warden(self, pidfd: int) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(pidfd, number)
                await _readable(self._loop, pidfd, SWEEP_S)
            except ProcessLookupError:
                return
            except TimeoutError:
                continue
            return
        log.error("tool_cannot_be_killed", tool=self.tool)

    def _close(self) -> None:
        for fd in (self._read, self._write, self._order):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = self._order = -1

    def _remove_folder(self) -> None:
        remove_folder(self.folder)


def remove_folder(folder: Path) -> None:
    """Remove a tool's folder, also one whose rights it took away; what stays is logged."""

    def allow_and_try_again(function: Callable[..., object], path: str, _: object) -> None:
        try:
            Path(path).parent.chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                Path(path).chmod(0o700)
                shutil.rmtree(path)
            else:
                function(path)
        except OSError as error:
            log.warning("folder_stays", path=path, error=str(error))

    shutil.rmtree(folder, onerror=allow_and_try_again)


def _new_folder(tool: str, scratch: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f"{tool[:40]}-", dir=scratch))
    except OSError as error:
        raise ToolFailed(
            f"{tool}: no working folder in {scratch}: {error.strerror}; make room there",
            tool=tool,
            kind="folder",
        ) from None


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("order")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


async def _readable(loop: asyncio.AbstractEventLoop, fd: int, seconds: float) -> None:
    """Wait until ``fd`` is readable: a pidfd is when its process ended. Raises TimeoutError."""
    ended: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, on_readable)
    try:
        await asyncio.wait_for(ended, seconds)
    finally:
        loop.remove_reader(fd)
