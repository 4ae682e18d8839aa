"""kill -9 of whoever installs a file, again and again: no torn file is ever to be seen, and little
is fetched twice."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from actors.storage.manifest import Manifest, write_manifest
from actors.storage.sources import FileSpec
from tests.support.sources import asset_of

ROOT = Path(__file__).parents[2]
CHUNK = 16 << 10
DATA = random.Random(11).randbytes(200 * CHUNK)

INSTALL = """
import os, signal, sys
from pathlib import Path

from actors.storage.manifest import load_manifest
from actors.storage.store import AssetStore
from tests.support.sources import CountedSource

folder, manifest, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
writes = 0

def counted(call):
    def write(*arguments, **named):
        global writes
        writes += 1
        if writes == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return write

# All by which something gets on the disk, or gets its name.
for name in (
    "pwrite", "write", "fsync", "replace", "rename", "link", "unlink", "ftruncate", "mkdir"
):
    setattr(os, name, counted(getattr(os, name)))
source = CountedSource()
store = AssetStore(folder, load_manifest(manifest), boot_id="boot", sources={"file": source})

class Told(CountedSource):
    def read(self, *arguments):
        for piece in source.read(*arguments):
            print(len(piece), flush=True)
            yield piece

store = AssetStore(folder, load_manifest(manifest), boot_id="boot", sources={"file": Told()})
store.install("tiny")
print("writes", writes, flush=True)
"""


def install(folder: Path, manifest: Path, kill_at: int) -> tuple[int, int, int]:
    """One process that installs; returns its exit code, the bytes it was given and its writes."""
    done = subprocess.run(
        [sys.executable, "-c", INSTALL, str(folder), str(manifest), str(kill_at)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    *pieces, last = done.stdout.split("\n")[:-1] or ["0"]
    if last.startswith("writes"):
        return done.returncode, sum(map(int, pieces)), int(last.split()[1])
    return done.returncode, sum(map(int, [*pieces, last])), 0


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    origin = tmp_path / "origin.bin"
    origin.write_bytes(DATA)
    asset = asset_of(DATA, FileSpec(path=str(origin)), chunk_bytes=CHUNK)
    path = tmp_path / "manifest.json"
    path.write_bytes(write_manifest(Manifest(version="1", assets=(asset,))))
    return path


def test_an_install_killed_at_every_50th_write_shows_no_torn_file_and_goes_on(
    tmp_path: Path, manifest: Path
) -> None:
    folder = tmp_path / "assets"
    final = folder / "models" / "tiny.bin"
    given, kills = 0, 0
    while True:
        code, came, _ = install(folder, manifest, 50)
        given += came
        if code == 0:
            break
        assert code == -9
        kills += 1
        assert not final.exists() or final.read_bytes() == DATA
        assert kills < 100
    assert kills >= 3
    assert final.read_bytes() == DATA
    # Each kill may cost what was under way: one piece of a source, whole, on each connection.
    assert given <= len(DATA) + kills * 4 * (1 << 20)


def test_an_install_killed_at_any_write_leaves_no_torn_file(tmp_path: Path, manifest: Path) -> None:
    _, _, writes = install(tmp_path / "once", manifest, 0)
    for kill_at in random.Random(5).sample(range(1, writes + 1), 12):
        folder = tmp_path / f"killed at {kill_at}"
        code, _, _ = install(folder, manifest, kill_at)
        assert code == -9
        final = folder / "models" / "tiny.bin"
        assert not final.exists() or final.read_bytes() == DATA
        assert install(folder, manifest, 0)[0] == 0
        assert final.read_bytes() == DATA
