"""The asset store: whole and right, or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from actors.storage.digests import digest_of
from actors.storage.manifest import Asset, Manifest
from actors.storage.outcomes import (
    Installed,
    ProofNotKept,
    Quarantined,
    SourceFailed,
    StoreEvent,
)
from actors.storage.publishing import try_lock
from actors.storage.sources import Order, Progress, PypiSpec
from actors.storage.store import AssetStore
from actors.storage.verification import TIME_TO_LIVE_S
from protocol.errors import (
    AssetCorrupt,
    AssetUnavailable,
    Cancelled,
    DiskFull,
    InvalidSettings,
    MissingDependency,
    NotFound,
)

GOOD = b"the right bytes" * 1000
WRONG = b"the wrong bytes" * 1000
SPEC = PypiSpec(requirement="tiny==1.0", member="m", wheel_size=100)
ASSET = Asset(
    name="tiny",
    path="models/tiny.bin",
    size=len(GOOD),
    hash=digest_of(GOOD, "sha256"),
    sources=(SPEC,),
)
MANIFEST = Manifest(version="1", default_model="tiny", assets=(ASSET,))
TWO_SOURCES = Manifest(
    version="1", default_model="tiny", assets=(ASSET.model_copy(update={"sources": (SPEC, SPEC)}),)
)

Act = Callable[[Order], Iterable[bytes]]


class FakeSource:
    """Gives what it is told to, one act for each reading; the last act is repeated."""

    ranged = False
    retries_itself = True

    def __init__(self, *acts: Act) -> None:
        self.acts = acts
        self.fetches = 0

    def space_needed(self, spec: PypiSpec, size: int) -> int:
        return spec.wheel_size

    def read(
        self, spec: PypiSpec, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        assert (offset, size) == (0, order.size)
        act = self.acts[min(self.fetches, len(self.acts) - 1)]
        self.fetches += 1
        yield from act(order)


class Bench(NamedTuple):
    store: AssetStore
    source: FakeSource
    events: list[StoreEvent]
    folder: Path

    @property
    def final(self) -> Path:
        return self.folder / "models" / "tiny.bin"


def deliver(_: Order) -> Iterable[bytes]:
    return [GOOD[:100], GOOD[100:]]


def fail_with(error: Exception) -> Act:
    def act(_: Order) -> Iterable[bytes]:
        raise error

    return act


def bench(
    folder: Path,
    *acts: Act,
    boot_id: str = "boot 1",
    manifest: Manifest = MANIFEST,
    wall: Callable[[], float] = time.time,
) -> Bench:
    source, events = FakeSource(*(acts or (deliver,))), list[StoreEvent]()
    store = AssetStore(
        folder, manifest, boot_id=boot_id, sources={"pypi": source}, observe=events.append,
        wall=wall,
    )  # fmt: skip
    return Bench(store, source, events, folder)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def staged(folder: Path) -> list[Path]:
    return list((folder / "staging").glob("*"))


def test_an_install_publishes_the_file_and_tells_where_it_is(tmp_path: Path) -> None:
    it = bench(tmp_path / "not there yet")
    located = it.store.install("default")
    assert located.path == it.final == it.store.path_of("tiny")
    assert located.path.read_bytes() == GOOD
    assert (located.name, located.sha256, located.size) == ("tiny", ASSET.sha256, len(GOOD))
    assert staged(it.folder) == []
    assert it.events == [Installed("tiny", len(GOOD), len(GOOD), ("the wheel of tiny==1.0",))]
    assert [(line.what, line.hash) for line in it.store.history.lines("tiny")] == [
        ("installed", ASSET.hash)
    ]


def test_a_second_install_fetches_nothing(tmp_path: Path) -> None:
    it = bench(tmp_path)
    assert it.store.install("tiny") == it.store.install("tiny")
    assert it.source.fetches == 1


def test_nothing_is_at_the_final_path_before_all_of_it_is_proved(tmp_path: Path) -> None:
    def look(_: Order) -> Iterable[bytes]:
        yield GOOD[:-1]
        assert not it.final.exists()
        yield GOOD[-1:]

    it = bench(tmp_path, look)
    it.store.install("tiny")
    assert it.store.present("tiny")


def test_a_missing_asset_is_not_located_and_leaves_no_folder_behind(tmp_path: Path) -> None:
    it = bench(tmp_path / "assets")
    assert it.store.locate("tiny") is None
    assert not it.store.present("tiny")
    assert not it.folder.exists()


def test_an_unknown_name_is_not_found(tmp_path: Path) -> None:
    store = bench(tmp_path).store
    for method in (store.locate, store.install, store.path_of, store.present):
        with pytest.raises(NotFound):
            method("gpt-9")


def test_a_file_that_a_user_dropped_is_accepted_after_hashing(tmp_path: Path) -> None:
    it, progress = bench(tmp_path), list[Progress]()
    put(it.final, GOOD)
    located = it.store.install("tiny", progress.append)
    assert located.path == it.final
    assert it.source.fetches == 0
    assert progress[-1] == Progress("tiny", "verifying", len(GOOD), len(GOOD))


def test_a_file_with_a_wrong_hash_is_moved_aside_told_and_replaced(tmp_path: Path) -> None:
    it = bench(tmp_path)
    put(it.final, WRONG)
    assert it.store.locate("tiny") is None
    [event] = it.events
    assert isinstance(event, Quarantined)
    assert event.moved_to.read_bytes() == WRONG
    assert ASSET.sha256 in event.reason
    assert it.store.install("tiny").path.read_bytes() == GOOD


def test_a_file_of_another_size_is_moved_aside_without_reading_it(tmp_path: Path) -> None:
    it, progress = bench(tmp_path), list[Progress]()
    put(it.final, GOOD[:-1])
    assert it.store.locate("tiny", report=progress.append) is None
    assert isinstance(it.events[0], Quarantined)
    assert progress == []


def test_a_folder_at_the_assets_path_is_moved_aside_too(tmp_path: Path) -> None:
    it = bench(tmp_path)
    for _ in range(2):
        put(it.final / "inside", b"x")
        assert it.store.locate("tiny") is None
    assert it.store.install("tiny").path.is_file()


def test_only_the_latest_wrong_file_of_an_asset_is_kept(tmp_path: Path) -> None:
    it = bench(tmp_path)
    for content in (WRONG, b"other"):
        put(it.final, content)
        assert it.store.locate("tiny") is None
    [kept] = (it.folder / "quarantine").iterdir()
    assert kept.read_bytes() == b"other"


def test_a_right_file_that_replaces_a_wrong_one_while_it_is_hashed_is_found(tmp_path: Path) -> None:
    it = bench(tmp_path)
    put(it.final, WRONG)
    put(tmp_path / "right", GOOD)

    def replace_it(_: Progress) -> None:
        if (tmp_path / "right").exists():
            (tmp_path / "right").replace(it.final)

    assert it.store.locate("tiny", report=replace_it) is not None
    assert it.events == []


def test_a_file_that_is_still_being_written_is_neither_located_nor_moved(tmp_path: Path) -> None:
    it = bench(tmp_path)
    put(it.final, WRONG)

    def replace_it_again(_: Progress) -> None:
        put(tmp_path / "next", WRONG)
        (tmp_path / "next").replace(it.final)

    assert it.store.locate("tiny", report=replace_it_again) is None
    assert it.final.exists()
    assert it.events == []


def test_a_proved_file_is_not_hashed_again_in_the_same_boot(tmp_path: Path) -> None:
    bench(tmp_path).store.install("tiny")
    progress = list[Progress]()
    assert bench(tmp_path).store.locate("tiny", report=progress.append) is not None
    assert progress == []


@pytest.mark.parametrize("how", ["new boot", "distrust", "broken cache", "no cache"])
def test_a_flipped_bit_is_found_once_the_cache_does_not_count(tmp_path: Path, how: str) -> None:
    it = bench(tmp_path)
    it.store.install("tiny")
    with it.final.open("r+b") as file:
        file.write(bytes([GOOD[0] ^ 1]))
    if how == "broken cache":
        (tmp_path / "verified.json").write_text('{"boot_id": "boot 1", "proo')
    if how == "no cache":
        (tmp_path / "verified.json").unlink()
    again = bench(tmp_path, boot_id="boot 2" if how == "new boot" else "boot 1")
    assert again.store.locate("tiny", trust_cache=how != "distrust") is None
    assert isinstance(again.events[0], Quarantined)


@pytest.mark.parametrize("later_s", [TIME_TO_LIVE_S, -1.0])
def test_a_proof_that_is_too_old_or_of_a_time_to_come_counts_no_more(
    tmp_path: Path, later_s: float
) -> None:
    now = [1000.0]
    it = bench(tmp_path, wall=lambda: now[0])
    it.store.install("tiny")
    now[0] += later_s
    progress = list[Progress]()
    assert it.store.locate("tiny", report=progress.append) is not None
    assert len(progress) == 1


@pytest.mark.parametrize("by", ["its pieces", "the whole"])
def test_a_doubted_file_is_read_before_its_next_use_and_trusted_after_it(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, reads = bench(tmp_path), list[Any]()
    it.store.install("tiny")
    if by == "the whole":
        next((tmp_path / "index").iterdir()).unlink()
    it.store.doubt("tiny")
    real = os.preadv

    def counted(*arguments: Any) -> int:
        reads.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", counted)
    progress = list[Progress]()
    for _ in range(2):
        assert it.store.locate("tiny", report=progress.append) is not None
    assert (len(progress), bool(reads)) == ((1, False) if by == "the whole" else (0, True))


def test_a_doubted_file_that_is_damaged_though_nothing_touched_it_is_found_out(
    tmp_path: Path,
) -> None:
    it = bench(tmp_path)
    it.store.install("tiny")
    before = it.final.stat()
    with it.final.open("r+b") as file:
        file.write(bytes([GOOD[0] ^ 1]))
    os.utime(it.final, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache = tmp_path / "verified.json"
    # As a disk does it: not even the change time tells.
    proofs = json.loads(cache.read_text())
    proofs["proofs"][ASSET.path]["fingerprint"]["ctime_ns"] = it.final.stat().st_ctime_ns
    cache.write_text(json.dumps(proofs))
    assert it.store.locate("tiny") is not None
    it.store.doubt("tiny")
    assert it.store.locate("tiny") is None


def test_a_broken_cache_file_is_rewritten(tmp_path: Path) -> None:
    it = bench(tmp_path)
    it.store.install("tiny")
    (tmp_path / "verified.json").write_bytes(b"\xff junk")
    progress = list[Progress]()
    for _ in range(2):
        assert it.store.locate("tiny", report=progress.append) is not None
    assert len(progress) == 1


def test_a_proof_that_cannot_be_written_is_told_and_the_file_is_good_all_the_same(
    tmp_path: Path,
) -> None:
    it = bench(tmp_path)
    put(it.final, GOOD)
    (tmp_path / "verified.json.tmp").mkdir()
    assert it.store.locate("tiny") is not None
    assert isinstance(it.events[0], ProofNotKept)


@pytest.mark.parametrize("content", [WRONG, GOOD[:-1], WRONG + b"!", b""])
def test_a_delivery_that_is_not_the_asset_is_refused_and_the_next_one_is_right(
    tmp_path: Path, content: bytes
) -> None:
    it = bench(tmp_path, lambda _: [content])
    with pytest.raises((AssetCorrupt, AssetUnavailable)):
        it.store.install("tiny")
    assert not it.final.exists()
    it.source.acts = (deliver,)
    assert it.store.install("tiny").path.read_bytes() == GOOD


def test_a_failing_source_is_told_and_the_next_one_is_asked(tmp_path: Path) -> None:
    away = AssetUnavailable("away")
    it = bench(tmp_path, fail_with(away), deliver, manifest=TWO_SOURCES)
    it.store.install("tiny")
    assert it.events[0] == SourceFailed("tiny", "pypi", away)


@pytest.mark.parametrize("kind", [AssetUnavailable, AssetCorrupt, MissingDependency])
def test_when_no_source_delivers_the_error_tells_how_to_bring_the_file_by_hand(
    tmp_path: Path, kind: type[AssetUnavailable]
) -> None:
    it = bench(tmp_path, fail_with(kind("the cause")))
    with pytest.raises(kind, match="the cause") as caught:
        it.store.install("tiny")
    assert str(it.final) in caught.value.message
    assert ASSET.sha256 in caught.value.message


def test_too_little_space_is_said_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, usage = bench(tmp_path), shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(GOOD) + 99))
    with pytest.raises(DiskFull) as caught:
        it.store.install("tiny")
    assert caught.value.details == {
        "needed_bytes": len(GOOD) + 100,
        "free_bytes": len(GOOD) + 99,
        "folder": str(tmp_path),
    }
    assert it.source.fetches == 0


def test_a_disk_that_fills_while_writing_is_disk_full_and_shows_nobody_half(tmp_path: Path) -> None:
    def fill(_: Order) -> Iterable[bytes]:
        yield GOOD[:10]
        Path("/dev/full").write_bytes(b"x")

    it = bench(tmp_path, fill)
    with pytest.raises(DiskFull, match="became full"):
        it.store.install("tiny")
    assert not it.final.exists()


def test_a_folder_that_cannot_be_made_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    with pytest.raises(AssetUnavailable, match="one has to be here: move it away"):
        bench(tmp_path / "file" / "assets").store.install("tiny")


def test_a_sweep_removes_what_no_install_can_go_on_from(tmp_path: Path) -> None:
    it = bench(tmp_path)
    put(tmp_path / "tmp" / "dead" / "half.whl", b"x")
    put(tmp_path / "staging" / "of another manifest", b"x")
    os.utime(tmp_path / "staging" / "of another manifest", (1, 1))
    put(tmp_path / "staging" / ASSET.sha256, GOOD[:100])
    it.store.sweep()
    assert staged(tmp_path) == [tmp_path / "staging" / ASSET.sha256]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_sweep_leaves_an_install_under_way_alone(tmp_path: Path) -> None:
    def sweep(order: Order) -> Iterable[bytes]:
        (order.scratch / "half.whl").touch()
        bench(tmp_path, manifest=Manifest(version="2", assets=())).store.sweep()
        assert (order.scratch / "half.whl").exists()
        return [GOOD]

    it = bench(tmp_path, sweep)
    assert it.store.install("tiny").path.read_bytes() == GOOD


def test_cancelling_while_another_install_makes_the_file_ends_the_wait(tmp_path: Path) -> None:
    it = bench(tmp_path)
    lock = it.store.layout.build_lock(ASSET)
    lock.parent.mkdir(parents=True)
    with try_lock(lock), pytest.raises(Cancelled):
        it.store.install("tiny", cancelled=lambda: True)
    assert it.source.fetches == 0


def test_cancelling_while_a_file_is_hashed_leaves_it_where_it_is(tmp_path: Path) -> None:
    it = bench(tmp_path)
    put(it.final, WRONG)
    with pytest.raises(Cancelled):
        it.store.install("tiny", cancelled=lambda: True)
    assert it.final.exists()


def test_after_a_cancelled_source_no_other_source_is_asked(tmp_path: Path) -> None:
    it = bench(tmp_path, fail_with(Cancelled("as asked")), manifest=TWO_SOURCES)
    with pytest.raises(Cancelled):
        it.store.install("tiny")
    assert it.source.fetches == 1


def test_of_two_installs_at_once_one_fetches_and_the_other_finds_it(tmp_path: Path) -> None:
    waits = threading.Event()

    def once_the_other_waits(_: Order) -> Iterable[bytes]:
        other.start()
        assert waits.wait(timeout=30)
        return [GOOD]

    first = bench(tmp_path, once_the_other_waits)
    second_source = FakeSource(deliver)
    second = AssetStore(
        tmp_path,
        MANIFEST,
        boot_id="boot 1",
        sources={"pypi": second_source},
        pause=lambda _: waits.set(),
    )
    found = []
    other = threading.Thread(target=lambda: found.append(second.install("tiny")))
    installed = first.store.install("tiny")
    other.join(timeout=30)
    assert found == [installed]
    assert (first.source.fetches, second_source.fetches) == (1, 0)


KILLED_MIDWAY = """
import sys
from pathlib import Path
from actors.storage.manifest import load_manifest
from actors.storage.store import AssetStore

class Hanging:
    ranged, retries_itself = False, True
    def space_needed(self, spec, size):
        return 0
    def read(self, spec, offset, size, order):
        yield b"half"
        print("half", flush=True)
        sys.stdin.read()

AssetStore(
    Path(sys.argv[1]), load_manifest(), boot_id="boot 1", sources={"pypi": Hanging()}
).install("default")
"""


def test_a_process_killed_midway_blocks_nobody_and_its_leftovers_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_MIDWAY, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == b"half\n"
        dying.kill()
    assert len(staged(tmp_path)) == 1
    it = bench(tmp_path)
    it.store.sweep()
    assert it.store.install("tiny").path.read_bytes() == GOOD
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_manifest_that_names_a_kind_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="pypi"):
        AssetStore(tmp_path, MANIFEST, boot_id="boot 1", sources={})
