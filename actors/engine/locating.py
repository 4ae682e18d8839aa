"""Where a model's file is: an asset that storage provides, or a file of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from actors.engine.model_file import check_size
from actors.kernel import Actor
from configs.chosen_model import read_choice
from configs.machine import this_machine
from protocol.errors import EngineFailed, UnusableModel
from protocol.messages.storage import Located, Provide

FETCH_S = 24 * 3600.0
"""How long fetching a model may take: a large one over a slow line. Stalls are seen in storage."""
DEFAULT_MODEL = "default"


class Found(NamedTuple):
    """Where a model's file is."""

    path: Path
    id: str
    """What identifies it."""
    lack: str = ""
    """What people should know where it is not the model that was asked for."""
    missed: str = ""
    """The asset that was asked for, then."""


async def locate(actor: Actor, model: str, setting: str, *, fetch: bool = True) -> Found:
    """The file of a model; ``setting``: the one that names it, such as ``model``. The actor says
    what is being fetched, unless it is not to be (``fetch``). Raises `UnusableModel`,
    `EngineFailed`, and what storage raises."""
    if "/" in model or model.endswith(".gguf"):
        whose = f"actors.{actor.name}.settings.{setting}"
        return _own_file(Path(model).expanduser(), whose, "give the path of a GGUF file there")
    if model == DEFAULT_MODEL:
        chosen = read_choice(actor.incarnation.settings.data.folder)
        if chosen.path is not None:
            return _own_file(
                chosen.path, "the model chosen with `noyau models use`",
                "give the path of a GGUF file, or go back to the default model: "
                "noyau models default",
            )  # fmt: skip
    actor.say("asking storage for the model")
    stream = await actor.caller.stream(
        "storage", Provide(asset=model, fetch=fetch), timeout_s=FETCH_S
    )
    async with stream:
        async for progress in stream:
            what = f"{progress.stage} {progress.asset}"
            actor.say(what, progress.done_bytes, progress.total_bytes, "bytes")
            actor.progressed()
    located = stream.end
    if not isinstance(located, Located):
        raise EngineFailed("storage did not say where the model is")
    lack = ""
    if located.instead_of:
        lack = f"without {located.instead_of}, which cannot be had now: {located.asset} answers"
        actor.log.warning("fallback_model", lack=lack)
    return Found(Path(located.path), located.sha256, lack, located.instead_of)


def _own_file(path: Path, whose: str, remedy: str) -> Found:
    """A model file of the user's own. Identified by path, size and time: hashing many GB would
    delay every start, and its owner vouches for it."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UnusableModel(
            f"{whose}: {path}: {error.strerror}; {remedy}", path=str(path)
        ) from None
    check_size(path, this_machine().memory_bytes)
    return Found(path, model_id_of(path, stat))


def model_id_of(path: Path, stat: os.stat_result) -> str:
    """What a model file of the user's own is known by."""
    return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
