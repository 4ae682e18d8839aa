"""Standard output and error of the processes of actors, read from their pipes into JSON lines.

::

    process ─► pipe (1 MiB) ─► every 10 ms, at most 16 KiB ─► printed.py ─► NAME.out.jsonl

Nobody can harm the supervisor by printing: a read is bounded, and so is how often there is one, how
many lines are written, and what is held in memory. A process that prints more than is read waits
in its ``print``; so does one that has filled its pipe while the supervisor is stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import termios
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Protocol

from supervision.printed import Allowed, LineLimit, LineSplitter

READ_BYTES = 16 * 1024
"""In one go: a millisecond of work where it is the shortest of lines, else much less."""

PAUSE_S = 0.01
"""From the first byte to a read, so that the lines of a traceback come together, and so many reads
a second cost some hundredths of a core at most. It makes 1.6 MiB a second for one stream."""

WRITE_LINES = 16
"""In one go: a write costs ten times what a line does."""

LEVELS = {"stdout": "info", "stderr": "warning"}


class LineFile(Protocol):
    """What lines are written to. It deals itself with what cannot be written."""

    def write(self, text: str) -> None:
        """Some whole lines."""

    def close(self) -> None:
        """There are no more."""


class Outputs:
    """All that the processes of actors print. Lives on one event loop."""

    def __init__(self, open_file: Callable[[str], LineFile]) -> None:
        """``open_file`` is given an actor's name; each is asked for once, at its first line."""
        self._open_file = open_file
        self._files: dict[str, LineFile] = {}
        self._streams: dict[tuple[str, str], list[_Stream]] = {}
        self._ending: list[_Stream] = []
        """Of processes that have ended, some of which are still being read."""

    def take(self, name: str, epoch: str, pid: int, stdout: int, stderr: int) -> None:
        """Read these pipes of a process from now on. They are closed here."""
        self._streams[name, epoch] = [
            _Stream(
                descriptor,
                {"stream": stream, "actor": name, "epoch": epoch, "pid": pid},
                lambda text: self._file(name).write(text),
            )
            for stream, descriptor in (("stdout", stdout), ("stderr", stderr))
        ]

    def died(self, name: str, epoch: str) -> None:
        """Its process has ended: what that wrote is there by now, and is written as said at this
        moment. What its descendants still have to say is heard no more. A second time changes
        nothing."""
        streams = self._streams.pop((name, epoch), [])
        for stream in streams:
            stream.read_the_rest()
        self._ending = [stream for stream in (*self._ending, *streams) if not stream.over]

    def close(self) -> None:
        """Write all that is there, and read no more."""
        for stream in chain(*self._streams.values(), self._ending):
            stream.close()
        self._streams.clear()
        self._ending.clear()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, name: str) -> LineFile:
        if name not in self._files:
            self._files[name] = self._open_file(name)
        return self._files[name]


class _Stream:
    """One pipe, from the first byte to the last."""

    def __init__(
        self, descriptor: int, always: dict[str, Any], write: Callable[[str], None]
    ) -> None:
        self._descriptor = descriptor
        self._always = always
        self._level = LEVELS[always["stream"]]
        self._write_text = write
        self._loop = asyncio.get_running_loop()
        self._splitter = LineSplitter()
        self._limit = LineLimit(self._loop.time())
        self._next: asyncio.Handle | None = None
        """The next read, where it does not wait for the pipe."""
        self.over = False
        """Whether its pipe is closed."""
        os.set_blocking(descriptor, False)
        self._wait()

    def _wait(self) -> None:
        self._loop.add_reader(self._descriptor, self._read_soon)

    def _read_soon(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._next = self._loop.call_later(PAUSE_S, self._look)

    def _look(self) -> None:
        """One read, however much there is."""
        self._read(READ_BYTES, _stamp())
        if self.over:
            return
        if self._limit.dropping:
            # It may be that nothing more comes, and what waits has to be written in time.
            self._read_soon()
        else:
            self._wait()

    def _read(self, at_most: int, stamp: str) -> int:
        try:
            data = os.read(self._descriptor, at_most)
        except BlockingIOError:
            data = b""
        else:
            self.over = not data
        self._write(self._limit.take(self._splitter.feed(data), self._loop.time()), stamp)
        if self.over:
            self._end(stamp)
        return len(data)

    def read_the_rest(self) -> None:
        """The process has ended: read what is there by now, a part at each turn of the loop."""
        if not self.over:
            self._wait_no_more()
            self._next = self._loop.call_soon(self._read_part, self._unread(), _stamp())

    def _read_part(self, left: int, stamp: str) -> None:
        if left := self._read_of(left, stamp):
            self._next = self._loop.call_soon(self._read_part, left, stamp)

    def close(self) -> None:
        """Read what is there now, and no more."""
        if not self.over:
            self._wait_no_more()
            left, stamp = self._unread(), _stamp()
            while left := self._read_of(left, stamp):
                pass

    def _read_of(self, left: int, stamp: str) -> int:
        """One read of the last so many bytes; how many are left then. It is over with the last."""
        got = self._read(min(left, READ_BYTES), stamp) if left else 0
        if got and got < left:
            return left - got
        if not self.over:
            self._end(stamp)
        return 0

    def _unread(self) -> int:
        found = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        return int.from_bytes(found, sys.byteorder)

    def _wait_no_more(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _end(self, stamp: str) -> None:
        self.over = True
        self._wait_no_more()
        os.close(self._descriptor)
        self._write(self._limit.take(self._splitter.end(), self._loop.time()), stamp)
        self._write(self._limit.end(), stamp)

    def _write(self, allowed: Allowed, stamp: str) -> None:
        # What is no UTF-8 is shown as it is, and as nothing else.
        events = [line.decode(errors="backslashreplace") for line in allowed.lines]
        always = self._always | {"level": self._level, "timestamp": stamp}
        if allowed.dropped:
            count = {"count": allowed.dropped, "level": "warning"}
            self._write_text(_json_lines(["lines_dropped"], always | count))
        for begin in range(0, len(events), WRITE_LINES):
            self._write_text(_json_lines(events[begin : begin + WRITE_LINES], always))


def _json_lines(events: list[str], always: dict[str, Any]) -> str:
    end = json.dumps(always)[1:] + "\n"
    return "".join(f'{{"event": {json.dumps(event)}, {end}' for event in events)


def _stamp() -> str:
    """As the other logs have it. One for all that is read together, so that the lines of a
    traceback stay together where the lines of all processes are put in order."""
    return f"{datetime.now(UTC).isoformat(timespec='microseconds').removesuffix('+00:00')}Z"
