"""Garbage may come of a damaged model file: storage is told which, and reads it."""

from __future__ import annotations

import asyncio

import structlog

from protocol.caller import Caller
from protocol.errors import NoyauError
from protocol.messages.storage import DoubtAsset
from protocol.messages.supervisor import DirectoryEntry

TELL_S = 5.0

log = structlog.get_logger("orchestrator")


class Doubts:
    """Tells storage, and nobody waits for it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._tasks: set[asyncio.Task[None]] = set()

    def garbage(self, engine: DirectoryEntry, model: str) -> None:
        """What ``engine`` made with its model of this name (empty: its first) is garbage."""
        ids = engine.info.get("model_ids") or {}
        id_ = str(ids.get(model, "") if model else engine.info.get("model_id", ""))
        if id_ and "storage" in self._caller.directory.entries:
            task = asyncio.get_running_loop().create_task(self._tell(id_))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, id_: str) -> None:
        try:
            await self._caller.ask("storage", DoubtAsset(sha256=id_), timeout_s=TELL_S)
        except NoyauError as error:
            # Its scrub finds the damage later.
            log.warning("doubt_not_told", model_id=id_, error=error.message)
