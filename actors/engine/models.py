"""The models of one engine: the first is loaded at the start, others when they are asked for.

`Shelf` decides which ones make room; here they are located, loaded and unloaded, one at a time and
each in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from actors.engine.backends import Backend, Loaded, make_backend
from actors.engine.locating import DEFAULT_MODEL, locate
from actors.engine.model_file import read_model
from actors.engine.shelf import Shelf
from actors.kernel import Actor
from configs.engine_settings import EngineSettings
from protocol.errors import (
    AssetError,
    EngineFailed,
    NotFound,
    OptionalAssetMissing,
    UnusableModel,
)

ASK_AGAIN_S = 60.0
"""A further model that storage could not give is not fetched again sooner: each try waits for the
network, and every answer would wait with it."""
UNLOAD_S = 10.0
"""A library that takes longer to let go of a model never does: the process is replaced then."""


@dataclass(frozen=True, slots=True)
class Model:
    """One that is loaded."""

    name: str
    """As in the settings."""
    id: str
    """What identifies it: the sha256 of its file, or what it is known by."""
    loaded: Loaded
    backend: Backend
    lack: str = ""
    """See `locating.Found`."""
    missed: tuple[str, ...] = ()
    """Names of the assets that it would have been loaded from, or with."""


@dataclass(frozen=True, slots=True)
class Place:
    """One that was found, and what it is to be loaded with."""

    name: str
    backend: Backend
    path: Path
    id: str
    options: EngineSettings
    size_bytes: int = 0
    """Of memory, about; 0 where nobody has to know."""
    lack: str = ""
    missed: tuple[str, ...] = ()
    """Both: see `Model`."""
    embeds: bool = False
    """Whether it is loaded to embed texts; else to generate."""


class Models:
    """Belongs to the event loop's thread."""

    def __init__(self, actor: Actor, options: EngineSettings, changed: Callable[[], None]) -> None:
        """``changed``: called when another model was loaded or unloaded."""
        self._actor = actor
        self._options = options
        self._changed = changed
        self._kept = actor.incarnation.settings.data.folder / "models"
        self._places = {DEFAULT_MODEL: options.model} | options.models | options.embedding_models
        self._shelf = Shelf(DEFAULT_MODEL, options.max_loaded, options.keep_alive_s)
        self._models: dict[str, Model] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._missed: dict[str, tuple[float, AssetError]] = {}
        """Until when, and why."""
        self._one_at_a_time = asyncio.Lock()
        self._alarm: asyncio.TimerHandle | None = None
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """All that generate, loaded or not, the first one first."""
        return [name for name in self._places if name not in self._options.embedding_models]

    @property
    def loaded(self) -> dict[str, Model]:
        """Those that are loaded, by name."""
        return dict(self._models)

    async def load_first(self) -> Model:
        """The first one. Raises what locating and loading raise."""
        async with self._one_at_a_time:
            return await self._load(await self._locate(DEFAULT_MODEL))

    async def acquire(self, name: str) -> Model:
        """A model that generates, loaded if it is not yet, that stays until `release`. Raises
        `NotFound`, `Overloaded`, `UnusableModel`, and what locating and loading raise."""
        name = name or DEFAULT_MODEL
        if name not in self.names:
            known = ", ".join(self.names)
            raise NotFound(f"{self._actor.name} has no model {name!r}; there are: {known}")
        return await self._acquire(name)

    async def acquire_to_embed(self, name: str) -> Model:
        """The same of one that embeds texts; without a name, the first of them."""
        known = list(self._options.embedding_models)
        name = name or next(iter(known), "")
        if name not in known:
            there_are = f"there are: {', '.join(known)}" if known else "there are none"
            where = f"actors.{self._actor.name}.settings.embedding_models"
            raise NotFound(
                f"{self._actor.name} has no model {name!r} that embeds texts; {there_are}; name "
                f"one in {where}"
            )
        return await self._acquire(name)

    async def _acquire(self, name: str) -> Model:
        while name not in self._models:
            if name not in self._loading:
                task = asyncio.get_running_loop().create_task(self._load_further(name))
                self._loading[name] = task
                task.add_done_callback(lambda _: self._loading.pop(name, None))
            # Whoever waits no longer leaves it to those who do: a library cannot be interrupted.
            await asyncio.shield(self._loading[name])
        self._shelf.hold(name, self._now())
        return self._models[name]

    def release(self, model: Model, keep_alive_s: float | None = None) -> None:
        """It is used no more, by one of those who acquired it."""
        self._shelf.release(model.name, self._now(), keep_alive_s)
        self._set_alarm()

    def _now(self) -> float:
        return self._actor.clock.now()

    # --- loading --------------------------------------------------------------------------

    async def _load_further(self, name: str) -> None:
        async with self._one_at_a_time:
            place = await self._locate_again(name)
            # Asked again after each: meanwhile somebody may use the next one.
            while leaving := self._shelf.to_unload(
                name, place.size_bytes, psutil.virtual_memory().available
            ):
                await self._unload(leaving[0])
            try:
                await self._load(place)
            except EngineFailed as error:
                # It says nothing of the engine, which is well with its other models.
                raise UnusableModel(f"the model {name}: {error.message}", model=name) from None

    async def _locate_again(self, name: str) -> Place:
        """See `_locate`. One that could not be had a moment ago is not fetched, and looked for."""
        until, why = self._missed.get(name, (0.0, None))
        fetch = self._now() >= until
        try:
            return await self._locate(name, fetch=fetch)
        except AssetError as error:
            if not fetch and why is not None:
                raise type(why)(why.message, **why.details) from None
            self._missed[name] = self._now() + ASK_AGAIN_S, error
            raise

    async def _locate(self, name: str, *, fetch: bool = True) -> Place:
        """Raises `MissingHardware`, and what locating and reading a model's file raise."""
        backend = make_backend(self._options.backend)
        backend.check(self._options)
        where, options = self._places[name], self._options
        embeds = name in options.embedding_models
        if not backend.needs_model:
            if name == DEFAULT_MODEL:
                return Place(name, backend, Path(), backend.name, options)
            # A server's own name for it.
            options = options.model_copy(update={"remote_model": where})
            id_ = f"{backend.name}:{where}"
            return Place(name, backend, Path(), id_, options, embeds=embeds)
        kind = "embedding_models" if embeds else "models"
        setting = "model" if name == DEFAULT_MODEL else f"{kind}.{name}"
        found = await locate(self._actor, where, setting, fetch=fetch)
        lacks, missed = [found.lack], [found.missed]
        size = 0
        if self._options.models or self._options.embedding_models:
            # Else there is nothing that it could make room for.
            size = await asyncio.to_thread(self._size_of, found.path)
        if options.speculation == "draft" and options.draft_model is not None and not embeds:
            try:
                draft = await locate(self._actor, options.draft_model, "draft_model")
            except OptionalAssetMissing as missing:
                options = options.model_copy(update={"speculation": "none", "draft_model": None})
                lacks.append(f"without a draft: {missing.message}")
                missed.append(str(missing.details["asset"]))
                self._actor.log.warning("no_draft_model", reason=missing.message)
            else:
                options = options.model_copy(update={"draft_model": str(draft.path)})
                missed.append(draft.missed)
        return Place(
            name, backend, found.path, found.id, options, size,
            "; ".join(filter(None, lacks)), tuple(filter(None, missed)), embeds,
        )  # fmt: skip

    def _size_of(self, path: Path) -> int:
        """In a thread: what it takes of the memory, about."""
        return read_model(path).needed_bytes(self._options.context_tokens)

    async def _load(self, place: Place) -> Model:
        name, backend = place.name, place.backend
        self._actor.say(f"loading the model{'' if name == DEFAULT_MODEL else f' {name}'}")
        # Not one of the slots' threads: those pass the text on and are in a hurry.
        loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(
                loader, _load_nicely, place, self._kept
            )
        finally:
            # Not waited for: one that is stopped over it must not stand still until it is loaded.
            loader.shutdown(wait=False)
        model = self._models[name] = Model(
            name, place.id, loaded, backend, place.lack, place.missed
        )
        self._shelf.put(name, place.size_bytes, self._now())
        self._set_alarm()
        self._changed()
        return model

    # --- unloading ------------------------------------------------------------------------

    async def _unload(self, name: str) -> None:
        model = self._models.pop(name)
        self._shelf.remove(name)
        self._actor.log.info("unloading", model=name)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def unload() -> None:
            model.backend.unload()
            loop.call_soon_threadsafe(done.set)

        # A daemon, as it may never end.
        threading.Thread(target=unload, name="unload", daemon=True).start()
        try:
            async with asyncio.timeout(UNLOAD_S):
                await done.wait()
        except TimeoutError:
            self._actor.log.error("model_not_unloaded", model=name)
            # In order: what is in hand is handed back, and the next incarnation has the memory.
            os.kill(os.getpid(), signal.SIGTERM)
        self._changed()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = self._shelf.next_due
        if at is not None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, at - self._now()), self._unload_due)

    def _unload_due(self) -> None:
        task = asyncio.get_running_loop().create_task(self._unload_all_due())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload_all_due(self) -> None:
        async with self._one_at_a_time:
            # Asked again after each: meanwhile somebody may use the next one.
            while due := self._shelf.due(self._now()):
                await self._unload(due[0])
        self._set_alarm()


def _load_nicely(place: Place, kept: Path) -> Loaded:
    """In a thread of its own: the library's threads inherit how nice it is to others."""
    # From where the process is, as nobody may go below that. More than 19 is 19 to the kernel.
    niceness = os.getpriority(os.PRIO_PROCESS, os.getpid()) + place.options.niceness
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
    return place.backend.load(place.path, place.id, place.options, kept, embeds=place.embeds)
