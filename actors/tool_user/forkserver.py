"""The fork server: has every tool imported, and forks a process for each call.

::

    python -m actors.tool_user.forkserver SOCKET_FD TOOL_USER_PID FOLDER …

Single-threaded, as a fork copies one thread only. Nothing of the tool user (its secret, its
sockets, its environment) is here: the first one is forked before there is any, later ones are
started by exec. One SOCK_SEQPACKET socket, one message a packet:

    in   KEY with two descriptors: the end of the report's pipe, the file of the order
    out  {"ready": true} once · {"failed": KEY, "reason": …}
         {"started": KEY} with the warden's pidfd

The tool user needs it for nothing more: it kills through the pidfd and reads the pipe. When the
socket closes, because the tool user is gone, it kills every descendant and ends.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from actors.tool_user.catalogue import Catalogue, load_catalogue
from actors.tool_user.child import be_warden
from supervision.processes import (
    become_subreaper,
    children_of,
    close_all_but,
    die_with_parent,
    forget_environment,
    kill_descendants,
    set_name,
)


class ForkServer:
    """Forks on request."""

    def __init__(self, channel: socket.socket, catalogue: Catalogue) -> None:
        self._channel = channel
        self._catalogue = catalogue
        self._wardens: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> NoReturn:
        """Serve until the tool user is gone, then end this process and all below it."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._sweep())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # Collected garbage would touch, and so copy, pages that all children share.
        gc.collect()
        gc.freeze()
        self._send({"ready": True})
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 512)
                    self._reap()
                else:
                    self._serve()

    def _serve(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, 4096, 2)
        except ConnectionResetError:
            # The tool user is gone, and had not read all that it was told.
            packet, fds = b"", []
        if not packet:
            self._sweep()
        key = packet.decode()
        # Asked before the fork: the child of one that dies meanwhile would take another for it.
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"failed": key, "reason": f"cannot fork: {error.strerror}"})
            pid = -1
        if pid == 0:
            self._let_go()
            be_warden(server, self._catalogue, *fds)
        for fd in fds:
            os.close(fd)
        if pid > 0:
            self._wardens.add(pid)
            # It is not reaped before this loop comes round, so the pid is surely its own.
            pidfd = os.pidfd_open(pid)
            try:
                self._send({"started": key}, pidfd)
            finally:
                os.close(pidfd)

    def _let_go(self) -> None:
        """In the fork, of what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._channel.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._wardens.discard(ended)
        # A tool that killed its warden left its processes to us: nobody watches them any more.
        for pid in children_of(os.getpid()):
            if pid not in self._wardens:
                os.kill(pid, signal.SIGKILL)

    def _send(self, message: dict[str, Any], *fds: int) -> None:
        try:
            socket.send_fds(self._channel, [json.dumps(message).encode()], list(fds))
        except (BrokenPipeError, ConnectionResetError):
            self._sweep()

    def _sweep(self) -> NoReturn:
        kill_descendants()
        os._exit(0)


def serve(channel: socket.socket, tool_user: int, folders: Sequence[Path]) -> NoReturn:
    """Be the fork server of this tool user (its pid). The process must have one thread."""
    become_subreaper()
    die_with_parent(tool_user, signal.SIGTERM)
    set_name("noyau-tools")
    close_all_but(channel.fileno())
    forget_environment()
    os.chdir("/")
    ForkServer(channel, load_catalogue(folders)).run()


def main(arguments: list[str]) -> NoReturn:
    """Import the tools, then serve."""
    descriptor, tool_user, *folders = arguments
    serve(socket.socket(fileno=int(descriptor)), int(tool_user), list(map(Path, folders)))


if __name__ == "__main__":
    main(sys.argv[1:])
