"""A web server on this machine that serves a folder, as rightly or wrongly as it is told to.

    with FaultyServer(folder) as server:
        server.inject("model.gguf", faults.cut(after=1000), times=1)
        fetch(server.url("model.gguf"))
        assert server.requests("model.gguf") == 2
        assert server.ranges("model.gguf") == [(0, 5000), (1000, 5000)]
        assert server.sent("model.gguf") == 5000

Real sockets, HTTP/1.1 with connections that stay open, ranges, ETag and Last-Modified; a thread for
each connection. Paths are matched as by a shell (``*.gguf``, ``models/*``), without the slash in
front. It also answers as a proxy would, also for https: whatever host a request names, the file is
from the folder, and a tunnel leads to this machine.

    python -m tests.support.faulty_server FOLDER PORT       the same by itself, without faults
"""

from __future__ import annotations

import itertools
import random
import socket
import ssl
import sys
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.support.answering import Asked, Listener
from tests.support.faults import Fault


@dataclass
class _Rule:
    number: int
    pattern: str
    faults: tuple[Fault, ...]
    left: int | None
    share: float
    at: int | None
    drawn: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """How often each stretch was asked for."""


class FaultyServer:
    """Listens as long as its context lasts; leaving it ends every answer, also a stalled one.

    Args:
        folder: what is served; files may come, change and go meanwhile.
        host: an address of this machine: also 127.0.0.2, or ::1.
        seed: of the faults that come with a probability. The same requests get the same faults,
            whatever order their threads ask in.
        tls: serve https by it.
    """

    def __init__(
        self, folder: Path, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.asked: list[Asked] = []
        """All requests, in the order of their arrival."""
        self.connections = 0
        """How many were made."""
        self._host, self._seed, self._tls = host, seed, tls
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._numbers = itertools.count()
        self._open: dict[socket.socket, socket.socket] = {}
        """What each accepted connection is spoken to by: itself, or TLS over it."""
        self._ending = threading.Event()
        self._server = Listener(host, port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all answers and threads."""
        self._server.shutdown()
        self._thread.join()
        self._ending.set()
        self.drop_connections()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def is_busy(self) -> bool:
        """Whether any connection is open."""
        with self._lock:
            return bool(self._open)

    def url(self, path: str = "", host: str = "") -> str:
        """Of a file. ``host``: another name for this machine."""
        name = host or (f"[{self._host}]" if ":" in self._host else self._host)
        return f"http{'s' if self._tls else ''}://{name}:{self.port}/{quote(path)}"

    def inject(
        self, pattern: str, *faults: Fault, times: int | None = None, share: float = 1.0,
        at: int | None = None,
    ) -> None:  # fmt: skip
        """Have answers go wrong. All rules that match are applied, in the order of their making.

        Args:
            times: only the first so many answers; None: all.
            share: only so many of them, from 0 to 1, drawn by the seed.
            at: only those that hold this byte of the file.
        """
        with self._lock:
            self._rules.append(_Rule(next(self._numbers), pattern, faults, times, share, at))

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._rules.clear()

    def forget(self) -> None:
        """Count from here."""
        with self._lock:
            self.asked.clear()
            self.connections = 0

    def drop_connections(self) -> None:
        """Close all that are open, in the middle of whatever they are at."""
        with self._lock:
            connections = list(self._open.values())
        for connection in connections:
            _shut(connection)

    def requests(self, pattern: str = "*") -> int:
        """How many came."""
        return len(self._of(pattern))

    def sent(self, pattern: str = "*") -> int:
        """Bytes of bodies."""
        return sum(asked.sent for asked in self._of(pattern))

    def ranges(self, pattern: str = "*") -> list[tuple[int, int]]:
        """The stretches that were asked for, as offsets of their first byte and of that behind
        their last; the whole file where none was."""
        return [(asked.start, asked.stop) for asked in self._of(pattern)]

    def _of(self, pattern: str) -> list[Asked]:
        with self._lock:
            return [asked for asked in self.asked if fnmatchcase(asked.path, pattern)]

    def came(self, asked: Asked) -> None:
        """Note a request."""
        with self._lock:
            self.asked.append(asked)

    def faults_for(self, asked: Asked) -> list[Fault]:
        """Those that this answer gets."""
        with self._lock:
            rules = [rule for rule in self._rules if self._applies(rule, asked)]
        return [fault for rule in rules for fault in rule.faults]

    def _applies(self, rule: _Rule, asked: Asked) -> bool:
        if not fnmatchcase(asked.path, rule.pattern) or rule.left == 0:
            return False
        if rule.at is not None and not asked.start <= rule.at < asked.stop:
            return False
        stretch = (asked.path, asked.start, asked.stop)
        rule.drawn[stretch] = nth = rule.drawn.get(stretch, 0) + 1
        draw = random.Random(f"{self._seed} {rule.number} {stretch} {nth}").random()
        if draw >= rule.share:
            return False
        rule.left = None if rule.left is None else rule.left - 1
        return True

    def connected(self, accepted: socket.socket) -> tuple[socket.socket, int]:
        """Note a connection; it is spoken to by what is returned, with its number."""
        spoken = accepted
        if self._tls is not None:
            spoken = self._tls.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            if self._ending.is_set():
                raise ConnectionAbortedError
            self._open[accepted] = spoken
            self.connections += 1
            number = self.connections
        if isinstance(spoken, ssl.SSLSocket):
            spoken.do_handshake()
        return spoken, number

    def gone(self, accepted: socket.socket) -> None:
        """The connection has ended."""
        with self._lock:
            spoken = self._open.pop(accepted, None)
        if spoken is not None:
            spoken.close()

    def pause(self, seconds: float) -> None:
        """Wait, at most until the server ends."""
        if seconds and self._ending.wait(seconds):
            raise ConnectionAbortedError


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker


def _main() -> None:
    with FaultyServer(Path(sys.argv[1]), port=int(sys.argv[2])):
        threading.Event().wait()


if __name__ == "__main__":
    _main()
