"""The noyau on this machine: for the verbs that work on its files and processes."""

from __future__ import annotations

import os
from pathlib import Path

from configs import load_settings
from protocol.client import Client
from protocol.endpoints import SERVER_VARIABLE
from protocol.errors import InvalidRequest, NotRunning


def check_here(run_folder: Path | None) -> None:
    """Raises `InvalidRequest` where one on another machine is meant."""
    named = os.environ.get(SERVER_VARIABLE)
    if run_folder is None and named:
        raise InvalidRequest(
            f"this works on the files and processes of a noyau on this machine, and {named} is on "
            f"another: run it there, or here without {SERVER_VARIABLE}"
        )


async def data_folder(run_folder: Path | None, config: Path | None, assignments: list[str]) -> Path:
    """That of the noyau that runs, or else the one that the settings name."""
    check_here(run_folder)
    settings = load_settings(file=config, assignments=assignments)
    try:
        async with Client.connect(run_folder or settings.run.folder) as client:
            return Path((await client.status()).data_folder)
    except NotRunning:
        return settings.data.folder
