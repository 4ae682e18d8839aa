"""An actor that keeps files, for tests with real processes: all it saves is known to the byte."""

from __future__ import annotations

import random

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.files import Files
from actors.kernel.spool import Spool, SpoolBounds
from actors.kernel.spooling import FileSpool
from configs.load import load_settings
from protocol.backoff import Backoff
from protocol.messages.base import Ask, Empty, Message, Role
from protocol.messages.storage import StoredFileInfo

SPOOLED = SpoolBounds(entries=400, bytes=1 << 20)

ALONE = (
    "query.engines=[]",
    # Whichever actors the default settings have by now.
    *(f"actors.{name}.enabled=false" for name in load_settings(environ={}).actors),
    "actors.storage.enabled=true",
    "actors.storage.class=actors.storage:Storage",
    "actors.scribe.class=tests.support.scribe:Scribe",
    "restart.max_restarts=1000",
    "restart.backoff_max_s=0.1",
)
"""A noyau of storage and a scribe."""


def content(name: str, version: int, size: int) -> bytes:
    """What a scribe saves as this version."""
    head = f"{name} {version} {size}\n".encode()
    return head + random.Random(f"{name} {version}").randbytes(size)


def check(name: str, found: bytes) -> int:
    """The version that this is, and no byte else. Raises AssertionError."""
    head, _, _ = found.partition(b"\n")
    named, version, size = head.decode().split()
    assert named == name
    assert found == content(name, int(version), int(size))
    return int(version)


class Scribble(Ask[StoredFileInfo], operation="scribe.scribble", role=Role.ASK):
    """Save this version of a file."""

    name: str
    version: int
    size: int
    ttl_s: float | None = None


class Note(Ask[Empty], operation="scribe.note", role=Role.ASK):
    """Put so many small files into the spool, numbered from ``first`` on."""

    first: int
    count: int


class Spooled(Message):
    """How the spool does."""

    waiting: int
    overflowed: int
    refused: int


class GetSpooled(Ask[Spooled], operation="scribe.spooled", role=Role.ASK):
    """How does it?"""


class Scribe(Actor):
    """Saves what it is told to."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._files = Files(self.caller)
        self._spool = FileSpool(self.caller, Spool(SPOOLED, Backoff(first_s=0.01, max_s=0.1)))

    async def on_stop(self) -> None:
        """Save what waits."""
        await self._spool.close(patience_s=1)

    @handles(Scribble)
    async def scribble(self, message: Scribble) -> StoredFileInfo:
        """See `Scribble`."""
        made = content(message.name, message.version, message.size)
        return await self._files.save(message.name, made, ttl_s=message.ttl_s)

    @handles(Note)
    def note(self, message: Note) -> Empty:
        """See `Note`."""
        for number in range(message.first, message.first + message.count):
            name = f"notes/{number:06}"
            self._spool.put(name, content(name, 0, 100))
        return Empty()

    @handles(GetSpooled)
    def spooled(self, message: GetSpooled) -> Spooled:
        """See `GetSpooled`."""
        spool = self._spool.spool
        return Spooled(
            waiting=len(spool), overflowed=spool.losses.overflowed, refused=spool.losses.refused
        )
