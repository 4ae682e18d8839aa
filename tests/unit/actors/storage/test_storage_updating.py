"""Updates: each file is there whole at every moment, in the one version or the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue, Published
from actors.storage.changes import changes_between
from actors.storage.lines import Line, versions_to_go_back_to
from actors.storage.manifest import Asset, Manifest, write_manifest
from actors.storage.outcomes import Quarantined, StoreEvent
from actors.storage.sources import FileSpec
from actors.storage.store import AssetStore
from actors.storage.updating import Updates
from protocol.errors import AssetUnavailable, DiskFull, InvalidSettings, NotFound
from tests.support.sources import CountedSource, asset_of

CHUNK = 4096
OLD = random.Random(1).randbytes(20 * CHUNK)
NEW = OLD[: 5 * CHUNK] + random.Random(2).randbytes(CHUNK) + OLD[6 * CHUNK :]
WATCH = Watch(lambda _: None, lambda: False)


class World:
    """A publisher's folder, and an asset folder that gets its manifests."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "assets"
        self.own = root / "own.json"
        self.own.write_bytes(write_manifest(Manifest(version="0", assets=())))
        self.events: list[StoreEvent] = []
        self.begin()

    def begin(self, boot: str = "boot") -> None:
        """As a process that starts: nothing is known but what is on the disk."""
        self.source = CountedSource()
        layout = AssetStore(self.folder, Manifest(version="0", assets=()), boot_id="x").layout
        self.catalogue = Catalogue(layout, self.own)
        self.store = AssetStore(
            self.folder, self.catalogue.as_far_as_it_goes()[0], boot_id=boot,
            sources={"file": self.source}, observe=self.events.append,
        )  # fmt: skip
        self.updates = Updates(self.store, self.catalogue)

    def file(self, data: bytes, name: str = "tiny", **more: object) -> Asset:
        """A file that lies at the publisher's."""
        asset = asset_of(data, name=name, chunk_bytes=CHUNK, **more)
        place = self.root / f"{asset.sha256}.bin"
        place.write_bytes(data)
        return asset.model_copy(update={"sources": (FileSpec(path=str(place)),)})

    def offline(self) -> None:
        """Nothing is to be had at the publisher's."""
        for path in self.root.glob("*.bin"):
            path.unlink()

    def published(self, version: str, *assets: Asset) -> Published:
        text = write_manifest(Manifest(version=version, assets=assets))
        return Published(text, (self.root / "manifest.json").as_uri())

    def update(self, version: str, *assets: Asset) -> int:
        offer = self.updates.offer(self.published(version, *assets))
        fetched = self.updates.fetch(offer, WATCH)
        self.updates.apply(offer)
        return fetched

    def bytes_of(self, name: str = "tiny") -> bytes:
        return self.store.install(name).path.read_bytes()

    def kept(self) -> list[str]:
        return self.store.versions.all()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One file is here, in its first version."""
    world = World(tmp_path)
    world.update("1", world.file(OLD, version="1"))
    return world


def test_a_first_update_brings_what_is_required_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    optional = world.file(NEW, name="extra", required=False)
    world.update("1", world.file(OLD), optional)
    assert world.store.present("tiny")
    assert not world.store.present("extra")
    assert world.bytes_of("extra") == NEW


def test_an_update_fetches_the_chunks_that_changed(world: World) -> None:
    assert world.update("2", world.file(NEW, version="2")) == CHUNK
    assert world.bytes_of() == NEW
    assert world.store.manifest.asset("tiny").version == "2"
    lines = world.store.history.lines("tiny")
    assert [(line.what, line.version) for line in lines] == [("updated", "1"), ("updated", "2")]


def test_until_it_is_applied_an_update_changes_nothing(world: World) -> None:
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)
    world.begin()
    assert world.bytes_of() == OLD
    world.updates.apply(world.updates.offer(offer.published))
    assert world.bytes_of() == NEW
    assert world.source.bytes == 0


@pytest.mark.parametrize("boot", ["boot", "another boot"])
def test_a_crash_behind_the_manifest_leaves_files_that_are_put_in_place_when_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Updates, "_put", crash)
        with pytest.raises(KeyboardInterrupt):
            world.updates.apply(offer)
    world.begin(boot)
    assert world.bytes_of() == NEW
    assert world.source.bytes == 0
    if boot == "boot":
        assert [event for event in world.events if isinstance(event, Quarantined)] == []


def test_the_version_before_is_kept_until_the_new_one_was_loaded(world: World) -> None:
    old = world.store.manifest.asset("tiny")
    world.update("2", world.file(NEW))
    assert world.kept() == [old.sha256]
    new = world.store.manifest.asset("tiny")
    world.updates.proved("tiny", old.sha256)
    assert world.kept() == [old.sha256]
    world.updates.proved("tiny", new.sha256)
    assert world.kept() == []
    with pytest.raises(NotFound, match="no earlier version of tiny was kept"):
        world.updates.rollback("tiny")


def test_a_rollback_brings_the_version_before_and_stays_with_it(world: World) -> None:
    world.update("2", world.file(NEW, version="2"))
    assert world.updates.rollback("tiny").version == "1"
    assert world.bytes_of() == OLD
    world.begin()
    assert world.bytes_of() == OLD
    assert world.source.bytes == 0
    world.update("3", world.file(NEW + OLD, version="3"))
    assert world.bytes_of() == OLD
    world.catalogue.unpin("tiny")
    world.begin()
    assert world.bytes_of() == NEW + OLD


def test_a_second_rollback_does_not_go_forward_to_what_was_rolled_back_from(world: World) -> None:
    world.update("2", world.file(NEW, version="2"))
    world.updates.rollback("tiny")
    with pytest.raises(NotFound, match="no earlier version of tiny was kept"):
        world.updates.rollback("tiny")
    assert world.bytes_of() == OLD


def test_a_version_that_was_rolled_back_from_is_none_to_go_back_to_after_the_next_update(
    world: World,
) -> None:
    bad, old = world.file(NEW, version="2"), world.store.manifest.asset("tiny")
    world.update("2", bad)
    world.updates.rollback("tiny")
    world.catalogue.unpin("tiny")
    world.begin()
    assert world.bytes_of() == NEW
    world.update("3", world.file(NEW + OLD, version="3"))
    assert world.updates.rollback("tiny").hash == old.hash


def test_rollbacks_go_from_each_version_to_the_one_before_it(world: World) -> None:
    world.update("2", world.file(NEW, version="2"))
    world.update("3", world.file(NEW + OLD, version="3"))
    assert [world.updates.rollback("tiny").version for _ in range(2)] == ["2", "1"]


@pytest.mark.parametrize(
    ("what_became_of_it", "now", "can_go_back_to"),
    [
        ("updated 1, updated 2", "2", "1"),
        ("updated 1, updated 2, rolled back 1", "1", ""),
        ("updated 1, updated 2, rolled back 1, installed 1", "1", ""),
        ("updated 1, updated 2, rolled back 1, repaired 1, pinned 1", "1", ""),
        ("updated 1, updated 2, rolled back 1, updated 2", "2", "1"),
        ("updated 1, updated 2, rolled back 1, updated 3", "3", "1"),
        ("updated 1, updated 2, rolled back 1, updated 2, updated 3", "3", "21"),
        ("updated 1, updated 2, updated 3, rolled back 2", "2", "1"),
        ("installed 1, updated 2, repaired 2, proved 2", "2", "1"),
        ("added 1, added 2", "2", "1"),
        # A crash behind the manifest: nothing was written down of the one that is in force.
        ("updated 1", "2", "1"),
        ("updated 1", "1", ""),
    ],
)
def test_one_goes_back_to_what_was_in_use_before_the_present_version_came(
    what_became_of_it: str, now: str, can_go_back_to: str
) -> None:
    lines = [
        Line.model_validate({"at": at, "asset": "x", "what": words[:-2], "hash": _hash(words[-1])})
        for at, words in enumerate(what_became_of_it.split(", "))
    ]
    found = versions_to_go_back_to(lines, _hash(now))
    assert found == [_hash(each).removeprefix("sha256-") for each in can_go_back_to]


def _hash(digit: str) -> str:
    return f"sha256-{digit * 64}"


def spoil(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_of_what_waits_for_an_update_the_pieces_that_were_damaged_are_fetched_anew(
    world: World,
) -> None:
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)
    [waiting] = world.kept()
    spoil(world.store.layout.version(waiting), 5 * CHUNK + 10)
    assert world.updates.apply(offer) is None
    assert world.bytes_of() == OLD
    assert world.updates.fetch(offer, WATCH) == CHUNK
    world.updates.apply(offer)
    assert world.bytes_of() == NEW


def test_while_what_waits_is_damaged_and_cannot_be_had_the_version_in_use_stays(
    world: World,
) -> None:
    offer = world.updates.offer(world.published("2", world.file(NEW)))
    world.updates.fetch(offer, WATCH)
    [waiting] = world.kept()
    spoil(world.store.layout.version(waiting), 5 * CHUNK + 10)
    world.offline()
    with pytest.raises(AssetUnavailable, match="tiny could not be fetched"):
        world.updates.fetch(offer, WATCH)
    assert world.updates.apply(offer) is None
    world.begin()
    assert world.bytes_of() == OLD


def test_what_waits_is_read_once_and_not_again_when_it_is_used(world: World) -> None:
    world.updates.fetch(world.updates.offer(world.published("2", world.file(NEW))), WATCH)
    world.begin()
    read: list[int] = []
    watch = Watch(lambda progress: read.append(progress.done_bytes), lambda: False)
    for _ in range(2):
        world.updates.fetch(world.updates.offer(world.published("2", world.file(NEW))), watch)
    assert read == [len(NEW)]


def test_a_rollback_mends_the_version_before_where_the_disk_has_spoiled_it(world: World) -> None:
    world.update("2", world.file(NEW))
    [before] = world.kept()
    spoil(world.store.layout.version(before), CHUNK)
    world.updates.rollback("tiny")
    assert world.store.path_of("tiny").read_bytes() == OLD


def test_a_rollback_to_what_is_damaged_and_cannot_be_had_is_refused_and_nothing_changes(
    world: World,
) -> None:
    world.update("2", world.file(NEW, version="2"))
    [before] = world.kept()
    spoil(world.store.layout.version(before), 5 * CHUNK)
    world.offline()
    with pytest.raises(AssetUnavailable, match="version of tiny that was kept is damaged"):
        world.updates.rollback("tiny")
    assert world.catalogue.pinned().assets == ()
    world.begin()
    assert world.bytes_of() == NEW


def test_space_for_all_files_is_asked_for_before_the_first_byte(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.publishing.free_bytes", lambda _: len(NEW) + 10)
    offer = world.updates.offer(
        world.published("2", world.file(NEW), world.file(OLD + NEW, name="second"))
    )
    before = world.source.bytes
    with pytest.raises(DiskFull, match="are needed"):
        world.updates.fetch(offer, WATCH)
    assert world.source.bytes == before
    assert world.bytes_of() == OLD


def test_no_space_is_asked_for_what_an_earlier_try_has_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.file(NEW)
    left = world.store.layout.partial(new)
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(NEW[:-CHUNK])
    monkeypatch.setattr("actors.storage.publishing.free_bytes", lambda _: 2 * CHUNK)
    world.update("2", new)
    assert world.bytes_of() == NEW


def test_a_file_that_moves_leaves_nothing_at_its_old_path(world: World) -> None:
    before = world.store.path_of("tiny")
    world.update("2", world.file(OLD, path="models/elsewhere.bin"))
    assert world.bytes_of() == OLD
    assert not before.exists()


def test_a_manifest_that_contradicts_what_is_here_is_refused_and_nothing_changes(
    world: World,
) -> None:
    clash = world.file(NEW, name="other", path="models/mine.bin")
    mine = asset_of(OLD, name="mine")
    world.catalogue.add(mine)
    with pytest.raises(InvalidSettings, match="have the path"):
        world.updates.offer(world.published("2", clash))
    assert world.catalogue.applied() == world.published("1", world.file(OLD, version="1"))


Spoil = Callable[[World], Path]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world: world.store.layout.applied,
        lambda world: next(world.store.layout.manifests.iterdir()),
        lambda world: world.store.layout.pins,
    ],
)
def test_a_damaged_list_is_told_and_what_is_right_is_in_force(world: World, spoil: Spoil) -> None:
    world.catalogue.pin(world.store.manifest.asset("tiny"))
    path = spoil(world)
    path.write_bytes(path.read_bytes()[:-10])
    manifest, [problem] = world.catalogue.as_far_as_it_goes()
    assert path.name in problem
    assert manifest.version in ("0", "1")
    with pytest.raises(InvalidSettings):
        world.catalogue.manifest()


def test_what_is_brought_is_what_is_here_and_changed_or_required_and_new() -> None:
    one, two, three = (asset_of(data, name=name) for data, name in
                       [(b"1", "one"), (b"2", "two"), (b"3", "three")])  # fmt: skip
    before = Manifest(version="1", assets=(one, two))
    newer = one.model_copy(update={"hash": two.hash})
    other = two.model_copy(update={"hash": one.hash})
    optional = three.model_copy(update={"name": "four", "path": "4", "required": False})
    after = Manifest(version="2", assets=(newer, other, three, optional))
    changes = changes_between(before, after, lambda asset: asset.name == "one")
    assert [change.after.name for change in changes] == ["one", "three"]
    assert changes_between(before, before, lambda _: True) == ()
