"""Texts that wait together are embedded together, and everyone gets his own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.memory.embedder import KEPT_TEXTS, Batcher
from protocol.errors import EngineFailed, Overloaded
from tests.support.embedder import SimulatedEmbedder
from tests.support.waiting import PATIENCE_S, eventually


class HeldEmbedder(SimulatedEmbedder):
    """Waits before each batch until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        self.began.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return super().embed(texts)


def batcher(embedder: SimulatedEmbedder, most: int = 4, waiting: int = 100) -> Batcher:
    threads = ThreadPoolExecutor(1)
    return Batcher(embedder, threads, batch_texts=most, max_waiting=waiting)


async def begun(it: Batcher, embedder: HeldEmbedder, text: str) -> asyncio.Task[list[bytes]]:
    """A text that is being embedded."""
    task = asyncio.create_task(it.embed([text]))
    await eventually(lambda: embedder.began.acquire(blocking=False))
    return task


async def test_everyone_gets_the_vectors_of_his_own_texts() -> None:
    embedder = SimulatedEmbedder()
    it = batcher(embedder)
    texts = [[f"text {n}", f"other {n}"] for n in range(7)]
    found = await asyncio.gather(*(it.embed(both) for both in texts))
    assert found == [SimulatedEmbedder().embed(both) for both in texts]


async def test_what_waits_while_a_batch_is_computed_goes_together_into_the_next() -> None:
    embedder = HeldEmbedder()
    it = batcher(embedder, most=4)
    first = await begun(it, embedder, "first")
    others = [asyncio.create_task(it.embed([str(n)])) for n in range(6)]
    await asyncio.sleep(0)
    embedder.go.release(3)
    await asyncio.gather(first, *others)
    assert embedder.batches == [["first"], ["0", "1", "2", "3"], ["4", "5"]]


async def test_nobodys_text_is_not_computed() -> None:
    embedder = HeldEmbedder()
    it = batcher(embedder)
    first = await begun(it, embedder, "first")
    gone, stays = (asyncio.create_task(it.embed([text])) for text in ("gone", "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    embedder.go.release(2)
    await asyncio.gather(first, stays)
    assert embedder.batches == [["first"], ["stays"]]


async def test_too_many_waiting_texts_are_refused_with_a_time_to_come_back() -> None:
    embedder = HeldEmbedder()
    it = batcher(embedder, waiting=3)
    first = await begun(it, embedder, "first")
    waiting = asyncio.create_task(it.embed(["a", "b"]))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 texts wait") as caught:
        await it.embed(["c", "d"])
    assert caught.value.details["retry_after_s"] > 0
    embedder.go.release(2)
    await asyncio.gather(first, waiting)


async def test_a_batch_that_fails_fails_for_its_callers_and_the_next_one_works() -> None:
    it = batcher(SimulatedEmbedder())
    with pytest.raises(EngineFailed, match="told to fail"):
        await it.embed(["FAIL"])
    assert len(await it.embed(["a"])) == 1


async def test_a_model_that_raises_what_it_should_not_is_an_engine_that_failed() -> None:
    class Broken(SimulatedEmbedder):
        def embed(self, texts: Sequence[str]) -> list[bytes]:
            raise ZeroDivisionError

    with pytest.raises(EngineFailed, match="ZeroDivisionError"):
        await batcher(Broken()).embed(["a"])


async def test_a_text_that_comes_again_is_not_computed_again() -> None:
    embedder = HeldEmbedder()
    it = batcher(embedder)
    first = await begun(it, embedder, "a question")
    again = asyncio.create_task(it.embed(["a question", "another", "another"]))
    await asyncio.sleep(0)
    embedder.go.release(2)
    (one,), found = await asyncio.gather(first, again)
    assert found == [one, *SimulatedEmbedder().embed(["another", "another"])]
    assert embedder.batches == [["a question"], ["another"]]


async def test_only_the_latest_texts_are_kept() -> None:
    embedder = SimulatedEmbedder()
    it = batcher(embedder)
    await it.embed(["first"])
    for number in range(KEPT_TEXTS):
        await it.embed([str(number)])
    await it.embed(["first"])
    assert embedder.batches.count(["first"]) == 2
    assert len(it._latest) == KEPT_TEXTS
