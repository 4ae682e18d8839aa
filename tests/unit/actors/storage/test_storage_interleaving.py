"""What one process does with the lists of an asset folder while another one works in it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.storage.building import Watch
from actors.storage.catalogue import Published
from actors.storage.following import Following
from actors.storage.guardian import Guardian
from actors.storage.manifest import Manifest, write_manifest
from actors.storage.outcomes import Dropped
from actors.storage.sources import Progress
from actors.storage.trust.client import TrustedRepository
from protocol.errors import AssetUnavailable, InvalidSettings, NotFound, Overloaded
from tests.unit.actors.storage.test_storage_updating import CHUNK, NEW, OLD, WATCH, World

THIRD = OLD[: 7 * CHUNK] + random.Random(3).randbytes(CHUNK) + OLD[8 * CHUNK :]
MINE = b"mine" * 5000


class Publisher(Following):
    """Whose newest manifest is the one given."""

    def __init__(self, world: World, newest: Published | None = None) -> None:
        super().__init__(world.catalogue, world.store.fetcher)
        self.now = newest

    def newest(self, watch: Watch) -> Published:
        assert self.now is not None
        return self.now

    def to_come(self) -> set[str]:
        return {asset.sha256 for asset in self.now.read().assets} if self.now else set()


def guardian(world: World, newest: Published | None = None) -> Guardian:
    return Guardian(world.store, world.catalogue, Publisher(world, newest))


def another(world: World) -> Guardian:
    """As another process, which works in the same folder now."""
    other = World.__new__(World)
    other.root, other.folder, other.own, other.events = world.root, world.folder, world.own, []
    other.begin()
    return guardian(other)


def once(act: Callable[[], object]) -> Watch:
    """Somebody acts as soon as the work is under way."""
    left = [act]

    def report(_: Progress) -> None:
        if left:
            left.pop()()

    return Watch(report, lambda: False)


def read(world: World, name: str = "tiny") -> bytes:
    """What an engine of a process that starts now is given."""
    other = another(world)
    return other.provide(name, WATCH).path.read_bytes()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One file is here, in its first version."""
    world = World(tmp_path)
    world.update("1", world.file(OLD, version="1"))
    return world


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(MINE)
    return path


def test_what_is_pinned_while_an_update_is_fetched_stays_and_is_kept(world: World) -> None:
    running = guardian(world, world.published("2", world.file(NEW, version="2")))
    done = running.update(once(lambda: another(world).pin("tiny")))
    assert (done.applied, done.changes) == (True, ())
    running.proved("tiny", running.store.manifest.asset("tiny").sha256)
    world.offline()
    assert running.provide("tiny", WATCH).path.read_bytes() == OLD
    assert read(world) == OLD


def test_what_is_added_while_an_update_is_fetched_is_known_afterwards(
    world: World, mine: Path
) -> None:
    running = guardian(world, world.published("2", world.file(NEW, version="2")))
    running.update(once(lambda: another(world).add(mine, "mine", "", "", WATCH)))
    assert running.provide("mine", WATCH).path.read_bytes() == MINE
    assert running.provide("tiny", WATCH).path.read_bytes() == NEW


def test_what_is_added_where_the_update_that_is_fetched_has_a_file_is_in_its_way_and_stays(
    world: World, mine: Path
) -> None:
    theirs = world.file(THIRD, name="theirs", path="models/mine.gguf")
    running = guardian(world, world.published("2", world.file(NEW, version="2"), theirs))
    with pytest.raises(InvalidSettings, match="noyau assets remove mine"):
        running.update(once(lambda: another(world).add(mine, "mine", "", "", WATCH)))
    assert (read(world), read(world, "mine")) == (OLD, MINE)
    assert another(world).problems() == []
    running.remove("mine")
    running.update(WATCH)
    assert (read(world), read(world, "theirs")) == (NEW, THIRD)


def test_what_is_let_go_while_an_update_is_fetched_is_fetched_with_it(world: World) -> None:
    world.catalogue.pin_in_force("tiny")
    extra = world.file(THIRD, name="extra")
    running = guardian(world, world.published("2", world.file(NEW, version="2"), extra))
    done = running.update(once(lambda: world.catalogue.unpin("tiny")))
    assert {change.after.name for change in done.changes} == {"tiny", "extra"}
    world.offline()
    assert (read(world), read(world, "extra")) == (NEW, THIRD)


