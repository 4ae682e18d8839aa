"""``noyau reload``: read the settings again while everything runs."""

from __future__ import annotations

from noyau.options import AsJson, RunFolder
from noyau.terminal import errors, run
from protocol.client import Client
from protocol.messages.supervisor import Reload, Reloaded


def reload(run_folder: RunFolder = None, as_json: AsJson = False) -> None:
    """Read the settings file again, and apply what may change while noyau runs.

    The settings come from where the running noyau took them: its file, its environment, its
    --set options. Time-outs, health, hang and restart limits change at once; an actor's own
    settings when it is next started (`noyau restart NAME`); the rest when noyau is. When anything
    in the file is wrong, everything stays as it was, and all errors are listed.
    """
    run(lambda: _reload(run_folder, as_json))


async def _reload(run_folder: RunFolder, as_json: bool) -> int:
    async with Client.connect(run_folder) as client:
        found = await client.ask(Reload())
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    for line in _lines(found):
        errors.print(line, markup=False, soft_wrap=True)
    return 0


def _lines(found: Reloaded) -> list[str]:
    if not (found.now or found.at_restart or found.at_start):
        return ["The settings are what they were."]
    lines = [f"changed: {name}" for name in found.now]
    for actor, names in found.at_restart.items():
        lines.append(f"changes with `noyau restart {actor}`: {', '.join(names)}")
    if found.at_start:
        lines.append(f"changes when noyau is started again: {', '.join(found.at_start)}")
    return lines
