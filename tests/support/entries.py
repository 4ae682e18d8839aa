"""What the tests' spawned processes do: each function is called with its payload and secret."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

LIFE_S = 60
"""Whoever a failed test leaves behind ends by itself after this."""


def rest(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Wait for SIGKILL, which alone can end it."""
    signal.alarm(LIFE_S)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGALRM})
    while True:
        signal.sigwait([signal.SIGUSR2])


def wait(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Wait for any signal that ends it."""
    signal.alarm(LIFE_S)
    while True:
        signal.pause()


def end(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """End with ``code``."""
    os._exit(payload["code"])


def fail(payload: dict[str, Any], secret_fd: int) -> None:
    """Raise what no entry should."""
    raise RuntimeError(payload["text"])


def come_back(payload: dict[str, Any], secret_fd: int) -> None:
    """Return, which no entry should either."""


def say(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Print ``text``, read all of standard input, and end."""
    print(payload["text"], flush=True)  # noqa: T201 - what is printed is what is tested
    os.write(2, f"{payload['text']} on standard error, {os.read(0, 10)!r} in\n".encode())
    os._exit(0)


def abort(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Print ``text`` from Python and from C, then do what native libraries do in despair."""
    print(f"python: {payload['text']}")  # noqa: T201 - as above
    libc = ctypes.CDLL(None)
    libc.puts(f"c: {payload['text']}".encode())
    libc.abort()
    os._exit(0)


def print_much(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Print ``size`` bytes in lines, and end."""
    left = payload["size"]
    while left:
        left -= os.write(1, b"x" * min(left - 1, 99) + b"\n")
    os._exit(0)


def describe(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Write what this process is and holds to the file ``into``."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    facts = {
        "payload": payload["data"].hex(),
        "pid": os.getpid(),
        "session": os.getsid(0),
        "name": Path("/proc/self/comm").read_text().strip(),
        "open": [os.readlink(link) for link in links if os.path.lexists(link)],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "default": all(
            signal.getsignal(number) is signal.SIG_DFL
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        ),
    }
    Path(payload["into"]).write_text(json.dumps(facts))
    os._exit(0)


def have_a_child(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Have a child in a session of its own, write its pid to the file ``into``, and wait."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        rest(payload, secret_fd)
    made = Path(payload["into"] + ".new")
    made.write_text(str(pid))
    made.rename(payload["into"])
    rest(payload, secret_fd)


def list_modules(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Write the names of all imported modules to the file ``into``."""
    Path(payload["into"]).write_text("\n".join(sorted(sys.modules)))
    os._exit(0)


def keep_secret(payload: dict[str, Any], secret_fd: int) -> NoReturn:
    """Write the secret, to its end, to the file ``into``."""
    Path(payload["into"]).write_bytes(os.read(secret_fd, 1000) + b"|" + os.read(secret_fd, 1000))
    os._exit(0)
