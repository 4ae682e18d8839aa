"""Having the engines of a running noyau load another model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocol.client import Client
from protocol.errors import EngineFailed, InvalidSettings, NotRunning
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import ActorStatus, Restart

GONE = (ActorState.FAILED, ActorState.STOPPED)


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of the noyau that runs."""

    run_folder: Path
    data_folder: Path
    engines: list[str]
    """Those that have, or should have, a model."""
    models: dict[str, str]
    """By engine: what its model is known by."""
    context_tokens: int
    """In all slots of an engine together; 0 when none says it."""
    engine_bytes: int
    """What the engines have in memory now."""


async def find_running(run_folder: Path) -> Running | None:
    """The noyau in this run folder; None when there is none."""
    try:
        async with Client.connect(run_folder) as client:
            status = await client.status()
    except NotRunning:
        return None
    engines = [actor for actor in status.actors if _is_engine(actor)]
    return Running(
        run_folder=run_folder,
        data_folder=Path(status.data_folder),
        engines=[one.name for one in engines],
        models={one.name: str(one.info.get("model_id", "")) for one in engines},
        context_tokens=max((_context(one) for one in engines), default=0),
        engine_bytes=sum(one.rss_bytes or 0 for one in engines),
    )


def _is_engine(actor: ActorStatus) -> bool:
    # One that could not load its model says nothing of itself but its name.
    known = "slots" in actor.info or actor.name.endswith("_engine")
    # Without the device it is for, or with no model at all, it will not load this one either.
    able = actor.state is not ActorState.UNAVAILABLE and actor.info.get("backend") != "simulated"
    return known and able


def _context(actor: ActorStatus) -> int:
    return int(actor.info.get("context_tokens", 0)) * int(actor.info.get("slots", 0))


async def switch(running: Running, engine: str, path: Path | None, timeout_s: float) -> None:
    """Restart an engine, and wait until it has the model that is chosen now.

    Raises `EngineFailed` when it cannot load it, and `InvalidSettings` when its settings name
    another one.
    """
    async with Client.connect(running.run_folder) as client:
        previous = (await client.ask(Restart(names=[engine]))).previous[engine]
        until = client.caller.clock.now() + timeout_s
        while client.caller.clock.now() < until:
            entry = client.caller.directory.entries.get(engine)
            if entry is not None and entry.epoch != previous:
                if entry.state is ActorState.READY:
                    _check(engine, str(entry.info.get("model_id", "")), path)
                    return
                if entry.state in GONE or (entry.reason and entry.state is ActorState.STARTING):
                    raise EngineFailed(f"{engine} cannot load it: {entry.reason}")
            await client.caller.wait_for_news(until)
    raise EngineFailed(f"{engine} had not loaded it after {timeout_s:g} s; see its log")


def _check(engine: str, model_id: str, path: Path | None) -> None:
    if path is not None and not model_id.startswith(f"{path}:"):
        raise InvalidSettings(
            f"{engine} goes on with its own model, which the settings name "
            f"(actors.{engine}.settings.model): take that out, or put the file there"
        )
