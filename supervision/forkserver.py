"""The spawner process: forks actors from a process that has the libraries imported already.

::

    python -m supervision.forkserver SOCKET_FD SUPERVISOR_PID MODULE …

A fresh Python with zmq and pydantic takes a quarter of a second; a fork of this one takes
milliseconds. It is single-threaded (a fork copies one thread only), holds no zmq context, and
speaks msgpack over one SOCK_SEQPACKET socket, one message a packet:

    in   {"spawn": KEY, "name": …, "entry": "module:function", "payload": …, "output": PATH}
              with a pipe attached that holds the secret
         {"preload": ["module:Class", …]}
    out  {"spawned": KEY, "pid": …} with the pidfd attached · {"failed": KEY, "reason": …}
         {"ended": KEY, "status": …}                          · {"ready": true} once
         {"preloaded": "module:Class", "problem": ""}

When the socket closes, because the supervisor is gone, it kills every descendant and ends.
(The standard library's forkserver blocks its caller when it is stopped, and re-imports the
caller's main module in every child.)
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

import msgpack

from supervision.preloading import Preloader
from supervision.processes import become_subreaper, die_with_parent, kill_descendants, set_name

IDLE_S = 0.3
"""Without an order for so long, there is time to preload the next class."""


class ForkServer:
    """Forks on request, reports ends, sweeps at the end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._keys: dict[int, str] = {}
        self._preloader = Preloader()
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
            found = poll.poll(IDLE_S * 1000 if self._preloader.wants_to_go_on else None)
            if not found:
                self._preload()
            for fd, _ in found:
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 512)
                    self._reap()
                else:
                    self._serve()

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
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"failed": key, "reason": f"cannot fork: {error.strerror}"})
            return
        if pid == 0:
            self._become_child(order, secret, spawner)
        self._keys[pid] = key
        # The child is not reaped before it is in the table, so the pid is surely its own.
        pidfd = os.pidfd_open(pid)
        try:
            self._send({"spawned": key, "pid": pid}, pidfd)
        finally:
            os.close(pidfd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self._keys.pop(pid, None)
            code = os.waitstatus_to_exitcode(status)
            # A grandchild whose parent died came to us as sub-reaper: nobody asks for it.
            if key is not None:
                self._send({"ended": key, "status": code})
            elif (preloaded := self._preloader.ended(pid, code)) is not None:
                name, problem = preloaded
                _share_memory()
                self._send({"preloaded": name, "problem": problem})

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

    def _become_child(self, order: dict[str, Any], secret: int, spawner: int) -> NoReturn:
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
            _redirect(order["output"])
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


def _redirect(output: str) -> None:
    """Standard input from nowhere; whatever is printed goes to the actor's own file."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)


def serve(channel: socket.socket, supervisor: int) -> NoReturn:
    """Be the spawner of this supervisor (its pid). The process must have one thread."""
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
