"""What can be done with the assets of a folder: verified, repaired, added, pinned, collected."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from actors.storage.background import what_to_read_ahead
from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue
from actors.storage.guardian import Guardian, State
from actors.storage.history import History
from actors.storage.layout import Layout
from actors.storage.lines import Line, sizes_of, versions_before
from actors.storage.manifest import Asset, Manifest, write_manifest
from actors.storage.outcomes import FellBack, StoreEvent
from actors.storage.prefetch import read_ahead
from actors.storage.sources import FileSpec, Progress
from actors.storage.store import AssetStore
from actors.storage.telling import as_checked, as_listed, in_words
from protocol.errors import (
    AssetUnavailable,
    Cancelled,
    DiskFull,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    OptionalAssetMissing,
)
from protocol.messages.storage import AssetProgress
from tests.support.sources import CountedSource, asset_of

CHUNK = 4096
DATA = random.Random(1).randbytes(20 * CHUNK)
OTHER = random.Random(2).randbytes(5 * CHUNK)
WATCH = Watch(lambda _: None, lambda: False)


class Bench:
    """A guardian whose manifest is a file."""

    def __init__(self, root: Path) -> None:
        self.root, self.events = root, list[StoreEvent]()

    def file(self, data: bytes, name: str, **more: object) -> Asset:
        place = self.root / f"{name}.origin"
        place.write_bytes(data)
        return asset_of(data, FileSpec(path=str(place)), name=name, chunk_bytes=CHUNK, **more)

    def guardian(self, *assets: Asset) -> Guardian:
        own = self.root / "own.json"
        own.write_bytes(write_manifest(Manifest(version="1", assets=assets)))
        layout = Layout(self.root / "assets")
        catalogue = Catalogue(layout, own)
        store = AssetStore(
            layout.folder, catalogue.manifest(), boot_id="boot",
            sources={"file": CountedSource()}, observe=self.events.append,
        )  # fmt: skip
        return Guardian(store, catalogue)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def guardian(bench: Bench) -> Guardian:
    """Two files, of which the first is here."""
    guardian = bench.guardian(bench.file(DATA, "one"), bench.file(OTHER, "two"))
    guardian.store.install("one")
    return guardian


def spoil(guardian: Guardian, name: str, offset: int) -> None:
    path = guardian.store.path_of(name)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def states(guardian: Guardian, *names: str) -> dict[str, State]:
    return {each.asset.name: each.state for each in guardian.verify(names, WATCH)}


def test_what_is_here_is_whole_missing_or_damaged_and_verifying_changes_nothing(
    guardian: Guardian,
) -> None:
    assert states(guardian, "one", "two") == {"one": State.WHOLE, "two": State.MISSING}
    spoil(guardian, "one", 7 * CHUNK)
    [found] = guardian.verify([], WATCH)
    assert (found.state, found.damaged_chunks, found.all_chunks) == (State.DAMAGED, (7,), 20)
    assert guardian.store.path_of("one").exists()
    assert as_checked([found]).assets[0].damaged_chunks == [7]


def test_a_repair_mends_what_is_damaged_and_fetches_what_is_missing(guardian: Guardian) -> None:
    spoil(guardian, "one", 5)
    guardian.repair(["one", "two"], WATCH)
    assert states(guardian, "one", "two") == {"one": State.WHOLE, "two": State.WHOLE}


def test_without_names_what_is_here_or_was_begun_is_meant(guardian: Guardian) -> None:
    assert [asset.name for asset in guardian.chosen([])] == ["one"]
    guardian.store.reserve(guardian.store.manifest.asset("two"))
    assert [asset.name for asset in guardian.chosen([])] == ["one", "two"]
    with pytest.raises(NotFound, match="one, two"):
        guardian.chosen(["three"])


def test_a_file_of_ones_own_is_guarded_as_any_other(guardian: Guardian, tmp_path: Path) -> None:
    mine = tmp_path / "My Model.gguf"
    mine.write_bytes(b"mine" * 1000)
    asset = guardian.add(mine, "", "MIT", "", WATCH)
    assert asset.name == "my-model"
    assert guardian.store.install("my-model").path.read_bytes() == b"mine" * 1000
    spoil(guardian, "my-model", 3)
    guardian.repair(["my-model"], WATCH)
    assert guardian.store.path_of("my-model").read_bytes() == b"mine" * 1000
    guardian.remove("my-model")
    assert not (guardian.layout.folder / asset.path).exists()
    assert [line.what for line in guardian.history("my-model")] == [
        "added", "installed", "repaired", "removed"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "kind", "reason"),
    [
        ("one", b"x", InvalidRequest, "an asset 'one' already"),
        ("Über", b"x", InvalidRequest, "cannot be a name"),
        ("mine", b"", InvalidRequest, "is empty"),
        ("mine", None, AssetUnavailable, "there is no file"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_left(
    guardian: Guardian, tmp_path: Path, name: str, data: bytes | None, kind: type[Exception],
    reason: str,
) -> None:  # fmt: skip
    mine = tmp_path / "mine.gguf"
    if data is not None:
        mine.write_bytes(data)
    with pytest.raises(kind, match=reason):
        guardian.add(mine, name, "", "", WATCH)
    assert guardian.catalogue.local().assets == ()


def cancelled_once_copying() -> Watch:
    begun: list[str] = []

    def report(progress: Progress) -> None:
        if progress.stage != "verifying":
            begun.append(progress.stage)

    return Watch(report, lambda: bool(begun))


def test_an_add_that_is_cancelled_leaves_the_earlier_file_of_the_name_as_it_was(
    guardian: Guardian, tmp_path: Path
) -> None:
    first, second = tmp_path / "mine.gguf", tmp_path / "newer" / "mine.gguf"
    second.parent.mkdir()
    first.write_bytes(b"first" * 1000)
    second.write_bytes(b"second" * 1000)
    before = guardian.add(first, "mine", "", "", WATCH)
    first.unlink()
    with pytest.raises(Cancelled):
        guardian.add(second, "mine", "", "", cancelled_once_copying())
    assert guardian.catalogue.local().assets == (before,)
    assert guardian.provide("mine", WATCH).path.read_bytes() == b"first" * 1000


def test_an_add_that_is_cancelled_leaves_nothing_in_the_list(
    guardian: Guardian, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine" * 1000)
    with pytest.raises(Cancelled):
        guardian.add(mine, "mine", "", "", cancelled_once_copying())
    assert [each.asset.name for each in guardian.listed()] == ["one", "two"]
    assert guardian.history() == guardian.history("one")


def test_an_add_whose_copy_cannot_be_put_in_place_is_undone(
    guardian: Guardian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "mine.gguf", tmp_path / "newer" / "mine.gguf"
    second.parent.mkdir()
    first.write_bytes(b"first" * 1000)
    second.write_bytes(b"second" * 1000)
    before = guardian.add(first, "mine", "", "", WATCH)
    first.unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr("actors.storage.store.publish", full)
        with pytest.raises(DiskFull):
            guardian.add(second, "mine", "", "", WATCH)
    assert guardian.catalogue.local().assets == (before,)
    assert guardian.provide("mine", WATCH).path.read_bytes() == b"first" * 1000


def test_a_newer_file_of_ones_own_takes_the_place_of_the_earlier_one_of_its_name(
    guardian: Guardian, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    first.write_bytes(b"first" * 1000)
    second.write_bytes(b"second" * 1000)
    before = guardian.store.layout.asset(guardian.add(first, "mine", "", "", WATCH))
    guardian.add(second, "mine", "", "", WATCH)
    assert guardian.provide("mine", WATCH).path.read_bytes() == b"second" * 1000
    assert not before.exists()
    assert first.exists()


def test_what_lies_where_a_file_of_ones_own_comes_is_moved_aside_and_not_lost(
    guardian: Guardian, tmp_path: Path
) -> None:
    lying = guardian.layout.folder / "models" / "mine.gguf"
    lying.write_bytes(b"somebody's")
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine" * 1000)
    asset = guardian.add(mine, "mine", "", "", WATCH)
    assert lying.read_bytes() == b"mine" * 1000
    assert guardian.layout.quarantined(asset).read_bytes() == b"somebody's"


def test_a_name_that_is_pinned_is_not_taken_by_another_file(
    guardian: Guardian, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine" * 1000)
    guardian.add(mine, "mine", "", "", WATCH)
    guardian.pin("mine")
    mine.write_bytes(b"newer" * 1000)
    with pytest.raises(InvalidRequest, match="noyau assets pin mine --undo"):
        guardian.add(mine, "mine", "", "", WATCH)
    assert guardian.provide("mine", WATCH).path.read_bytes() == b"mine" * 1000


def test_only_what_was_added_can_be_removed(guardian: Guardian) -> None:
    with pytest.raises(NotFound):
        guardian.remove("one")


def test_a_pinned_file_says_so_until_it_is_let_go(guardian: Guardian) -> None:
    guardian.pin("one")
    listed = {each.asset: each for each in as_listed(guardian, lambda _: ["cpu_engine"]).assets}
    assert (listed["one"].pinned, listed["two"].pinned) == (True, False)
    assert (listed["one"].present, listed["two"].present) == (True, False)
    assert listed["one"].used_by == ["cpu_engine"]
    guardian.unpin("one")
    assert guardian.pinned() == set()
    with pytest.raises(NotFound, match="is not pinned"):
        guardian.unpin("one")


def test_collecting_removes_what_nobody_needs_and_nothing_else(
    guardian: Guardian, tmp_path: Path
) -> None:
    store, layout = guardian.store, guardian.layout
    store.path_of("one").write_bytes(b"the user's own")
    store.install("one")
    store.versions.keep(store.manifest.asset("one"))
    guardian.repair(["one"], WATCH)
    layout.wheels.mkdir()
    (layout.wheels / "x.whl").write_bytes(bytes(100_000))
    (layout.index / "0.json").write_bytes(b"{}") if layout.index.is_dir() else None
    store.reserve(store.manifest.asset("two"))
    assert guardian.collect() > 100_000
    assert states(guardian, "one") == {"one": State.WHOLE}
    assert not layout.quarantine.exists()
    assert not layout.wheels.exists()
    assert store.versions.all() == []
    assert layout.partial(store.manifest.asset("two")).exists()


def test_an_update_without_a_publisher_says_which_settings_are_missing(guardian: Guardian) -> None:
    with pytest.raises(InvalidSettings, match="repository_root"):
        guardian.update(WATCH)


def test_a_missing_file_is_replaced_by_its_fallback_and_that_is_told(bench: Bench) -> None:
    gone = bench.file(DATA, "big", fallback="small")
    Path(bench.root / "big.origin").unlink()
    guardian = bench.guardian(gone, bench.file(OTHER, "small"))
    found = guardian.store.provide("big")
    assert (found.name, found.instead_of) == ("small", "big")
    assert found.path.read_bytes() == OTHER
    [event] = [each for each in bench.events if isinstance(each, FellBack)]
    assert "small is used in place of big" in str(event)


def test_a_missing_file_without_a_fallback_is_refused_with_the_way_to_bring_it(
    bench: Bench,
) -> None:
    asset = bench.file(DATA, "big")
    (bench.root / "big.origin").unlink()
    with pytest.raises(AssetUnavailable, match="put the file at"):
        bench.guardian(asset).store.provide("big")


def test_when_the_fallback_fails_too_the_first_reason_is_told(bench: Bench) -> None:
    assets = bench.file(DATA, "big", fallback="small"), bench.file(OTHER, "small")
    for name in ("big", "small"):
        (bench.root / f"{name}.origin").unlink()
    with pytest.raises(AssetUnavailable, match=r"big could not .*Nor .* small could not") as caught:
        bench.guardian(*assets).store.provide("big")
    assert type(caught.value) is AssetUnavailable


@pytest.mark.parametrize("fallback", ["", "small"])
def test_a_missing_file_that_is_optional_is_an_error_that_says_so(
    bench: Bench, fallback: str
) -> None:
    optional = bench.file(DATA, "big", required=False, fallback=fallback)
    guardian = bench.guardian(optional, bench.file(OTHER, "small"))
    for name in ("big", "small"):
        (bench.root / f"{name}.origin").unlink()
    with pytest.raises(OptionalAssetMissing, match="big, which is optional, cannot be") as caught:
        guardian.store.provide("big")
    assert caught.value.details["asset"] == "big"
    assert caught.value.retryable
    with pytest.raises(AssetUnavailable) as caught_by_hand:
        guardian.repair(["big"], WATCH)
    assert type(caught_by_hand.value) is AssetUnavailable


def test_an_optional_file_of_which_all_that_came_was_wrong_is_missed_too(bench: Bench) -> None:
    optional = bench.file(DATA, "big", required=False)
    (bench.root / "big.origin").write_bytes(bytes(len(DATA)))
    with pytest.raises(OptionalAssetMissing):
        bench.guardian(optional).store.provide("big")


def test_a_link_that_leads_out_of_the_folder_is_not_written_through(
    bench: Bench, tmp_path: Path
) -> None:
    guardian, outside = bench.guardian(bench.file(DATA, "one")), tmp_path / "outside"
    outside.mkdir()
    guardian.layout.folder.mkdir()
    (guardian.layout.folder / "models").symlink_to(outside)
    with pytest.raises(AssetUnavailable, match="leads out of"):
        guardian.store.install("one")
    assert list(outside.iterdir()) == []


def test_a_line_of_history_that_a_crash_cut_short_is_no_line(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    line = Line(at=1, asset="x", what="installed", hash=f"sha256-{'a' * 64}", size=3)
    history.add(line)
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(b'{"at": 2, "ass')
    newer = line.model_copy(update={"hash": f"sha256-{'b' * 64}"})
    history.add(newer)
    assert history.lines() == [line, newer]
    assert versions_before(history.lines("x"), newer.hash) == ["a" * 64]
    assert sizes_of(history.lines("x")) == {"a" * 64: 3, "b" * 64: 3}
    assert history.lines("y") == []


def test_of_the_files_in_use_before_the_latest_that_fit_are_read_ahead() -> None:
    used = {"a": 3.0, "b": 2.0, "c": 1.0, "gone": 9.0}
    sizes = {"a": 40, "b": 30, "c": 10}
    assert what_to_read_ahead(used, sizes, 100) == ["a", "c"]
    assert what_to_read_ahead(used, sizes, 1000) == ["a", "b", "c"]
    assert what_to_read_ahead({}, sizes, 1000) == []


def test_reading_ahead_ends_as_soon_as_somebody_works(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(20 << 20))
    assert read_ahead(path, lambda: True) == 20 << 20
    answers = iter([True, False])
    assert read_ahead(path, lambda: next(answers)) == 8 << 20


def test_progress_in_words_says_what_people_want_to_know() -> None:
    told = AssetProgress(
        asset="tiny", stage="repairing", done_bytes=30, total_bytes=100, done_chunks=12,
        total_chunks=40, bytes_per_s=1.25e6, remaining_s=4.2,
    )  # fmt: skip
    assert in_words(told) == "repairing tiny: chunk 12 of 40, 30 %, 1.2 MB/s, 4 s left"
    plain = AssetProgress(asset="tiny", stage="downloading", done_bytes=1, total_bytes=4)
    assert in_words(plain) == "downloading tiny: 25 %"
