"""Processes that are spoken to over a socket pair: forked off this one, or a fresh Python.

A fork has all that this process has imported; it copies one thread only, so this process must not
have more. The socket is of SOCK_SEQPACKET: one message a packet.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

CHILD_END = 3
"""The descriptor of the child's end in a fresh Python, whatever its number is here."""


@dataclass(frozen=True, slots=True)
class StartedProcess:
    """A process that was started, and our end of its socket, which does not block."""

    pid: int
    channel: socket.socket


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def fork_server(serve: Callable[[socket.socket, int], NoReturn]) -> StartedProcess:
    """Fork a process that does ``serve``, given its end of the socket and this process's pid.
    Raises OSError."""
    parent = os.getpid()
    ours, theirs = _pair()
    with theirs:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            raise
        if pid == 0:
            try:
                ours.close()
                serve(theirs, parent)
            finally:
                # A fork must never return into its parent's code, whatever was raised.
                os._exit(71)
    return StartedProcess(pid, ours)


def exec_server(
    options: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]
) -> StartedProcess:
    """Start ``python OPTIONS CHILD_END PID ARGUMENTS``: the module that the options name is given
    its end of the socket and this process's pid. Raises OSError."""
    ours, theirs = _pair()
    with theirs:
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *options, str(CHILD_END), str(os.getpid()), *arguments],
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    # Every other descriptor is closed by exec.
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHILD_END),
                ],
            )
        except OSError:
            ours.close()
            raise
    return StartedProcess(pid, ours)
