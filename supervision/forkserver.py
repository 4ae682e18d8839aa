"""The spawner process: forks actors from a process that has the libraries imported already.

::

    python -m supervision.forkserver SOCKET_FD SUPERVISOR_PID MODULE …

A fresh Python with zmq and pydantic takes a quarter of a second; a fork of this one takes
milliseconds. It is single-threaded (a fork copies one thread only), holds no zmq context, and
speaks msgpack over one SOCK_SEQPACKET socket, one message a packet:

    in   {"spawn": KEY, "name": …, "entry": "module:function", "payload": …}
              with a pipe attached that holds the secret
         {"preload": ["module:Class", …]}
    out  {"spawned": KEY, "pid": …}
              with the pidfd attached, and pipes of its standard output and error
         {"failed": KEY, "reason": …}            · {"ready": true} once
         {"ended": KEY, "status": …, "swept": …} · {"preloaded": "module:Class", "problem": ""}

What an actor left behind comes to this process, a sub-reaper, and is killed; only when that is gone
is the actor's end told, so that its next incarnation meets nothing of it. ``swept`` says how many
there were. When the socket closes, because the supervisor is gone, it kills every descendant and
ends.
(The standard library's forkserver blocks its caller when it is stopped, and re-imports the
caller's main module in every child.)
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import importlib
import io
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NamedTuple, NoReturn

import msgpack

from supervision.preloading import Preloader
from supervision.processes import (
    become_subreaper,
    children_of,
    close_all_but,
    die_with_parent,
    kill_descendants,
    print_line_by_line,
    set_name,
)

CONFIRM_S = 0.3
"""How long an end is kept back for what the actor left behind. SIGKILL takes milliseconds; only a
process that is stuck in the kernel (state D) takes longer, and nobody can wait for that."""

PIPE_BYTES = 2**20
"""How much a process can print while nobody reads, which is some ten thousand lines: the supervisor
may be busy, or stopped. After that it waits in its ``print`` until the supervisor goes on, or dies
with it. The kernel takes memory for what is in a pipe, not for what fits."""

IDLE_S = 0.3
"""Without an order for so long, there is time to preload the next class."""


class ForkServer:
    """Forks on request, reports ends, sweeps at the end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._keys: dict[int, str] = {}
        self._preloader = Preloader()
        self._untold: dict[str, int] = {}
        """Ends of actors, of whose descendants some may be left."""
        self._swept: set[int] = set()
        self._tell_at: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> NoReturn:
        """Serve until the supervisor is gone, then end this process and all below it."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Whoever wants this process to end wants its descendants gone too. Ctrl-C in the
        # terminal is the supervisor's to handle.
        signal.signal(signal.SIGTERM, lambda *_: self._sweep())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        _share_memory()
        self._send({"ready": True})
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            found = poll.poll(self._patience_ms())
            if not found:
                self._on_patience_over()
            for fd, _ in found:
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 512)
                    self._reap()
                else:
                    self._serve()

    def _patience_ms(self) -> float | None:
        if self._tell_at is not None:
            return max(0.0, self._tell_at - time.monotonic()) * 1000
        return IDLE_S * 1000 if self._preloader.wants_to_go_on else None

    def _on_patience_over(self) -> None:
        if self._tell_at is not None:
            self._tell_ends()
        elif self._preloader.wants_to_go_on:
            self._preload()

    def _serve(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, 1 << 20, 1)
        except ConnectionResetError:
            # The supervisor is gone, and had not read all that it was told.
            packet, fds = b"", []
        if not packet:
            self._sweep()
        order = msgpack.unpackb(packet)
        if "preload" in order:
            self._preloader.add(order["preload"])
        else:
            (secret,) = fds
            try:
                self._spawn(order, secret)
            finally:
                os.close(secret)

    def _spawn(self, order: dict[str, Any], secret: int) -> None:
        key = order["spawn"]
        # Asked before the fork: the child of one that dies meanwhile would take another for it.
        spawner = os.getpid()
        with contextlib.ExitStack() as ours:
            try:
                output, error_output = _pipe(ours), _pipe(ours)
                pid = os.fork()
            except OSError as error:
                self._send({"failed": key, "reason": f"cannot fork: {error.strerror}"})
                return
            if pid == 0:
                self._become_child(order, secret, spawner, output, error_output)
            self._keys[pid] = key
            # The child is not reaped before it is in the table, so the pid is surely its own.
            pidfd = os.pidfd_open(pid)
            ours.callback(os.close, pidfd)
            self._send({"spawned": key, "pid": pid}, pidfd, output.reading, error_output.reading)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
                self._on_end(found[0], os.waitstatus_to_exitcode(found[1]))
        self._sweep_up()

    def _on_end(self, pid: int, code: int) -> None:
        key = self._keys.pop(pid, None)
        if key is not None:
            self._untold[key] = code
            self._tell_at = self._tell_at or time.monotonic() + CONFIRM_S
        elif (preloaded := self._preloader.ended(pid, code)) is not None:
            name, problem = preloaded
            _share_memory()
            self._send({"preloaded": name, "problem": problem})

    def _sweep_up(self) -> None:
        """Kill what dead actors left, which came to this process; when it is gone tell their
        ends."""
        left = [pid for pid in children_of(os.getpid()) if not self._knows(pid)]
        for pid in left:
            # It is a child that nobody has reaped, so the pid is surely its own.
            os.kill(pid, signal.SIGKILL)
            self._swept.add(pid)
        if not left:
            self._tell_ends()

    def _knows(self, pid: int) -> bool:
        return pid in self._keys or pid == self._preloader.trial_pid

    def _tell_ends(self) -> None:
        swept = len(self._swept)
        for key, code in self._untold.items():
            self._send({"ended": key, "status": code, "swept": swept})
        self._untold.clear()
        self._swept.clear()
        self._tell_at = None

    def _preload(self) -> None:
        try:
            self._preloader.go_on()
        except OSError as error:
            # A restart takes longer without it; and it will be tried again, by the next spawner.
            sys.stderr.write(f"noyau-spawner: cannot fork to preload: {error.strerror}\n")

    def _send(self, message: dict[str, Any], *fds: int) -> None:
        try:
            socket.send_fds(self._channel, [msgpack.packb(message)], list(fds))
        except (BrokenPipeError, ConnectionResetError):
            self._sweep()

    def _sweep(self) -> NoReturn:
        kill_descendants()
        os._exit(0)

    def _become_child(
        self, order: dict[str, Any], secret: int, spawner: int, output: _Pipe, error_output: _Pipe
    ) -> NoReturn:
        """In the fork: let go of what is the spawner's, then be the actor."""
        code = 71  # EX_OSERR of sysexits.h
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # SIGKILL, as a hung actor would ignore anything milder.
            die_with_parent(spawner, signal.SIGKILL)
            os.setsid()
            self._channel.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            set_name(order["name"])
            _redirect(output, error_output)
            module, _, function = order["entry"].partition(":")
            getattr(importlib.import_module(module), function)(order["payload"], secret)
        except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)


