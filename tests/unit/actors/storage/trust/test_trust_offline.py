"""What was trusted before: verified anew each time, without a network, whatever became of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from actors.storage.trust.chain import Evidence
from protocol.errors import AssetError, AssetUnavailable, DiskFull, Untrusted
from tests.support.trust import NEW, OLD, Stage

STRIDE = 97
"""A prime, so that flips and cuts fall on every kind of place in files of a few kB."""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """With a client that trusts the first manifest and has followed two changes of keys."""
    stage = Stage(tmp_path)
    stage.repository.rotate("online", stage.keys.new("online"))
    stage.repository.rotate("root", stage.keys.new("root"))
    stage.client.refresh()
    stage.network.asked.clear()
    return stage


def kept(stage: Stage) -> Path:
    return stage.folder / "client" / "last_trusted"


def test_what_was_trusted_is_there_without_a_network(stage: Stage) -> None:
    manifest = stage.client.last_trusted(datetime.now(UTC))
    assert manifest.content == OLD
    assert manifest.versions == {"root": 3, "timestamp": 3, "snapshot": 3, "targets": 3}
    assert (manifest.expired, manifest.warning) == ((), None)
    assert stage.network.asked == []


def test_what_has_expired_meanwhile_is_there_and_says_so(stage: Stage) -> None:
    in_a_month = datetime.now(UTC) + timedelta(days=30)
    manifest = stage.client.last_trusted(in_a_month)
    assert (manifest.content, manifest.expired) == (OLD, ("timestamp",))
    assert manifest.expires < in_a_month
    assert manifest.warning is not None
    assert "connect to the repository" in manifest.warning
    in_two_years = datetime.now(UTC) + timedelta(days=730)
    expired = stage.client.last_trusted(in_two_years).expired
    assert expired == ("root", "timestamp", "snapshot", "targets")


def test_a_date_counts_from_the_second_that_it_names(stage: Stage) -> None:
    expires = stage.client.last_trusted(datetime.now(UTC)).expires
    assert stage.client.last_trusted(expires - timedelta(seconds=1)).expired == ()
    assert stage.client.last_trusted(expires).expired == ("timestamp",)


def test_where_nothing_was_trusted_yet_that_is_said(stage: Stage) -> None:
    with pytest.raises(AssetUnavailable, match="connect to the repository and update once"):
        stage.new_client("another").last_trusted(datetime.now(UTC))


def test_a_refresh_that_finds_nothing_newer_says_so_and_asks_for_little(stage: Stage) -> None:
    refreshed = stage.client.refresh()
    assert (refreshed.manifest.content, refreshed.newer) == (OLD, False)
    assert stage.network.asked == ["metadata/4.root.json", "metadata/timestamp.json"]


def test_a_renewed_timestamp_is_not_a_newer_manifest_but_a_later_date(stage: Stage) -> None:
    before = stage.client.last_trusted(datetime.now(UTC)).expires
    stage.time += timedelta(days=2)
    stage.repository.renew()
    refreshed = stage.client.refresh()
    assert not refreshed.newer
    assert refreshed.manifest.expires == before + timedelta(days=2)
    assert stage.client.last_trusted(datetime.now(UTC)).expires == refreshed.manifest.expires


def test_the_same_manifest_published_again_is_not_downloaded_again(stage: Stage) -> None:
    stage.repository.publish(OLD)
    assert not stage.client.refresh().newer
    assert not any(name.startswith("targets/") for name in stage.network.asked)


# A manifest is not believed because it lies there -----------------------------------------------


def test_a_manifest_that_was_put_in_the_place_of_the_trusted_one_is_refused(stage: Stage) -> None:
    evidence = msgspec.msgpack.decode(kept(stage).read_bytes(), type=Evidence)
    kept(stage).write_bytes(msgspec.msgpack.encode(replace(evidence, content=NEW)))
    with pytest.raises(Untrusted, match="fetches it again"):
        stage.trusted()


def test_what_another_repository_signed_is_refused_offline(stage: Stage, tmp_path: Path) -> None:
    other = Stage(tmp_path / "other")
    other.client.refresh()
    shutil.copy(kept(other), kept(stage))
    with pytest.raises(Untrusted):
        stage.trusted()
    assert stage.client.refresh().newer
    assert stage.trusted() == OLD


def test_a_program_with_a_newer_root_goes_on_with_what_an_older_one_trusted(stage: Stage) -> None:
    updated = stage.new_client(root=stage.repository.root())
    assert updated.last_trusted(datetime.now(UTC)).content == OLD


def test_a_program_whose_newer_root_names_other_keys_says_so_and_a_refresh_mends_it(
    stage: Stage,
) -> None:
    stage.repository.rotate("online", stage.keys.new("online"))
    updated = stage.new_client(root=stage.repository.root())
    with pytest.raises(Untrusted, match="older than this program's root"):
        updated.last_trusted(datetime.now(UTC))
    assert updated.refresh().manifest.content == OLD
    assert updated.last_trusted(datetime.now(UTC)).content == OLD


@pytest.mark.parametrize("at", range(5))
def test_a_refresh_that_breaks_off_half_way_leaves_what_was_trusted_whole(
    stage: Stage, at: int
) -> None:
    stage.repository.rotate("online", stage.keys.new("online"))
    stage.repository.publish(NEW)

    def fail(_: str) -> None:
        if len(stage.network.asked) > at:
            raise AssetUnavailable("no network")

    stage.network.before = fail
    with pytest.raises(AssetUnavailable):
        stage.client.refresh()
    assert stage.trusted() == OLD


# Damage -----------------------------------------------------------------------------------------


def damages(data: bytes) -> list[bytes]:
    """A flipped bit and an end, at a stride of places each; empty; and zeros, as a power cut can
    leave them."""
    flips = [
        data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        for at in range(0, len(data), STRIDE)
    ]
    return [*flips, *(data[:at] for at in range(0, len(data), STRIDE)), bytes(len(data))]


def attempt(stage: Stage) -> str | None:
    """Read what was trusted: rightly, or with what was said instead."""
    try:
        found = stage.trusted()
    except Untrusted as error:
        return error.message
    # A flip in what no signature covers, such as the case of a hex digit, harms nothing.
    assert found == OLD
    return None


def test_whatever_is_damaged_in_the_trusted_file_the_error_says_what_to_do(stage: Stage) -> None:
    whole = kept(stage).read_bytes()
    for damaged in damages(whole):
        kept(stage).write_bytes(damaged)
        said = attempt(stage)
        assert said is None or "Connect to the repository and update" in said


@pytest.mark.parametrize(
    "name",
    [
        "last_trusted",
        *(f"metadata/{role}.json" for role in ("root", "timestamp", "snapshot", "targets")),
        *(f"metadata/root_history/{version}.root.json" for version in (1, 2, 3)),
    ],
)
def test_whatever_is_damaged_a_refresh_mends_it(stage: Stage, name: str) -> None:
    path = stage.folder / "client" / name
    whole = path.read_bytes()
    for number, damaged in enumerate(damages(whole)[::5]):
        path.write_bytes(damaged)
        stage.repository.publish(manifest := f"number {number}".encode())
        assert stage.client.refresh().manifest.content == manifest
        assert stage.trusted() == manifest


def test_all_files_damaged_at_once_are_mended_too(stage: Stage) -> None:
    for path in (stage.folder / "client").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0" * 100)
    assert stage.client.refresh().newer
    assert stage.trusted() == OLD


def replace_by_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def replace_by_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def enlarge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 33)


@pytest.mark.parametrize("spoil", [replace_by_folder, replace_by_link_to_nothing, enlarge])
def test_things_that_are_no_files_are_replaced(stage: Stage, spoil: Callable[[Path], None]) -> None:
    for path in [kept(stage), *(stage.folder / "client" / "metadata").rglob("*.json")]:
        spoil(path)
    stage.repository.publish(NEW)
    assert stage.client.refresh().manifest.content == NEW


def test_a_file_in_the_place_of_the_folder_of_roots_is_replaced(stage: Stage) -> None:
    history = stage.folder / "client" / "metadata" / "root_history"
    shutil.rmtree(history)
    history.write_bytes(b"")
    kept(stage).unlink()
    assert stage.client.refresh().manifest.content == OLD


@pytest.mark.parametrize("lost", [["timestamp"], ["snapshot"], ["timestamp", "snapshot"], []])
def test_damage_does_not_open_the_door_for_an_old_state(stage: Stage, lost: list[str]) -> None:
    before = stage.path("timestamp").read_bytes()
    stage.repository.publish(NEW)
    stage.client.refresh()
    metadata = stage.folder / "client" / "metadata"
    for role in lost:
        (metadata / f"{role}.json").write_bytes(b"")
    if not lost:
        shutil.rmtree(metadata)
    stage.path("timestamp").write_bytes(before)
    with pytest.raises(Untrusted) as caught:
        stage.client.refresh()
    assert caught.value.details["reason"] == "version"
    assert stage.trusted() == NEW


def test_a_folder_that_cannot_be_made_is_unavailable_with_the_reason(stage: Stage) -> None:
    (stage.folder / "file").write_bytes(b"")
    client = stage.new_client("file/inside")
    for method in (client.refresh, lambda: client.last_trusted(datetime.now(UTC))):
        with pytest.raises(AssetError, match="did not do its part"):
            method()


def test_a_full_disk_is_told_and_harms_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.repository.publish(NEW)
    with monkeypatch.context() as patched:
        patched.setattr("actors.storage.publishing.os.fsync", _no_space)
        with pytest.raises(DiskFull):
            stage.client.refresh()
        assert stage.trusted() == OLD
    assert stage.client.refresh().manifest.content == NEW


def _no_space(_: int) -> None:
    Path("/dev/full").write_bytes(b"x")
