"""Keys change, are lost and are stolen, and clients follow, from whatever state they know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Snapshot, Targets, Timestamp

from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.signing import Repository
from protocol.errors import Untrusted
from tests.support.trust import NEW, OLD, Stage

HIGH = 1_000_000


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.client.refresh()
    return stage


def forget(stage: Stage, key_id: str) -> None:
    """The key's file is gone, and the publisher starts anew without it."""
    found = stage.keys.find(key_id)
    assert found is not None
    found.path.unlink()
    stage.keys = KeyFolder(*stage.keys.folders)
    stage.repository = Repository(stage.published, stage.keys)


def rotate_online(stage: Stage) -> None:
    stage.repository.rotate("online", stage.keys.new("online"))


def rotate_root(stage: Stage) -> None:
    stage.repository.rotate("root", stage.keys.new("root"))


def rotate_online_without_the_old_key(stage: Stage) -> None:
    key = stage.repository.overview()[-1].keys[0].id
    forget(stage, key)
    rotate_online(stage)


ROTATIONS = [rotate_online, rotate_root, rotate_online_without_the_old_key]
Rotation = Callable[[Stage], None]


@pytest.mark.parametrize("rotate", ROTATIONS)
def test_a_client_follows_a_change_of_keys(stage: Stage, rotate: Rotation) -> None:
    rotate(stage)
    stage.repository.publish(NEW)
    refreshed = stage.client.refresh()
    assert (refreshed.manifest.content, refreshed.newer) == (NEW, True)
    assert refreshed.manifest.versions["root"] == 2
    assert stage.trusted() == NEW


def test_a_client_that_was_away_follows_many_changes_of_keys_at_once(stage: Stage) -> None:
    for rotate in (*ROTATIONS, *ROTATIONS):
        rotate(stage)
        stage.repository.publish(rotate.__name__.encode())
    stage.repository.publish(NEW)
    assert stage.client.refresh().manifest.content == NEW
    assert stage.trusted() == NEW


@pytest.mark.parametrize("rotate", ROTATIONS)
def test_a_client_that_brings_the_newest_root_needs_none_of_the_older(
    stage: Stage, rotate: Rotation
) -> None:
    rotate(stage)
    fresh = stage.new_client("fresh", root=stage.repository.root())
    stage.network.asked.clear()
    assert fresh.refresh().manifest.content == OLD
    assert "metadata/2.root.json" not in stage.network.asked


@pytest.mark.parametrize("role", ["root", "online"])
def test_what_a_retired_key_signs_counts_no_more(stage: Stage, role: str) -> None:
    thief = stage.signer if role == "online" else stage.keys.signer(stage.root_keys[0])
    (rotate_online if role == "online" else rotate_root)(stage)
    stage.client.refresh()
    stage.forge(by=dict.fromkeys(("targets", "snapshot", "timestamp"), thief))
    with pytest.raises(Untrusted) as caught:
        stage.client.refresh()
    assert caught.value.details["reason"] == "signature"


def fast_forward(stage: Stage) -> None:
    """A thief with the online key gives everything enormous versions, and a client believes it."""

    def forward(role: Timestamp | Snapshot | Targets) -> None:
        role.version = HIGH
        if isinstance(role, Timestamp):
            role.snapshot_meta.version = HIGH

    kept = {path: path.read_bytes() for path in stage.published.glob("metadata/*")}
    stage.forge(timestamp=forward, snapshot=forward, targets=forward)
    assert stage.client.refresh().manifest.versions["timestamp"] == HIGH
    # The publisher's own copy knows nothing of it.
    for path in stage.published.glob("metadata/*"):
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)


def test_enormous_versions_of_a_thief_lock_nobody_out_once_the_key_is_replaced(
    stage: Stage,
) -> None:
    fast_forward(stage)
    stage.repository.publish(NEW)
    with pytest.raises(Untrusted) as caught:
        stage.client.refresh()
    assert caught.value.details["reason"] == "version"
    rotate_online(stage)
    refreshed = stage.client.refresh()
    assert refreshed.manifest.content == NEW
    assert refreshed.manifest.versions["timestamp"] < HIGH
    assert stage.trusted() == NEW


@pytest.mark.parametrize("lost", ["last_trusted", "metadata/timestamp.json"])
def test_the_copy_that_mends_damage_brings_no_enormous_version_back(
    stage: Stage, lost: str
) -> None:
    fast_forward(stage)
    rotate_online(stage)
    (stage.folder / "client" / lost).unlink()
    assert stage.client.refresh().manifest.versions["timestamp"] < HIGH


def test_a_repository_restored_from_an_old_copy_is_believed_again_after_a_change_of_keys(
    stage: Stage,
) -> None:
    kept = {path: path.read_bytes() for path in stage.published.rglob("*") if path.is_file()}
    for _ in range(5):
        stage.repository.publish(NEW)
    stage.client.refresh()
    for path, data in kept.items():
        path.write_bytes(data)
    stage.repository.publish(b"after the restore")
    with pytest.raises(Untrusted):
        stage.client.refresh()
    # Without the old key, whose signature would make the client remember the higher versions.
    rotate_online_without_the_old_key(stage)
    assert stage.client.refresh().manifest.content == b"after the restore"


REQUESTS = 5
"""Of a client to which everything is new: root, timestamp, snapshot, targets, manifest."""


def at_request(stage: Stage, at: int, act: Callable[[], object]) -> None:
    """Let something happen ahead of one request of the next refresh."""
    stage.network.asked.clear()

    def before(_: str) -> None:
        if len(stage.network.asked) == at + 1:
            stage.network.before = lambda _: None
            act()

    stage.network.before = before


@pytest.mark.parametrize("at", range(REQUESTS))
@pytest.mark.parametrize("rotate", [rotate_online, rotate_root])
def test_a_client_that_reads_in_the_middle_of_a_change_of_keys_notices_nothing(
    stage: Stage, rotate: Rotation, at: int
) -> None:
    stage.repository.publish(NEW)
    at_request(stage, at, lambda: rotate(stage))
    assert stage.client.refresh().manifest.content == NEW
    assert len(stage.network.asked) > at
    assert stage.client.refresh().manifest.content == NEW


@pytest.mark.parametrize("at", range(REQUESTS))
def test_a_client_that_reads_while_a_lost_key_is_replaced_is_refused_once_at_the_most(
    stage: Stage, at: int
) -> None:
    stage.repository.publish(NEW)
    at_request(stage, at, lambda: rotate_online_without_the_old_key(stage))
    try:
        found = stage.client.refresh().manifest.content
    except Untrusted:
        found = stage.trusted()
    assert found in (OLD, NEW)
    assert stage.client.refresh().manifest.content == NEW


@pytest.mark.parametrize("at", range(REQUESTS))
def test_a_client_that_reads_in_the_middle_of_a_publish_gets_one_manifest_or_the_other(
    stage: Stage, at: int
) -> None:
    stage.repository.publish(b"between")
    at_request(stage, at, lambda: stage.repository.publish(NEW))
    assert stage.client.refresh().manifest.content in (b"between", NEW)
    assert stage.client.refresh().manifest.content == NEW