def _share_memory() -> None:
    """Collected garbage would touch, and so copy, pages that all children share."""
    gc.collect()
    gc.freeze()


class _Pipe(NamedTuple):
    """Both ends, which no program that is executed inherits."""

    reading: int
    writing: int


def _pipe(ours: contextlib.ExitStack) -> _Pipe:
    """A large one, closed here by ``ours``. Raises OSError."""
    pipe = _Pipe(*os.pipe2(os.O_CLOEXEC))
    for end in pipe:
        ours.callback(os.close, end)
    # Beyond what a user may have in all pipes together it keeps its 64 KiB, which do as well.
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return pipe


def _redirect(output: _Pipe, error_output: _Pipe) -> None:
    """Standard input from nowhere; whatever is printed goes into the pipes, line by line, so that
    a crash leaves nothing behind in this process. What Python was doing then is printed too."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output.writing, 1)
    os.dup2(error_output.writing, 2)
    for descriptor in (null, *output, *error_output):
        os.close(descriptor)
    # It is something else, or nothing, where the supervisor was started without one.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    print_line_by_line()
    faulthandler.enable(2)


def serve(channel: socket.socket, supervisor: int) -> NoReturn:
    """Be the spawner of this supervisor (its pid). The process must have one thread."""
    # A fork of the supervisor has all that it had open: the pipe on which only that may speak.
    close_all_but(channel.fileno())
    become_subreaper()
    die_with_parent(supervisor, signal.SIGTERM)
    set_name("noyau-spawner")
    ForkServer(channel).run()


def main(arguments: list[str]) -> NoReturn:
    """Import what actors need, then serve."""
    descriptor, supervisor, *modules = arguments
    for module in modules:
        importlib.import_module(module)
    serve(socket.socket(fileno=int(descriptor)), int(supervisor))


if __name__ == "__main__":
    main(sys.argv[1:])
