"""What nobody puts into an asset folder on purpose, and what several do at once."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.storage.guardian import Guardian, State
from actors.storage.manifest import Manifest, read_manifest, write_manifest
from actors.storage.outcomes import Quarantined, Repaired
from actors.storage.publisher import check_apart, prepare
from actors.storage.publishing import clear_way, disk_errors, read_own
from protocol.errors import AssetUnavailable, InvalidSettings, NotFound, Overloaded
from tests.support.sources import asset_of
from tests.unit.actors.storage.test_storage_guardian import CHUNK, DATA, OTHER, WATCH, Bench
from tests.unit.actors.storage.test_storage_updating import NEW, OLD, World


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def loop(path: Path) -> None:
    path.symlink_to(path)


Oddity = Callable[[Path], None]
ODDITIES = pytest.mark.parametrize("oddity", [fifo, folder, loop])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@ODDITIES
@pytest.mark.parametrize(
    "name", ["applied.json", "local.json", "pins.json", "verified.json", "history.jsonl"]
)
def test_what_lies_at_the_path_of_one_of_the_stores_files_and_is_none_stops_nobody(
    bench: Bench, name: str, oddity: Oddity
) -> None:
    root = bench.root / "assets"
    root.mkdir()
    oddity(root / name)
    guardian = bench.guardian(bench.file(DATA, "one"))
    assert guardian.store.install("one").path.read_bytes() == DATA
    guardian.pin("one")
    assert guardian.pinned() == {"one"}
    assert [line.what for line in guardian.history("one")] == ["installed", "pinned"]


@ODDITIES
def test_nor_does_one_at_the_path_of_a_file_under_way_or_of_an_index(
    bench: Bench, oddity: Oddity
) -> None:
    asset = bench.file(DATA, "one")
    guardian = bench.guardian(asset)
    for path in (guardian.layout.partial(asset), guardian.layout.index / f"{asset.sha256}.json"):
        path.parent.mkdir(parents=True)
        oddity(path)
    assert guardian.store.install("one").path.read_bytes() == DATA


@ODDITIES
def test_one_at_an_assets_path_is_damage_and_nobody_waits_for_it(
    bench: Bench, oddity: Oddity
) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"))
    path = guardian.store.path_of("one")
    path.parent.mkdir(parents=True)
    oddity(path)
    [found] = guardian.verify(["one"], WATCH)
    assert (found.state, found.reason) == (State.DAMAGED, "it is no file")
    guardian.repair(["one"], WATCH)
    assert path.read_bytes() == DATA


@ODDITIES
def test_one_at_an_assets_path_hides_no_other_asset(bench: Bench, oddity: Oddity) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"), bench.file(OTHER, "two"))
    guardian.store.install("two")
    path = guardian.store.path_of("one")
    path.parent.mkdir(exist_ok=True)
    oddity(path)
    assert [each.state for each in guardian.listed()] == [State.MISSING, State.UNREAD]
    assert [each.state for each in guardian.verify([], WATCH)] == [State.DAMAGED, State.WHOLE]
    assert [each.state for each in guardian.repair([], WATCH)] == [State.WHOLE, State.WHOLE]
    told = [str(event) for event in bench.events if isinstance(event, Quarantined)]
    assert ["it is no file" in words for words in told] == [True]


def file(path: Path) -> None:
    path.write_bytes(b"a file")


@pytest.mark.parametrize("oddity", [file, loop])
def test_what_lies_at_the_path_of_a_folder_of_assets_and_is_none_is_told_with_what_to_do(
    bench: Bench, oddity: Oddity
) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"))
    place = guardian.layout.folder / "models"
    place.parent.mkdir()
    oddity(place)
    assert [each.state for each in guardian.listed()] == [State.MISSING]
    assert [each.state for each in guardian.verify(["one"], WATCH)] == [State.MISSING]
    assert guardian.verify([], WATCH) == guardian.repair([], WATCH) == []
    with pytest.raises(AssetUnavailable, match=r"no folder.* move it away") as caught:
        guardian.repair(["one"], WATCH)
    assert str(place) in caught.value.message
    place.unlink()
    assert guardian.repair(["one"], WATCH)[0].path.read_bytes() == DATA


@pytest.mark.parametrize("oddity", [file, loop])
def test_what_lies_at_the_path_of_the_asset_folder_and_is_none_is_told_with_what_to_do(
    bench: Bench, oddity: Oddity
) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"))
    mine = bench.root / "mine.bin"
    mine.write_bytes(OTHER)
    oddity(guardian.layout.folder)
    assert [each.state for each in guardian.listed()] == [State.MISSING]
    assert guardian.verify([], WATCH) == []
    assert guardian.history() == []
    changing: list[Callable[[], object]] = [
        lambda: guardian.add(mine, "mine", "", "", WATCH),
        lambda: guardian.pin("one"),
        lambda: guardian.rollback("one"),
        lambda: guardian.repair(["one"], WATCH),
        lambda: guardian.update(WATCH),
        guardian.collect,
    ]
    for change in changing:
        with pytest.raises(AssetUnavailable, match=r"no folder.* move it away"):
            change()


@ODDITIES
def test_one_in_place_of_a_version_that_waits_is_none_and_nobody_waits_for_it(
    bench: Bench, oddity: Oddity
) -> None:
    asset = bench.file(DATA, "one")
    guardian = bench.guardian(asset)
    guardian.layout.versions.mkdir(parents=True)
    oddity(guardian.layout.version(asset.sha256))
    assert guardian.store.install("one").path.read_bytes() == DATA


def forbid(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As where it is another user's: root, which tests may run as, could read all the same."""

    def read(asked: Path) -> bytes | None:
        if asked == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_own(asked)

    monkeypatch.setattr("actors.storage.catalogue.read_own", read)


