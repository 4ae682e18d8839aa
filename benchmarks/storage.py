"""Files that are what they claim to be: what proving, scrubbing, updating and repairing them costs.

``python -m benchmarks.storage``. Proving a file is measured against ``sha256sum`` on the same file,
in turns, both out of the page cache. An update is fetched over HTTP from a server on this machine
that counts the bytes it sends; beside it, what the whole file, fixed pieces of 32 MiB, casync and
zsync (Debian's packages, where they are installed) have to fetch for the same update.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue, Published
from actors.storage.digests import digest_of
from actors.storage.guardian import Guardian, State
from actors.storage.layout import Layout
from actors.storage.manifest import Asset, Manifest, write_manifest
from actors.storage.outcomes import Repaired, StoreEvent
from actors.storage.publisher import prepare
from actors.storage.scrub import damaged
from actors.storage.sources import FileSource, HttpSource
from actors.storage.sources.web import Web
from actors.storage.store import AssetStore
from actors.storage.verifier import fingerprint_at
from benchmarks.gguf_edits import Edit, edits
from benchmarks.gguf_model import synthetic
from benchmarks.harness import (
    Figure,
    Options,
    alternate,
    median_ratio,
    parse_arguments,
    progress,
    show_figures,
    show_table,
)
from tests.support.faulty_server import FaultyServer

MIB = 1 << 20
SIZE, QUICK_SIZE = 256 * MIB, 48 * MIB
"""Of the files that are hashed, and of the model that is updated."""
KNOWN_FILES, KNOWN_BYTES = 10, 10**9
FIXED_BYTES = 32 * MIB
FLIPS, QUICK_FLIPS = 100, 20
FLIPPED_BYTES = 8 * MIB
WATCH = Watch(lambda _: None, lambda: False)


def random_file(path: Path, size: int, seed: int) -> Path:
    """A file of random bytes."""
    drawn = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(drawn.randbytes(MIB))
    return path


def asset_of(path: Path, name: str, *, chunk_bytes: int = MIB) -> Asset:
    """An asset whose one source is a file."""
    data = path.read_bytes()
    chunks = []
    for at in range(0, len(data), chunk_bytes):
        piece = data[at : at + chunk_bytes]
        chunks.append({"offset": at, "size": len(piece), "hash": digest_of(piece, "blake3")})
    return Asset.model_validate(
        {
            "name": name, "path": f"models/{name}", "size": len(data),
            "hash": digest_of(data, "sha256"), "sources": [{"kind": "file", "path": str(path)}],
            "chunks": chunks,
        }
    )  # fmt: skip


def guardian_in(
    folder: Path, assets: Sequence[Asset], events: list[StoreEvent] | None = None
) -> Guardian:
    """A guardian of these assets, which come from files."""
    manifest = Manifest(version="1", assets=tuple(assets))
    own = folder / "own.json"
    folder.mkdir(parents=True, exist_ok=True)
    own.write_bytes(write_manifest(manifest))
    store = AssetStore(
        folder / "assets", manifest, boot_id="benchmark", sources={"file": FileSource()},
        observe=(events if events is not None else []).append,
    )  # fmt: skip
    return Guardian(store, Catalogue(Layout(folder / "assets"), own))


def timed(work: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    """Work in this process or in others, as a contestant; its seconds."""

    async def run() -> float:
        began = time.perf_counter()
        await asyncio.to_thread(work)
        return time.perf_counter() - began

    return run


def sha256sum(*paths: Path) -> Callable[[], object]:
    """The peer: coreutils."""
    return lambda: subprocess.run(["sha256sum", *map(str, paths)], check=True, capture_output=True)


# --- proving --------------------------------------------------------------------------------


async def prove(folder: Path, size: int, options: Options) -> dict[str, Figure]:
    """Whole hashes of one and of two files, and the scrub."""
    took = await alternate(_ways_to_prove(folder, size), options)
    show_table(
        ["proving", "seconds, median", "GB/s"],
        [
            [name, f"{statistics.median(each):.3f}",
             f"{(2 if 'two' in name else 1) * size / statistics.median(each) / 1e9:.2f}"]
            for name, each in took.items()
        ],
    )  # fmt: skip

    def ratio(peer: str, ours: str, reach: str | None = None) -> Figure:
        return Figure(median_ratio(took[peer], took[ours]), "times", reach)

    return {
        "verify_one_vs_sha256sum": ratio("sha256sum, one", "verify, one", ">= 0.95"),
        "verify_one_vs_openssl": ratio("openssl, one", "verify, one"),
        "verify_two_vs_sha256sum": ratio("sha256sum, two", "verify, two", ">= 1.7"),
        "scrub_vs_sha256sum": ratio("sha256sum, one", "scrub, out of the cache", ">= 4"),
        "scrub_disk_vs_sha256sum": ratio("sha256sum, one", "scrub, off the disk"),
    }


def _ways_to_prove(folder: Path, size: int) -> dict[str, Callable[[], Awaitable[float]]]:
    """Ours and its peers, over the same two files."""
    files = [random_file(folder / f"{name}.bin", size, seed) for seed, name in enumerate("ab")]
    assets = [asset_of(path, path.stem) for path in files]
    guardian = guardian_in(folder / "proving", assets)
    for asset in assets:
        guardian.store.install(asset.name)
    paths = [guardian.store.path_of(asset.name) for asset in assets]

    def verify(*names: str) -> Callable[[], object]:
        def work() -> None:
            assert all(each.state is State.WHOLE for each in guardian.verify(names, WATCH))

        return work

    def scrub(*, direct: bool) -> Callable[[], object]:
        def work() -> None:
            assert damaged(paths[0], assets[0].chunks, lambda: False, direct=direct) == []

        return work

    def openssl() -> None:
        command = ["openssl", "dgst", "-sha256", str(paths[0])]
        subprocess.run(command, check=True, capture_output=True)

    return {
        "sha256sum, one": timed(sha256sum(paths[0])),
        "openssl, one": timed(openssl),
        "verify, one": timed(verify("a")),
        "scrub, out of the cache": timed(scrub(direct=False)),
        "scrub, off the disk": timed(scrub(direct=True)),
        "sha256sum, two": timed(sha256sum(*paths)),
        "verify, two": timed(verify("a", "b")),
    }


async def warm_start(folder: Path, options: Options) -> dict[str, Figure]:
    """A start with 10 GB of files that were proved since boot: every one is located."""
    assets = [
        Asset(name=f"known-{number}", path=f"models/known-{number}", size=KNOWN_BYTES,
              hash=f"sha256-{number:064x}")
        for number in range(KNOWN_FILES)
    ]  # fmt: skip
    guardian = guardian_in(folder / "known", assets)
    for asset in assets:
        path = guardian.store.path_of(asset.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(KNOWN_BYTES)
        found = fingerprint_at(path)
        assert found is not None
        guardian.store.remember(asset, found, [])

    def start() -> None:
        again = guardian_in(folder / "known", assets)
        again.store.sweep()
        assert all(again.store.locate(asset.name) is not None for asset in assets)

    took = await alternate({"start": timed(start)}, options)
    return {"warm_start_ms": Figure(statistics.median(took["start"]) * 1000, "ms", "< 100")}


# --- updating -------------------------------------------------------------------------------


def published(old: Path, new: Path, folder: Path) -> tuple[Path, bytes, bytes]:
    """Both versions published, one after the other; the folder, and both manifests."""
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    texts: list[bytes] = []
    for version in (old, new):
        (source / "model.gguf").unlink(missing_ok=True)
        os.link(version, source / "model.gguf")
        prepare(source, out, texts.append, WATCH)
    return out, texts[0], texts[1]


def fetched_by_noyau(edit: Edit, folder: Path) -> tuple[int, int]:
    """Bytes of chunks that an update brings over HTTP, and of the new manifest."""
    out, first, second = published(edit.old, edit.new, folder)
    with FaultyServer(out) as server:
        own = folder / "own.json"
        own.write_bytes(write_manifest(Manifest(version="0", assets=())))
        catalogue = Catalogue(Layout(folder / "assets"), own)
        store = AssetStore(
            folder / "assets", catalogue.manifest(), boot_id="benchmark",
            sources={"http": HttpSource(Web), "file": FileSource()},
        )  # fmt: skip
        guardian = Guardian(store, catalogue)
        for text in (first, second):
            before = sum(asked.sent for asked in server.asked)
            offer = guardian.updates.offer(Published(text, server.url("")))
            guardian.updates.fetch(offer, WATCH)
            guardian.updates.apply(offer)
        sent = sum(asked.sent for asked in server.asked) - before
        path = store.path_of("model")
        assert path.read_bytes() == edit.new.read_bytes()
    return sent, len(second)


def fetched_fixed(edit: Edit) -> int:
    """Bytes of the pieces of 32 MiB that the old file does not have at the same place."""
    old, new, needed = edit.old.read_bytes(), edit.new.read_bytes(), 0
    for at in range(0, len(new), FIXED_BYTES):
        piece = new[at : at + FIXED_BYTES]
        needed += 0 if old[at : at + FIXED_BYTES] == piece else len(piece)
    return needed


def fetched_by_casync(edit: Edit, folder: Path) -> int | None:
    """Bytes of casync's chunks (packed, as it sends them) that the old file's lack, and its
    index."""
    if shutil.which("casync") is None:
        return None
    folder.mkdir(parents=True)
    for name, path in (("old", edit.old), ("new", edit.new)):
        subprocess.run(
            ["casync", "make", f"--store={folder}/store", f"{folder}/{name}.caibx", str(path)],
            check=True, capture_output=True,
        )  # fmt: skip
        if name == "old":
            before = set((folder / "store").rglob("*.cacnk"))
    new = set((folder / "store").rglob("*.cacnk")) - before
    return sum(path.stat().st_size for path in new) + (folder / "new.caibx").stat().st_size


def fetched_by_zsync(edit: Edit, folder: Path) -> int | None:
    """Bytes that zsync has a server send for it, its control file included."""
    if shutil.which("zsync") is None:
        return None
    folder.mkdir(parents=True)
    os.link(edit.new, folder / "new.gguf")
    with FaultyServer(folder) as server:
        subprocess.run(
            ["zsyncmake", "-u", server.url("new.gguf"), "-o", f"{folder}/new.zsync",
             f"{folder}/new.gguf"],
            check=True, capture_output=True,
        )  # fmt: skip
        done = subprocess.run(
            ["zsync", "-q", "-i", str(edit.old), "-o", f"{folder}/made.gguf",
             server.url("new.zsync")],
            capture_output=True, text=True, check=False, cwd=folder, timeout=120,
        )  # fmt: skip
        if done.returncode != 0 or (folder / "made.gguf").read_bytes() != edit.new.read_bytes():
            progress(f"zsync did not do it: {done.stderr.strip()[:200]}")
            return None
        return sum(asked.sent for asked in server.asked)


def update(folder: Path, size: int) -> dict[str, Figure]:
    """Each edit of a model, fetched in each way."""
    figures: dict[str, Figure] = {}
    rows = []
    folder.mkdir()
    for name, edit in edits(folder, synthetic(size)).items():
        progress(f"update: {name}")
        key = name.replace(" ", "_")
        work = folder / key
        ours, index = fetched_by_noyau(edit, work / "noyau")
        needed = edit.changed_bytes + index
        figures[f"delta_bytes_vs_changed_{key}"] = Figure(
            (ours + index) / needed, "times", "<= 1.1"
        )
        others = [
            edit.new.stat().st_size, fetched_fixed(edit), fetched_by_casync(edit, work / "casync"),
            fetched_by_zsync(edit, work / "zsync"),
        ]  # fmt: skip
        rows.append([name, *(_mb(each) for each in (edit.changed_bytes, index, ours, *others))])
        shutil.rmtree(work)
    show_table(
        [
            "fetched for an update, MB",
            "changed",
            "index",
            "noyau",
            "whole",
            "fixed 32 MiB",
            "casync",
            "zsync",
        ],
        rows,
    )
    return figures


def _mb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.3f}"


# --- repairing ------------------------------------------------------------------------------


def flip(folder: Path, flips: int) -> dict[str, Figure]:
    """One bit at a time: found by the next whole check, repaired with one chunk."""
    origin = random_file(folder / "flipped.bin", FLIPPED_BYTES, 3)
    asset = asset_of(origin, "flipped", chunk_bytes=256 << 10)
    events: list[StoreEvent] = []
    guardian = guardian_in(folder / "flips", [asset], events)
    path = guardian.store.install("flipped").path
    right, found, one_chunk = origin.read_bytes(), 0, 0
    drawn = random.Random(4)
    for _ in range(flips):
        at, bit = drawn.randrange(len(right)), 1 << drawn.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([right[at] ^ bit]))
        found += guardian.verify(["flipped"], WATCH)[0].state is State.DAMAGED
        guardian.repair(["flipped"], WATCH)
        last = events[-1]
        one_chunk += isinstance(last, Repaired) and last.fetched_bytes == 256 << 10
        assert path.read_bytes() == right
    return {
        "flip_found_percent": Figure(100 * found / flips, "%", ">= 100"),
        "flip_repaired_by_one_chunk_percent": Figure(100 * one_chunk / flips, "%", ">= 100"),
    }


async def measure(options: Options) -> dict[str, Figure]:
    """All of it."""
    size = QUICK_SIZE if options.quick else SIZE
    folder = Path(tempfile.mkdtemp(prefix="noyau-storage-"))
    try:
        figures = await prove(folder, size, options)
        figures |= await warm_start(folder, options)
        figures |= flip(folder, QUICK_FLIPS if options.quick else FLIPS)
        figures |= update(folder / "updates", size)
    finally:
        shutil.rmtree(folder)
    return figures


def main() -> None:
    """Run it."""
    options = parse_arguments(__doc__, runs=5, quick_runs=2)
    show_figures("storage", asyncio.run(measure(options)))


if __name__ == "__main__":
    main()
