"""What is left when all is over: processes that nobody answers for, files of dead ones."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from noyau.processes import alive, processes_in
from protocol.client import Client
from protocol.messages.memory import Forget, ListMemories
from protocol.messages.supervisor import Status

SIGNS = ".signs"
PAGE = 1000


class Census:
    """Every process that was ever seen below the guard or the supervisor."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._seen: dict[int, psutil.Process] = {}
        self._files = _names(run_folder)

    def take(self, found: Status) -> None:
        """Note who is there now."""
        for pid in (found.guard.pid, found.supervisor.pid):
            if pid is not None:
                for process in _with_descendants(pid):
                    known = self._seen.get(process.pid)
                    # A number may be another's by now; a process is equal only to itself.
                    if known != process:
                        self._seen[process.pid] = process

    def orphans(self, found: Status) -> list[str]:
        """Processes of this noyau that are neither in its status nor below one that is: left by a
        dead one, wherever they hang now."""
        self.take(found)
        told = processes_in(self._run_folder)
        own = psutil.Process()
        mine = {own.pid, *(one.pid for one in own.parents())}
        known = {found.guard.pid, found.supervisor.pid, found.spawner.pid}
        for actor in found.actors:
            if actor.pid is not None:
                known |= {process.pid for process in _with_descendants(actor.pid)}
        suspects = {process.pid: process for process in [*self._seen.values(), *told]}
        return [
            _describe(process)
            for process in alive(list(suspects.values()))
            if process.pid not in known | mine
        ]

    def leaked(self, found: Status) -> list[str]:
        """Sockets and pages of dead incarnations in the run folder, and files that came up."""
        living = {"supervisor", "lock", "restarts.json"}
        for actor in found.actors:
            living |= {f"{actor.name}.{actor.epoch}", f"{actor.name}.{actor.epoch}{SIGNS}"}
        names = _names(self._run_folder)
        return sorted(
            name
            for name in names - living
            if name not in self._files or _is_of_a_process(self._run_folder / name)
        )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _is_of_a_process(path: Path) -> bool:
    return path.suffix == SIGNS or path.is_socket()


def _with_descendants(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.name()} ({process.pid}, child of {process.ppid()})"
    return str(process.pid)


async def settle_memories(client: Client, source: str, acknowledged: set[str]) -> int:
    """Forget what the run remembered; returns how many memories were acknowledged and are not
    there. Raises a `NoyauError`."""
    there: set[str] = set()
    ours: list[str] = []
    while True:
        page = await client.ask(ListMemories(offset=len(there), limit=PAGE), timeout_s=30)
        there |= {item.id for item in page.items}
        ours += [item.id for item in page.items if item.source == source]
        if not page.items or len(there) >= page.total:
            break
    for start in range(0, len(ours), PAGE):
        await client.ask(Forget(ids=ours[start : start + PAGE]), timeout_s=30)
    return len(acknowledged - there)
