"""The publisher: what it writes, what it refuses to sign, and what it says of its keys."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from actors.storage.trust.download import TARGET_MAX_BYTES
from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.published import stage_of
from actors.storage.trust.roles import Lifetimes
from actors.storage.trust.signing import Repository
from protocol.errors import AssetCorrupt, AssetUnavailable, InvalidRequest, NotFound, UnusableKey
from tests.support.trust import NEW, OLD, Stage, read

Act = Callable[[], object]
DAY = timedelta(days=1)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, time=datetime.now(UTC).replace(microsecond=0))


def files(stage: Stage) -> dict[str, bytes]:
    return {
        str(path.relative_to(stage.published)): path.read_bytes()
        for path in stage.published.rglob("*")
        if path.is_file()
    }


def expiries(stage: Stage) -> dict[str, datetime]:
    return {one.role: one.expires for one in stage.repository.overview()}


def versions(stage: Stage) -> dict[str, int]:
    return {one.role: one.version for one in stage.repository.overview()}


def test_a_published_folder_has_the_files_that_the_specification_names(stage: Stage) -> None:
    digest = hashlib.sha256(OLD).hexdigest()
    assert files(stage).keys() == {
        ".lock",
        "metadata/1.root.json",
        "metadata/timestamp.json",
        *(
            f"metadata/{version}.{role}.json"
            for role in ("snapshot", "targets")
            for version in "12"
        ),
        f"targets/{digest}.manifest.json",
    }


def test_what_is_published_can_be_read_by_a_web_server_of_another_user(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        stage = Stage(tmp_path)
    finally:
        os.umask(before)
    for path in stage.published.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044


def test_a_publish_raises_three_versions_and_leaves_old_files_to_those_who_still_read(
    stage: Stage,
) -> None:
    before = files(stage)
    assert stage.repository.publish(NEW) == {
        "root": 1, "targets": 3, "snapshot": 3, "timestamp": 3,
    }  # fmt: skip
    after = files(stage)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"metadata/timestamp.json"}


def test_every_file_is_named_with_length_and_hash(stage: Stage) -> None:
    timestamp = read(Timestamp, stage.path("timestamp").read_bytes())
    snapshot = read(Snapshot, stage.path("snapshot").read_bytes())
    targets = read(Targets, stage.path("targets").read_bytes())
    timestamp.snapshot_meta.verify_length_and_hashes(stage.path("snapshot").read_bytes())
    snapshot.meta["targets.json"].verify_length_and_hashes(stage.path("targets").read_bytes())
    for named in (timestamp.snapshot_meta, snapshot.meta["targets.json"]):
        assert named.length is not None
        assert named.hashes is not None
    assert targets.targets.keys() == {"manifest.json"}
    assert read(Root, stage.first).consistent_snapshot


def test_a_renewal_writes_the_timestamp_alone(stage: Stage) -> None:
    before = files(stage)
    stage.time += 3 * DAY
    assert stage.repository.renew()["timestamp"] == 3
    after = files(stage)
    assert {name for name in after if after[name] != before.get(name)} == {
        "metadata/timestamp.json"
    }
    assert expiries(stage)["timestamp"] == stage.time + 7 * DAY


def test_a_renewal_signs_anew_what_the_timestamp_would_outlive(stage: Stage) -> None:
    stage.time += 359 * DAY
    assert stage.repository.renew() == {"root": 1, "targets": 3, "snapshot": 3, "timestamp": 3}
    assert expiries(stage)["targets"] == expiries(stage)["snapshot"] == stage.time + 365 * DAY


def test_a_snapshot_alone_that_would_expire_is_signed_anew_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lifetimes=Lifetimes(snapshot=5 * DAY))
    assert stage.repository.renew() == {"root": 1, "targets": 2, "snapshot": 3, "timestamp": 3}
    stage.client.refresh()


def test_lifetimes_are_those_that_were_asked_for(tmp_path: Path) -> None:
    lifetimes = Lifetimes(root=4 * DAY, targets=3 * DAY, snapshot=2 * DAY, timestamp=DAY)
    now = datetime(2030, 1, 1, tzinfo=UTC)
    stage = Stage(tmp_path, time=now, lifetimes=lifetimes)
    assert expiries(stage) == {
        "root": now + 4 * DAY, "targets": now + 3 * DAY,
        "snapshot": now + 2 * DAY, "timestamp": now + DAY,
    }  # fmt: skip


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("life", [timedelta(0), -DAY, timedelta.max])
def test_a_life_that_ends_before_it_begins_or_never_is_refused(role: str, life: timedelta) -> None:
    with pytest.raises(InvalidRequest, match=role):
        Lifetimes(**{role: life})


def test_an_expired_repository_can_be_renewed_by_its_publisher(stage: Stage) -> None:
    stage.time -= 100 * DAY
    stage.repository.renew()
    stage.time += 100 * DAY
    stage.repository.renew()
    assert stage.client.refresh().manifest.content == OLD


def test_an_expired_root_can_be_renewed_and_clients_follow(tmp_path: Path) -> None:
    stage = Stage(tmp_path, time=datetime.now(UTC) - 400 * DAY)
    stage.time += 400 * DAY
    stage.repository.renew_root()
    stage.repository.renew()
    assert stage.client.refresh().manifest.content == OLD
    assert stage.repository.root() != stage.first


# Keys -------------------------------------------------------------------------------------------


def test_the_overview_says_which_keys_count_and_which_of_them_are_here(stage: Stage) -> None:
    stage.root_keys[0].path.unlink()
    root, *online = stage.repository.overview()
    assert (root.role, root.version, root.threshold) == ("root", 1, 1)
    assert [(key.id, key.path) for key in root.keys] == [(stage.root_keys[0].id, None)]
    for role in online:
        assert [(key.id, key.path) for key in role.keys] == [
            (stage.online_key.id, stage.online_key.path)
        ]


def test_publishing_needs_no_root_key(stage: Stage) -> None:
    stage.root_keys[0].path.unlink()
    repository = Repository(stage.published, KeyFolder(*stage.keys.folders))
    repository.publish(NEW)
    repository.renew()
    with pytest.raises(UnusableKey, match="1 of the keys for root must sign, and 0 are in"):
        repository.renew_root()
    assert stage.client.refresh().manifest.content == NEW


def test_without_the_online_key_nothing_is_published_and_nothing_changed(stage: Stage) -> None:
    stage.online_key.path.unlink()
    before = files(stage)
    repository = Repository(stage.published, KeyFolder(*stage.keys.folders))
    acts: list[Act] = [lambda: repository.publish(NEW), repository.renew]
    for act in acts:
        with pytest.raises(UnusableKey, match=stage.online_key.id):
            act()
    after = files(stage)
    assert {name: after[name] for name in before} == before


def test_a_threshold_of_root_keys_must_sign_together(tmp_path: Path) -> None:
    stage = Stage(tmp_path, root_keys=3)
    stage.repository.change_keys("root", threshold=2)
    stage.root_keys[0].path.unlink()
    two = Repository(stage.published, KeyFolder(*stage.keys.folders))
    two.renew_root()
    stage.root_keys[1].path.unlink()
    one = Repository(stage.published, KeyFolder(*stage.keys.folders))
    with pytest.raises(UnusableKey, match="2 of the keys for root must sign, and 1 are in"):
        one.renew_root()
    assert stage.client.refresh().manifest.versions["root"] == 3


def test_root_keys_of_several_folders_sign_together(tmp_path: Path) -> None:
    stage = Stage(tmp_path, root_keys=2)
    stick = tmp_path / "stick"
    stick.mkdir()
    stage.root_keys[1].path.rename(stick / stage.root_keys[1].path.name)
    Repository(stage.published, KeyFolder(*stage.keys.folders, stick)).renew_root()
    assert stage.client.refresh().manifest.versions["root"] == 2


def test_two_online_keys_can_be_asked_to_sign_together(stage: Stage) -> None:
    stage.client.refresh()
    stage.repository.change_keys("online", add=[stage.keys.new("online")], threshold=2)
    stage.repository.publish(NEW)
    assert stage.client.refresh().manifest.content == NEW
    stage.forge()
    with pytest.raises(Exception, match="signed by 1/2 keys"):
        stage.client.refresh()


def test_of_several_keys_one_must_say_which_is_replaced(stage: Stage) -> None:
    second = stage.keys.new("online")
    stage.repository.change_keys("online", add=[second])
    with pytest.raises(InvalidRequest, match="2 keys: say which"):
        stage.repository.rotate("online", stage.keys.new("online"))
    third = stage.keys.new("online")
    stage.repository.rotate("online", third, retire=stage.online_key.id)
    assert [key.id for key in stage.repository.overview()[-1].keys] == [second.id, third.id]


@pytest.mark.parametrize("threshold", [0, 2])
def test_a_threshold_that_cannot_be_met_is_refused_and_changes_nothing(
    stage: Stage, threshold: int
) -> None:
    before = files(stage)
    with pytest.raises(InvalidRequest, match="cannot be asked to sign"):
        stage.repository.change_keys("root", threshold=threshold)
    assert files(stage) == before


def test_the_last_key_cannot_be_retired_without_another(stage: Stage) -> None:
    with pytest.raises(InvalidRequest):
        stage.repository.change_keys("online", retire=[stage.online_key.id])


def test_a_key_that_does_not_count_cannot_be_retired(stage: Stage) -> None:
    with pytest.raises(NotFound, match=stage.online_key.id):
        stage.repository.change_keys("online", retire=["4f0c"])


def test_a_key_that_was_made_for_something_else_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidRequest, match="was made for online"):
        stage.repository.rotate("root", stage.keys.new("online"))
    with pytest.raises(InvalidRequest, match="was made for root"):
        stage.repository.change_keys("online", add=[stage.root_keys[0]])


def test_keys_inside_the_published_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "published")
    for keys in (tmp_path / "published" / "keys", tmp_path / "link", tmp_path / "published"):
        with pytest.raises(UnusableKey, match="outside"):
            Repository(tmp_path / "published", KeyFolder(keys))


def test_keys_beside_the_published_folder_are_fine(tmp_path: Path) -> None:
    Repository(tmp_path / "published", KeyFolder(tmp_path / "published-keys"))


def test_a_beginning_takes_the_keys_that_are_there_and_makes_those_that_lack(
    tmp_path: Path,
) -> None:
    keys = KeyFolder(tmp_path / "keys")
    two = {keys.new("root").id, keys.new("root").id}
    repository = Repository(tmp_path / "published", keys)
    repository.begin()
    root, *online = repository.overview()
    assert {key.id for key in root.keys} == two
    assert root.threshold == 1
    assert [key.path for key in online[0].keys] == [*(tmp_path / "keys").glob("online-*.key")]


def test_a_beginning_where_there_is_a_repository_changes_nothing(stage: Stage) -> None:
    before = files(stage)
    stage.repository.begin()
    assert files(stage) == before


def test_a_beginning_that_died_is_finished_with_its_own_keys_alone(tmp_path: Path) -> None:
    keys, folder = KeyFolder(tmp_path / "keys"), tmp_path / "published"
    Repository(folder, keys).begin()
    (folder / "metadata" / "timestamp.json").unlink()
    with pytest.raises(UnusableKey, match="remove that folder to begin anew"):
        Repository(folder, KeyFolder(tmp_path / "others")).begin()
    first = (folder / "metadata" / "1.root.json").read_bytes()
    repository = Repository(folder, keys)
    repository.begin()
    repository.publish(NEW)
    assert repository.roots() == [first]


@pytest.mark.parametrize(
    ("names", "stage"),
    [
        ([], "none"),
        (["1.root.json"], "begun"),
        (["1.root.json", "1.targets.json", "1.snapshot.json"], "begun"),
        (["1.root.json", "timestamp.json"], "published"),
        (["1.root.json", "2.targets.json"], "published"),
        (["1.root.json", "2.root.json"], "published"),
        (["1.targets.json"], "published"),
    ],
)
def test_only_what_nobody_can_have_seen_counts_as_begun(names: list[str], stage: str) -> None:
    assert stage_of(names) == stage


def test_where_every_root_is_missing_nothing_is_begun_over_the_rest(stage: Stage) -> None:
    stage.path("root", 1).unlink()
    before = files(stage)
    stage.repository.begin()
    with pytest.raises(AssetCorrupt, match=r"1\.root\.json"):
        stage.repository.publish(NEW)
    assert files(stage) == before


# What it does not sign --------------------------------------------------------------------------


def test_a_second_repository_in_one_folder_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidRequest, match="already"):
        stage.repository.create([stage.keys.new("root")], [stage.keys.new("online")])


def test_where_there_is_no_repository_nothing_can_be_published(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "published", KeyFolder(tmp_path / "keys"))
    acts: list[Act] = [
        lambda: repository.publish(NEW), repository.renew, repository.overview, repository.root,
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(NotFound, match="create one first"):
            act()


def test_a_manifest_that_no_client_would_take_is_refused(stage: Stage) -> None:
    before = files(stage)
    with pytest.raises(InvalidRequest, match=str(TARGET_MAX_BYTES)):
        stage.repository.publish(bytes(TARGET_MAX_BYTES + 1))
    assert files(stage) == before


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_nothing_is_signed_on_top_of_what_somebody_changed(stage: Stage, role: str) -> None:
    path = stage.path(role)
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version": '))
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 3'))
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 3'))
    acts: list[Act] = [lambda: stage.repository.publish(NEW), stage.repository.renew]
    for act in acts:
        with pytest.raises(AssetCorrupt, match="Bring the folder back from a copy"):
            act()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_a_retired_key_signed_is_not_signed_again_by_the_new_one(
    stage: Stage, role: str
) -> None:
    thief, key = stage.signer, stage.keys.new("online")
    stage.repository.rotate("online", key)
    present = dict.fromkeys(("targets", "snapshot", "timestamp"), stage.keys.signer(key))
    stage.forge(by=present | {role: thief})
    with pytest.raises(AssetCorrupt, match="signed by 0/1"):
        stage.repository.renew()


def test_a_root_that_is_missing_is_told_and_not_made_a_second_time(stage: Stage) -> None:
    for _ in range(2):
        stage.repository.renew_root()
    stage.path("root", 2).unlink()
    for act in (stage.repository.renew, stage.repository.renew_root, stage.repository.root):
        with pytest.raises(AssetCorrupt, match=r"2\.root\.json"):
            act()


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_a_file_that_is_missing_is_told(stage: Stage, role: str) -> None:
    stage.path(role).unlink()
    with pytest.raises(AssetCorrupt, match=f"2.{role}.json"):
        stage.repository.renew()


def test_a_folder_that_cannot_be_written_is_told(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    repository = Repository(tmp_path / "file" / "published", stage.keys)
    with pytest.raises(AssetUnavailable, match="did not do its part"):
        repository.create(stage.root_keys, [stage.online_key])
