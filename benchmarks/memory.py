"""Recalling and remembering, against the same work done bare.

``python -m benchmarks.memory``. Recalling goes through the protocol, among 10,000 memories; its
floor is the same model and the same search in this process. Searching is among 100,000 vectors,
against bare numpy; remembering is the database's own, against bare commits of the same rows with
the same durability on the same disk. The approximate index is judged by the exact one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import numpy as np

from actors.memory.conversion import converted_path
from actors.memory.embedding import MiniLM, identity_of
from actors.memory.reference import DIMENSION
from actors.memory.schema import TABLES
from actors.memory.store import Request, Store
from actors.memory.vectors import ExactIndex, UsearchIndex, VectorIndex
from actors.storage.manifest import load_manifest
from benchmarks.harness import (
    Figure,
    Options,
    System,
    alternate,
    median_ratio,
    parse_arguments,
    show_figures,
    show_table,
    without_default_actors,
)
from protocol.messages.memory import ListConversations, Recall

MEMORIES = 10_000
VECTORS = 100_000
COMMITS = 300
RECALLS = 20
SEARCHES = 20
KILLS, QUICK_KILLS = 10, 3
APPROXIMATE, QUICK_APPROXIMATE = 20_000, 5_000
FETCH_S = 600.0
ASSETS = ("all-minilm-l6-v2", "all-minilm-l6-v2-vocabulary")


def random_vectors(count: int, seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Of unit length."""
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)
    rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = drawn / np.linalg.norm(
        drawn, axis=1, keepdims=True
    )
    return rows


def filled(index: VectorIndex, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    index.add(list(range(len(rows))), rows.tobytes())


# --- recalling ------------------------------------------------------------------------------


def system() -> System:
    """Storage and memory alone."""
    return System(
        *without_default_actors(),
        "actors.storage.enabled=true",
        "actors.memory.class=actors.memory:Memory",
        'actors.memory.needs=["storage"]',
        "actors.memory.enabled=true",
        "restart.stable_s=0.05",
        "restart.max_restarts=10000",
    )


async def until_recalling(noyau: System) -> None:
    """Wait until memory has its model."""
    caller = noyau.client.caller
    async with asyncio.timeout(FETCH_S):
        while not caller.directory.entries["memory"].info.get("model"):
            await caller.wait_for_news(caller.clock.now() + 0.2)


def fill(path: Path, model: str) -> None:
    """Put memories beside the running actor, in one transaction."""
    db = apsw.Connection(str(path))
    rows = random_vectors(MEMORIES)
    with db:
        for number in range(1, MEMORIES + 1):
            db.execute(
                "INSERT INTO memories VALUES (?, ?, ?, 'benchmark', ?)",
                (number, f"id{number}", f"what was remembered as number {number}", time.time()),
            )
            db.execute(
                "INSERT INTO vectors VALUES (?, ?, ?)", (number, model, rows[number - 1].tobytes())
            )
    db.close()


async def kill_and_ask(noyau: System) -> tuple[float, float]:
    """Milliseconds from SIGKILL to the next list of conversations, and to the next recall."""
    await asyncio.sleep(0.1)
    pid = await noyau.pid("memory")
    assert pid is not None
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    # The connection may take a moment to be seen as cut; an answer of the dead one cannot come.
    await noyau.client.ask(ListConversations())
    answered = (time.perf_counter() - began) * 1000
    await noyau.client.ask(Recall(query="are you there again?", min_score=-1))
    return answered, (time.perf_counter() - began) * 1000


async def recalls(noyau: System, numbers: itertools.count[int]) -> list[float]:
    """Milliseconds of some recalls, one after the other."""
    times = []
    for _ in range(RECALLS):
        query = Recall(query=f"which one was number {next(numbers)}?", limit=10, min_score=-1)
        began = time.perf_counter()
        found = await noyau.client.ask(query)
        times.append((time.perf_counter() - began) * 1000)
        assert len(found.hits) == 10
        assert found.unsearched == 0
    return times


async def direct(model: MiniLM, index: VectorIndex, numbers: itertools.count[int]) -> list[float]:
    """The floor: the same without processes, messages and texts."""
    times = []
    for _ in range(RECALLS):
        text = f"which one was number {next(numbers)}?"
        began = time.perf_counter()
        index.search(model.embed([text])[0], 10)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def measure_recalling(options: Options) -> dict[str, list[float]]:
    """All single times of each contestant, and of the kills."""
    sources = [load_manifest().asset(name).sha256 for name in ASSETS]
    kills: list[tuple[float, float]] = []
    async with system() as noyau:
        await until_recalling(noyau)
        path = converted_path(noyau.data_folder / "models", *sources)
        model = MiniLM(path, identity_of(sources[0]), 1)
        fill(noyau.data_folder / "memory.db", model.identity)
        for _ in range(QUICK_KILLS if options.quick else KILLS):
            kills.append(await kill_and_ask(noyau))
        index = ExactIndex(DIMENSION)
        filled(index, random_vectors(MEMORIES))
        ours, theirs = itertools.count(), itertools.count(10**6)
        contestants: dict[str, Callable[[], Awaitable[list[float]]]] = {
            "recall, through noyau": lambda: recalls(noyau, ours),
            "recall, direct": lambda: direct(model, index, theirs),
        }
        rounds = await alternate(contestants, options)
    times = {name: list(itertools.chain(*found)) for name, found in rounds.items()}
    times["SIGKILL to conversations"] = [answered for answered, _ in kills]
    times["SIGKILL to recall"] = [recalled for _, recalled in kills]
    return times


# --- searching ------------------------------------------------------------------------------


async def measure_searching(options: Options) -> dict[str, list[float]]:
    """Milliseconds of single searches."""
    rows, queries = random_vectors(VECTORS), itertools.cycle(random_vectors(500, seed=2))
    index = ExactIndex(DIMENSION)
    filled(index, rows)

    async def ours() -> list[float]:
        return [timed(index.search, next(queries).tobytes(), 10) for _ in range(SEARCHES)]

    def by_numpy(query: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        np.argpartition(rows @ query, -10)

    async def bare() -> list[float]:
        return [timed(by_numpy, next(queries)) for _ in range(SEARCHES)]

    rounds = await alternate({"search": ours, "search, bare numpy": bare}, options)
    return {name: list(itertools.chain(*found)) for name, found in rounds.items()}


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - began) * 1000


def recall_at_10(count: int) -> float:
    """How many of the exact ten nearest the approximate index finds, of random vectors."""
    rows = random_vectors(count)
    exact, approximate = ExactIndex(DIMENSION), UsearchIndex(DIMENSION)
    filled(exact, rows)
    filled(approximate, rows)
    found, queries = 0, random_vectors(100, seed=3)
    for query in queries:
        right = {match.number for match in exact.search(query.tobytes(), 10)}
        found += len(right & {m.number for m in approximate.search(query.tobytes(), 10)})
    return found / (10 * len(queries))


# --- remembering ----------------------------------------------------------------------------


async def measure_remembering(options: Options, folder: Path) -> dict[str, list[float]]:
    """Durable commits per second."""
    store, bare = Store(folder / "ours.db", time.time()), apsw.Connection(str(folder / "bare.db"))
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=FULL")
    bare.execute(TABLES)
    vectors = itertools.cycle([row.tobytes() for row in random_vectors(100)])
    ours, theirs = itertools.count(), itertools.count()

    async def by_store() -> float:
        began = time.perf_counter()
        for number in itertools.islice(ours, COMMITS):
            request = Request(f"{number:032x}", b"d" * 32, 0.0)
            store.add_memory(request, f"memory {number}", "benchmark", "m", next(vectors), {})
        return COMMITS / (time.perf_counter() - began)

    async def by_hand() -> float:
        began = time.perf_counter()
        for number in itertools.islice(theirs, COMMITS):
            key, text = f"{number:032x}", f"memory {number}"
            bare.execute("BEGIN IMMEDIATE")
            bare.execute(
                "INSERT INTO memories VALUES (?, ?, ?, ?, ?)", (number, key, text, "benchmark", 0.0)
            )
            bare.execute("INSERT INTO vectors VALUES (?, ?, ?)", (number, "m", next(vectors)))
            bare.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?)",
                (key, b"d" * 32, f'{{"id": "{key}"}}', 0.0),
            )
            bare.execute("COMMIT")
        return COMMITS / (time.perf_counter() - began)

    rates = await alternate({"store": by_store, "bare commits": by_hand}, options)
    store.close()
    bare.close()
    return rates


