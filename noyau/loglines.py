"""Lines of the processes' logs: read, put in order, and written as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
_KNOWN = ("timestamp", "actor", "level", "event", "pid", "epoch", "stream")
_INVISIBLE = {number: f"\\x{number:02x}" for number in (*range(9), *range(10, 32), 127)}
"""What is printed may be meant to steer a terminal, but not the reader's; tabs are left."""
_TAIL_BYTES = 256 * 1024
"""Looked at from the end of each file: some thousand lines."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line."""

    timestamp: str
    """ISO 8601 in UTC, so that the order of texts is that of times."""
    actor: str
    level: str
    event: str
    more: dict[str, Any]
    raw: str
    stream: str = ""
    """``stdout`` or ``stderr`` for what was printed, and nothing for what was logged."""

    def readable(self) -> str:
        """As people read it; a traceback below it."""
        more = dict(self.more)
        trace = more.pop("exception", "")
        told = " ".join(f"{name}={_short(value)}" for name, value in more.items() if value != {})
        event = f"{self.stream} | {self.event.translate(_INVISIBLE)}" if self.stream else self.event
        line = f"{self.timestamp[11:23]} {self.level:8} {self.actor:13} {event}"
        return "\n".join(part for part in (f"{line} {told}".rstrip(), str(trace)) if part)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def parse(raw: str) -> LogLine | None:
    """A line of a log; None for what is none, such as a line that is still being written."""
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    known = {name: str(found.get(name, "")) for name in _KNOWN}
    more = {name: value for name, value in found.items() if name not in _KNOWN}
    return LogLine(
        known["timestamp"], known["actor"], known["level"], known["event"], more,
        raw.rstrip("\n"), known["stream"],
    )  # fmt: skip


class LogFiles:
    """The logs in a folder, each followed from where it was last read."""

    def __init__(self, folder: Path, actors: Iterable[str] = ()) -> None:
        """``actors``: only theirs; none given means all there are, and all that will be."""
        self._folder = folder
        self._actors = {*actors}
        self._read_to: dict[Path, int] = {}

    def names(self) -> list[str]:
        """Whose logs there are."""
        return sorted({_whose(path) for path in self._folder.glob("*.jsonl")})

    def latest(self, count: int, least: str) -> list[LogLine]:
        """The last lines of all files together, in the order of their times; of ``least`` level."""
        found = [line for path in self._paths() for line in self._new_lines(path, _TAIL_BYTES)]
        return _wanted(found, least)[-count:] if count else []

    def more(self, least: str) -> list[LogLine]:
        """What was written since the last look."""
        found = [line for path in self._paths() for line in self._new_lines(path)]
        return _wanted(found, least)

    def _paths(self) -> list[Path]:
        return [
            path
            for path in sorted(self._folder.glob("*.jsonl"))
            if not self._actors or _whose(path) in self._actors
        ]

    def _new_lines(self, path: Path, at_most: int | None = None) -> Iterator[LogLine]:
        begin = self._read_to.get(path, 0)
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size < begin:
                    # It was begun anew.
                    begin = 0
                if at_most is not None and size - begin > at_most:
                    file.seek(size - at_most)
                    file.readline()
                else:
                    file.seek(begin)
                content = file.read()
                end = file.tell()
        except OSError:
            # It went away between the listing and now.
            return
        whole, _, unfinished = content.rpartition(b"\n")
        self._read_to[path] = end - len(unfinished)
        for raw in whole.decode(errors="replace").splitlines():
            line = parse(raw)
            if line is not None:
                yield line


def _whose(path: Path) -> str:
    """An actor has two: what it logs, and NAME.out.jsonl with what it prints."""
    return path.name.partition(".")[0]


def _wanted(lines: list[LogLine], least: str) -> list[LogLine]:
    from_here_on = LEVELS[LEVELS.index(least) :]
    kept = [line for line in lines if line.level in from_here_on or line.level not in LEVELS]
    return sorted(kept, key=lambda line: line.timestamp)
