"""An engine: models, generating several answers at once, each streamed as it is made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from actors.engine.accelerators import require_gpu, require_profile
from actors.engine.backends import Outcome, Piece, Prefill, Task
from actors.engine.courier import Courier
from actors.engine.formats import check_format
from actors.engine.generation import Generation
from actors.engine.misbehaving import Misbehaving
from actors.engine.models import Model, Models
from actors.kernel import Actor, Surroundings, handles
from configs.engine_settings import GPU_ELSEWHERE, EngineSettings
from protocol.errors import InvalidRequest, Overloaded
from protocol.messages.base import Empty
from protocol.messages.engine import (
    CountTokens,
    EmbedTexts,
    Generate,
    Generated,
    Misbehave,
    Stage,
    TextVectors,
    TokenCounts,
    Tokens,
)

RETRY_AFTER_S = 0.05
MOST_TO_EMBED = 64
"""Requests that embed, or wait for that: of 256 texts each, more would wait for minutes."""
LOADING_SIGN_S = 0.5
"""Between two signs of life while a model is loaded for a request."""
SIMULATED = "simulated"
WORKS_ELSEWHERE = ("openai_http",)
"""Backends whose work no thread of this process does."""


class Engine(Actor):
    """Generates text for the orchestrator, and for nobody else."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(EngineSettings)
        self._threads = ThreadPoolExecutor(self._options.slots, thread_name_prefix="slot")
        self._courier = Courier(asyncio.get_running_loop())
        self._running: set[Generation] = set()
        self._slot_freed = asyncio.Event()
        self._embedding = asyncio.Lock()
        self._to_embed = 0
        self._misbehaving = Misbehaving()
        if self._options.backend == SIMULATED:
            self._misbehaving.order(
                self._options.simulated_failure, self._options.simulated_failure_after_tokens, 0
            )
        self._models = Models(self, self._options, self._show_models)

    async def on_start(self) -> None:
        """Get the first model's file, then load it."""
        if self._options.device == "gpu" and self._options.backend not in GPU_ELSEWHERE:
            require_gpu()
        require_profile(self.incarnation.settings.device.profile, self._options.device)
        await self._models.load_first()

    def _show_models(self) -> None:
        """Tell callers what they can ask for."""
        loaded = self._models.loaded
        first = next(iter(loaded.values()), None)
        if first is None:
            return
        self.info = {
            "model": ", ".join(model.loaded.name for model in loaded.values()),
            "model_id": loaded[self._models.names[0]].id if self._models.names[0] in loaded else "",
            "model_ids": {name: model.id for name, model in loaded.items()},
            "models": self._models.names,
            "embedding_models": list(self._options.embedding_models),
            "lacks": {name: model.lack for name, model in loaded.items() if model.lack},
            "missed_assets": sorted({name for model in loaded.values() for name in model.missed}),
            "device": first.backend.device,
            "backend": first.backend.name,
            "slots": self._options.slots,
            "context_tokens": first.loaded.context_tokens,
        }
        self.changed()

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """Stream one answer, or the rest of one. Raises `InvalidRequest` for a format that cannot
        be kept to."""
        if message.format is not None:
            # In a thread: a large one takes a second, and others are streamed meanwhile.
            await asyncio.to_thread(check_format, message.format)
        await self._wait_for_slot()
        task = Task(
            message.messages, message.sampling, message.begun, message.format, message.logprobs
        )
        generation = Generation(task, self._courier, self._misbehaving, self.progressed)
        # From now on it has a slot, also while its model is loaded.
        self._running.add(generation)
        self._show_load()
        load_ms, began = 0.0, self.clock.now()
        acquiring = asyncio.ensure_future(self._models.acquire(message.model))
        try:
            # One that is loaded is there with the next turn of the loop.
            await asyncio.sleep(0)
            while not acquiring.done():
                await asyncio.wait([acquiring], timeout=LOADING_SIGN_S)
                load_ms = (self.clock.now() - began) * 1000
                if not acquiring.done():
                    yield Tokens(count=0, stage=Stage(what="loading"))
            model = acquiring.result()
            if model.lack:
                # Of one that was just loaded the directory does not say it yet.
                yield Tokens(count=0, stage=Stage(what="loaded", lack=model.lack))
            generation.start(self._threads, model.backend)
            self._show_load()
            async for item in generation.items():
                if isinstance(item, Outcome):
                    yield _generated(model, item, load_ms)
                elif isinstance(item, Piece) or item.waits or 0 < item.done < item.total:
                    # Not of a prompt that is read in one go: its first text says as much.
                    yield _told(item)
        finally:
            generation.stop()
            acquiring.cancel()
            generation.when_over(lambda: self._over(generation, acquiring, message.keep_alive_s))

    @handles(CountTokens)
    async def count_tokens(self, message: CountTokens) -> TokenCounts:
        """Count in a thread beside the slots': nobody waits for a generation to end."""
        model = await self._models.acquire(message.model)
        try:
            counts = await asyncio.to_thread(model.backend.count, message.texts)
        finally:
            self._models.release(model)
        return TokenCounts(counts=counts)

    @handles(EmbedTexts)
    async def embed_texts(self, message: EmbedTexts) -> TextVectors:
        """Embed in a thread beside the slots', one request after the other: more at once would not
        be faster."""
        for number, text in enumerate(message.texts):
            if not text.strip():
                raise InvalidRequest(f"text {number} is empty", text=number)
        if self._to_embed >= MOST_TO_EMBED:
            raise Overloaded(
                f"{self._to_embed} requests wait for {self.name} to embed their texts",
                retry_after_s=1.0,
            )
        self._to_embed += 1
        try:
            return await self._embedded(message)
        finally:
            self._to_embed -= 1

    async def _embedded(self, message: EmbedTexts) -> TextVectors:
        model = await self._models.acquire_to_embed(message.model)
        cancelled = threading.Event()
        try:
            async with self._embedding:
                embedding = asyncio.ensure_future(
                    asyncio.to_thread(model.backend.embed, message.texts, cancelled)
                )
                try:
                    found = await asyncio.shield(embedding)
                except asyncio.CancelledError:
                    # Whoever waits no longer lets go of the model when its thread has.
                    cancelled.set()
                    await asyncio.gather(embedding, return_exceptions=True)
                    raise
        finally:
            self._models.release(model)
        assert found is not None
        self.progressed(found.tokens)
        return TextVectors(
            vectors=found.vectors, dimension=found.dimension, model=model.id,
            model_name=model.loaded.name, device=model.backend.device, backend=model.backend.name,
            prompt_tokens=found.tokens,
        )  # fmt: skip

    async def _wait_for_slot(self) -> None:
        """Wait for slots that are about to be free; refuse when none is."""
        while len(self._running) >= self._options.slots:
            if not any(one.cancelled for one in self._running):
                raise Overloaded(
                    f"all {self._options.slots} slots of {self.name} are in use",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._slot_freed.clear()
            await self._slot_freed.wait()

    def _over(
        self, generation: Generation, acquired: asyncio.Future[Model], keep_alive_s: float | None
    ) -> None:
        """Its thread has let go of its slot, and of its model if it had one."""
        self._running.discard(generation)
        self._slot_freed.set()
        self._show_load()
        if acquired.done() and not acquired.cancelled() and acquired.exception() is None:
            self._models.release(acquired.result(), keep_alive_s)

    @handles(Misbehave)
    def misbehave(self, message: Misbehave) -> Empty:
        """See `Misbehave`. Raises `NotAllowed` unless the settings allow it."""
        if self._options.backend != SIMULATED:
            self.incarnation.settings.chaos.check()
        self.log.warning("misbehaves", how=message.how, after_tokens=message.after_tokens)
        self._misbehaving.order(message.how, message.after_tokens, message.answers)
        return Empty()

    def _show_load(self) -> None:
        busy = len(self._running)
        if not busy:
            self.say("idle")
            return
        # A server works elsewhere and tells nothing of it, and a model that is loaded for a request
        # shows no tokens: whoever asked has an eye on both.
        works = any(one.running for one in self._running)
        working = works and self._options.backend not in WORKS_ELSEWHERE
        self.say("generating", busy, self._options.slots, "slots", working=working)


def _told(item: Piece | Prefill) -> Tokens:
    if isinstance(item, Piece):
        return Tokens(
            text=item.text, tokens=item.tokens, count=item.count, logprobs=list(item.logprobs)
        )
    what: Literal["waiting", "reading"] = "waiting" if item.waits else "reading"
    return Tokens(count=0, stage=Stage(what=what, done=item.done, total=item.total))


def _generated(model: Model, outcome: Outcome, load_ms: float) -> Generated:
    seconds = outcome.decode_ms / 1000
    return Generated(
        finish_reason=outcome.finish_reason,
        model=model.id,
        model_name=model.loaded.name,
        device=model.backend.device,
        backend=model.backend.name,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        prefill_ms=outcome.prefill_ms,
        decode_ms=outcome.decode_ms,
        tokens_per_s=outcome.completion_tokens / seconds if seconds > 0 else 0.0,
        cached_tokens=outcome.cached_tokens,
        drafted_tokens=outcome.drafted_tokens,
        accepted_tokens=outcome.accepted_tokens,
        load_ms=load_ms,
    )