async def measure() -> None:
    """Run the benchmark and print its figures."""
    options = parse_arguments(__doc__, runs=12, quick_runs=4)
    # Beside the data folder of a real noyau, not in a memory file system where a sync is free.
    folder = Path(tempfile.mkdtemp(prefix="nybm", dir="/var/tmp"))
    try:
        rates = await measure_remembering(options, folder)
    finally:
        shutil.rmtree(folder)
    times = await measure_searching(options)
    similar = recall_at_10(QUICK_APPROXIMATE if options.quick else APPROXIMATE)
    times |= await measure_recalling(options)
    show_table(
        ["milliseconds", "median", "worst", "times"],
        [
            [name, f"{statistics.median(t):.2f}", f"{max(t):.2f}", str(len(t))]
            for name, t in times.items()
        ],
    )
    show_table(
        ["durable memories per second", "median", "rounds"],
        [[name, f"{statistics.median(r):.0f}", str(len(r))] for name, r in rates.items()],
    )
    show_figures(
        "memory",
        {
            "recall_p50_ms": Figure(
                statistics.median(times["recall, through noyau"]), "ms", "<= 12"
            ),
            "recall_direct_p50_ms": Figure(statistics.median(times["recall, direct"]), "ms"),
            "search_p50_ms": Figure(statistics.median(times["search"]), "ms", "<= 15"),
            "search_bare_p50_ms": Figure(statistics.median(times["search, bare numpy"]), "ms"),
            "remember_per_s_durable_vs_bare": Figure(
                median_ratio(rates["store"], rates["bare commits"]), "ratio", ">= 0.7"
            ),
            "recall_at_10": Figure(similar, "ratio", ">= 0.99"),
            "killed_to_conversations_ms": Figure(
                statistics.median(times["SIGKILL to conversations"]), "ms", "<= 250"
            ),
            "killed_to_recall_ms": Figure(statistics.median(times["SIGKILL to recall"]), "ms"),
        },
    )


if __name__ == "__main__":
    asyncio.run(measure())
    sys.stdout.flush()
    # As an actor ends: the model library may hang in an orderly exit.
    os._exit(0)