@pytest.mark.parametrize("name", ["applied.json", "local.json", "pins.json"])
def test_a_list_that_may_not_be_read_is_told_and_what_is_right_is_in_force(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"))
    guardian.store.install("one")
    path = guardian.layout.folder / name
    forbid(monkeypatch, path)
    [problem] = guardian.reload()
    assert problem.startswith(f"{path} cannot be read: Permission denied")
    assert "the user that runs noyau" in problem
    assert guardian.problems() == [problem]
    assert [each.asset.name for each in guardian.listed()] == ["one"]
    with pytest.raises(InvalidSettings, match="Permission denied"):
        guardian.catalogue.manifest()


def test_nothing_is_removed_while_a_list_cannot_be_read_that_may_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    world.update("2", world.file(NEW))
    guardian, kept = Guardian(world.store, world.catalogue), world.kept()
    forbid(monkeypatch, guardian.layout.pins)
    with pytest.raises(InvalidSettings, match="Permission denied"):
        guardian.collect()
    assert world.kept() == kept != []


def test_a_folder_of_another_users_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AssetUnavailable, match="the user that runs noyau"), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "a"))


def test_a_small_file_that_is_enormous_is_none(tmp_path: Path) -> None:
    path = tmp_path / "verified.json"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    assert read_own(path) is None
    clear_way(path)
    assert path.exists()


def test_a_hash_in_the_history_that_the_disk_has_spoiled_removes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    world.update("2", world.file(NEW))
    path = world.store.layout.history
    path.write_bytes(path.read_bytes().replace(b"sha256-", b"sha256,", 1))
    world.updates.proved("tiny", world.store.manifest.asset("tiny").sha256)
    assert world.store.layout.versions.is_dir()
    assert world.bytes_of() == NEW
    with pytest.raises(ValueError, match="is no sha256"):
        world.store.layout.version("..")


def test_two_assets_with_the_same_bytes_are_updated_both(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = [world.file(OLD, name=name, path=f"{name}/tokenizer.json") for name in ("a", "b")]
    world.update("1", *first)
    second = [world.file(NEW, name=name, path=f"{name}/tokenizer.json") for name in ("a", "b")]
    world.update("2", *second)
    before = world.source.bytes
    assert (world.bytes_of("a"), world.bytes_of("b")) == (NEW, NEW)
    assert world.source.bytes == before
    world.updates.proved("a", second[0].sha256)
    assert world.updates.rollback("b").hash == first[1].hash


def test_files_that_change_places_keep_their_versions(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD, name="a", path="1"), world.file(NEW, name="b", path="2"))
    world.update("2", world.file(OLD, name="a", path="2"), world.file(NEW, name="b", path="1"))
    before = world.source.bytes
    assert (world.bytes_of("a"), world.bytes_of("b")) == (OLD, NEW)
    assert world.source.bytes == before


def test_the_same_update_by_two_loses_no_version(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    old = world.store.manifest.asset("tiny")
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)
    world.updates.apply(offer)
    world.updates.apply(offer)
    assert world.bytes_of() == NEW
    assert world.updates.rollback("tiny").hash == old.hash
    assert world.bytes_of() == OLD


def test_a_version_that_was_brought_by_hand_can_be_gone_back_to(tmp_path: Path) -> None:
    world = World(tmp_path)
    old = world.file(OLD)
    world.own.write_bytes(write_manifest(Manifest(version="0", assets=(old,))))
    world.begin()
    path = world.store.path_of("tiny")
    path.parent.mkdir(parents=True)
    path.write_bytes(OLD)
    world.update("2", world.file(NEW))
    world.updates.rollback("tiny")
    assert world.bytes_of() == OLD