def test_a_process_that_was_not_told_of_an_update_gives_its_engines_the_new_version(
    world: World,
) -> None:
    running, gone = guardian(world), list[str]()
    running.in_force.on_change.append(gone.extend)
    assert running.provide("tiny", WATCH) == running.trusted("tiny")
    old = running.store.manifest.asset("tiny").sha256
    other = another(world)
    other.following = Publisher(world, world.published("2", world.file(NEW, version="2")))
    other.update(WATCH)
    assert running.provide("tiny", WATCH).path.read_bytes() == NEW
    assert gone == [old]
    assert read(world) == NEW


def test_an_update_by_another_process_while_a_file_is_read_is_what_an_engine_is_given(
    world: World,
) -> None:
    os.utime(world.store.path_of("tiny"))
    other = another(world)
    other.following = Publisher(world, world.published("2", world.file(NEW, version="2")))
    running = guardian(world)
    found = running.provide("tiny", once(lambda: other.update(WATCH)))
    assert found.path.read_bytes() == NEW
    assert read(world) == NEW


def test_what_another_process_has_pinned_is_listed_verified_and_kept(world: World) -> None:
    running = guardian(world)
    other = another(world)
    other.following = Publisher(world, world.published("2", world.file(NEW, version="2")))
    other.update(WATCH)
    other.rollback("tiny")
    assert [each.asset.version for each in running.listed()] == ["1"]
    assert [each.asset.version for each in running.verify([], WATCH)] == ["1"]
    assert running.pin("tiny").version == "1"


def test_an_update_under_way_loses_no_version_though_the_one_in_use_was_loaded(
    world: World,
) -> None:
    world.update("2", world.file(NEW, version="2"))
    running, new = guardian(world), world.store.manifest.asset("tiny")
    with another(world).updating(WATCH):
        running.proved("tiny", new.sha256)
        assert world.store.history.lines("tiny")[-1].what == "proved"
        assert len(world.kept()) == 1
    running.collect()
    assert world.kept() == []


def test_nothing_is_removed_while_a_list_is_damaged_that_may_want_it(world: World) -> None:
    running = guardian(world)
    running.pin("tiny")
    world.store.versions.keep(world.store.manifest.asset("tiny"))
    pins = world.store.layout.pins
    pins.write_bytes(pins.read_bytes()[:-10])
    with pytest.raises(InvalidSettings, match=r"pins\.json"):
        running.collect()
    running.updates.tidy(set())
    assert len(world.kept()) == 1