def test_an_asset_with_a_fallback_can_be_pinned_and_gone_back_from(tmp_path: Path) -> None:
    world = World(tmp_path)
    small = world.file(b"small" * 100, name="small")
    world.update("1", world.file(OLD, fallback="small"), small)
    world.update("2", world.file(NEW, fallback="small"), small)
    assert world.updates.rollback("tiny").fallback == "small"
    assert world.catalogue.manifest().asset("tiny").fallback == "small"


def test_what_a_manifest_in_force_names_must_be_in_one_of_the_lists(bench: Bench) -> None:
    lonely = bench.file(DATA, "one", fallback="nowhere")
    text = write_manifest(Manifest.layer([lonely]))
    with pytest.raises(InvalidSettings, match="'nowhere', not among"):
        read_manifest(text, where="it")
    assert read_manifest(text, where="it", layer=True).assets == (lonely,)


def test_a_long_chain_of_fallbacks_is_read_in_no_time() -> None:
    chain = [
        asset_of(b"x", name=f"a{number}", fallback=f"a{number + 1}" if number < 19_999 else "")
        for number in range(20_000)
    ]
    Manifest(version="1", assets=tuple(chain))


def test_of_many_pins_at_once_none_is_lost(bench: Bench) -> None:
    names = [f"a{number}" for number in range(8)]
    guardian = bench.guardian(*(bench.file(name.encode(), name) for name in names))
    threads = [threading.Thread(target=guardian.pin, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guardian.pinned() == set(names)


def test_a_file_that_was_added_from_the_folder_itself_stays_there(bench: Bench) -> None:
    guardian = bench.guardian()
    mine = guardian.layout.folder / "models" / "mine.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(OTHER)
    guardian.add(mine, "mine", "", "", WATCH)
    guardian.pin("mine")
    guardian.remove("mine")
    assert mine.read_bytes() == OTHER
    assert guardian.pinned() == set()


def test_collecting_waits_for_no_update_and_takes_nothing_from_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)
    waiting = {change.after.sha256 for change in offer.changes}
    guardian = Guardian(world.store, world.catalogue)
    guardian.updates.tidy(waiting)
    assert set(world.kept()) == waiting

    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with guardian.updating(WATCH):
            held.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    with pytest.raises(Overloaded, match="an update is under way"):
        guardian.collect()
    leave.set()
    holder.join()
    guardian.collect()
    assert world.kept() == []


def test_a_download_for_an_update_outlives_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    newer = world.file(NEW)
    begun = world.store.layout.partial(newer)
    begun.write_bytes(NEW[: 10 * CHUNK])
    world.store.sweep()
    assert begun.exists()
    os.utime(begun, (1, 1))
    world.store.sweep()
    assert not begun.exists()


def test_what_the_disk_has_spoiled_is_mended_though_memory_still_has_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardian = bench.guardian(bench.file(DATA, "one"))
    guardian.store.install("one")
    asked: list[bool] = []

    def as_the_disk_says(*_: object, direct: bool = True) -> list[int]:
        asked.append(direct)
        return [3] if direct else []

    monkeypatch.setattr("actors.storage.guardian.damaged", as_the_disk_says)
    guardian.mend("one", WATCH)
    assert asked == [True]
    event = bench.events[-1]
    assert isinstance(event, Repaired)
    assert "memory still had what the disk had spoiled" in str(event)
    assert guardian.store.path_of("one").read_bytes() == DATA


def test_the_published_folder_and_the_keys_are_not_published(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for out, keys in ((source / "site", tmp_path / "k"), (tmp_path / "site", source / "keys")):
        with pytest.raises(InvalidSettings, match="all of which is published"):
            check_apart(source, out, keys)
    check_apart(source, tmp_path / "site", tmp_path / "keys")


def test_what_is_published_again_without_a_change_changes_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "models").mkdir(parents=True)
    (source / "models" / "a.bin").write_bytes(DATA)
    (source / ".hidden").write_bytes(b"x")
    texts: list[bytes] = []
    first = prepare(source, out, texts.append, WATCH)
    second = prepare(source, out, texts.append, WATCH)
    assert (first.changed, second.changed) == (["a"], [])
    assert (first.version, second.version) == ("1", "2")
    [asset] = read_manifest(texts[1], where="it", base="https://x.example/").assets
    assert asset.sources[0].where().startswith("https://x.example/files/")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version = ", "is not valid TOML"),
        ("colour = 1", "colour"),
        ('[files."nowhere"]\nname = "x"', "describes what is not in the folder: nowhere"),
    ],
)
def test_a_wrong_description_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.bin").write_bytes(b"x")
    (tmp_path / "source" / "publish.toml").write_text(text)
    with pytest.raises(InvalidSettings, match=reason):
        prepare(tmp_path / "source", tmp_path / "out", lambda _: None, WATCH)


def test_without_a_history_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.update("1", world.file(OLD))
    with pytest.raises(NotFound, match="no earlier version"):
        world.updates.rollback("tiny")