def test_a_pinned_file_whose_fallback_the_publisher_drops_stays_and_others_are_updated(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    small, x = world.file(THIRD, name="small"), world.file(OLD, name="x")
    world.update("1", world.file(OLD, version="1", fallback="small"), small, x)
    world.catalogue.pin_in_force("tiny")
    world.update("2", world.file(NEW, version="2"), world.file(NEW, name="x"))
    assert (read(world), read(world, "x")) == (OLD, NEW)
    assert another(world).problems() == []
    assert world.catalogue.manifest().asset("tiny").fallback == ""


def test_a_pinned_file_that_lies_where_an_update_has_another_one_is_named_with_the_way_out(
    world: World,
) -> None:
    world.catalogue.pin_in_force("tiny")
    other = world.file(THIRD, name="other", path="models/tiny.bin")
    running = guardian(world, world.published("2", other))
    with pytest.raises(InvalidSettings, match="noyau assets pin tiny --undo"):
        running.update(WATCH)
    assert read(world) == OLD


def test_what_is_being_added_is_no_file_to_be_removed_before_it_is_here(
    world: World, mine: Path
) -> None:
    refused: list[str] = []

    def remove() -> None:
        try:
            another(world).remove("mine")
        except NotFound as error:
            refused.append(error.message)

    adding = guardian(world)
    adding.add(mine, "mine", "", "", once(remove))
    assert len(refused) == 1
    assert read(world, "mine") == MINE


def test_what_another_process_makes_is_not_removed_under_its_hands(
    world: World, mine: Path
) -> None:
    running = guardian(world)
    asset = running.add(mine, "mine", "", "", WATCH)
    path = running.layout.asset(asset)
    path.write_bytes(b"damaged")

    def remove() -> None:
        with pytest.raises(Overloaded, match="mine is being made now"):
            another(world).remove("mine")

    running.repair(["mine"], once(remove))
    assert path.read_bytes() == MINE
    another(world).remove("mine")
    assert not path.exists()


def test_letting_a_pinned_file_go_brings_the_version_of_the_last_update(world: World) -> None:
    running = guardian(world)
    running.pin("tiny")
    world.update("2", world.file(NEW, version="2"))
    assert running.unpin("tiny").version == "2"
    world.offline()
    assert read(world) == NEW
    lines = running.history("tiny")
    assert [(line.what, line.version) for line in lines] == [
        ("updated", "1"), ("pinned", "1"), ("unpinned", "1"), ("updated", "2")
    ]  # fmt: skip
    assert running.rollback("tiny").version == "1"


def test_a_pinned_file_stays_pinned_and_in_use_while_the_newer_one_cannot_be_had(
    world: World,
) -> None:
    running = guardian(world)
    running.pin("tiny")
    world.update("2", world.file(NEW, version="2"))
    world.offline()
    with pytest.raises(AssetUnavailable, match="tiny could not be fetched"):
        running.unpin("tiny")
    assert another(world).pinned() == {"tiny"}
    assert read(world) == OLD


def test_what_the_publisher_has_no_more_can_be_let_go(world: World) -> None:
    running = guardian(world)
    running.pin("tiny")
    world.update("2", world.file(THIRD, name="x"))
    assert running.unpin("tiny").version == "1"
    assert [each.asset.name for each in running.listed()] == ["x"]
    assert [line.what for line in running.history("tiny")] == ["updated", "pinned", "unpinned"]
    with pytest.raises(NotFound, match="'tiny' is not pinned"):
        running.unpin("tiny")


def test_the_default_model_is_pinned_let_go_and_told_of_by_that_word_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    manifest = Manifest(version="0", assets=(world.file(OLD),), default_model="tiny")
    world.own.write_bytes(write_manifest(manifest))
    world.begin()
    running = guardian(world)
    assert running.pin("default").name == "tiny"
    assert running.unpin("default").name == "tiny"
    assert [line.what for line in running.history("default")] == ["pinned", "unpinned"]
    with pytest.raises(NotFound, match="no asset is called 'tiny'"):
        running.remove("default")


def test_what_a_publisher_drops_is_told_and_stays_until_it_is_collected(world: World) -> None:
    path = world.store.path_of("tiny")
    running = guardian(world, world.published("2", world.file(THIRD, name="x")))
    running.update(WATCH)
    [event] = [each for each in world.events if isinstance(each, Dropped)]
    assert f"the publisher has tiny no more, so it is not in use: {path}" in str(event)
    assert path.read_bytes() == OLD
    assert another(world).collect() >= len(OLD)
    assert not path.exists()
    assert read(world, "x") == THIRD
    assert running.history("tiny")[-1].what == "removed"


def test_what_was_pinned_when_the_publisher_dropped_it_is_collected_once_it_was_let_go(
    world: World,
) -> None:
    path = world.store.path_of("tiny")
    running = guardian(world, world.published("2", world.file(THIRD, name="x")))
    running.pin("tiny")
    running.update(WATCH)
    running.collect()
    assert path.read_bytes() == OLD
    running.unpin("tiny")
    running.collect()
    assert not path.exists()


def test_what_a_publisher_has_again_is_not_collected(world: World) -> None:
    first = world.file(OLD, version="1")
    world.update("2", world.file(THIRD, name="x"))
    world.update("3", first, world.file(THIRD, name="x"))
    guardian(world).collect()
    assert read(world) == OLD


def test_somebodys_own_file_where_a_dropped_one_lay_is_not_collected(world: World) -> None:
    path = world.store.path_of("tiny")
    world.update("2", world.file(THIRD, name="x"))
    path.write_bytes(b"my own")
    guardian(world).collect()
    assert path.read_bytes() == b"my own"


def test_collecting_without_the_settings_of_who_follows_a_publisher_leaves_what_waits(
    world: World,
) -> None:
    old = world.store.manifest.asset("tiny").sha256
    world.update("2", world.file(NEW, version="2"))
    waiting = guardian(world, world.published("3", world.file(THIRD, version="3")))
    waiting.update(WATCH, fetch_only=True)
    assert old in world.kept()
    world.store.layout.trust.mkdir()
    Guardian(world.store, world.catalogue).collect()
    assert world.kept() == [world.file(THIRD).sha256]


def test_collecting_where_nobody_was_ever_followed_leaves_no_version(world: World) -> None:
    world.updates.fetch(world.updates.offer(world.published("2", world.file(NEW))), WATCH)
    assert world.kept() == [world.file(NEW).sha256]
    Guardian(world.store, world.catalogue).collect()
    assert world.kept() == []


def test_what_waits_is_unknown_while_the_publishers_root_key_cannot_be_read(world: World) -> None:
    def away() -> TrustedRepository:
        raise InvalidSettings("the stick is away")

    following = Following(world.catalogue, world.store.fetcher, away, "https://x.example/")
    assert following.to_come() is None
    assert Following(world.catalogue, world.store.fetcher).to_come() == set()


def test_what_is_pinned_must_be_there(world: World) -> None:
    with pytest.raises(NotFound, match="no asset is called 'nothing'"):
        guardian(world).pin("nothing")
