"""Whoever stands between publisher and client, or has stolen a key, brings about no update."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from actors.storage.trust.roles import Lifetimes
from protocol.clock import ManualClock
from protocol.errors import AssetError, AssetUnavailable, Cancelled, Untrusted, UnusableKey
from tests.support.trust import NEW, OLD, Stage, read, sign, stranger

FILES = ("root", "timestamp", "snapshot", "targets", "manifest")
SIGNED = ("root", "timestamp", "snapshot", "targets")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """With one client that trusts the first manifest."""
    stage = Stage(tmp_path)
    stage.client.refresh()
    stage.network.asked.clear()
    return stage


@pytest.fixture
def two_roots(tmp_path: Path) -> Stage:
    """With a client that knows the first one alone."""
    stage = Stage(tmp_path)
    stage.repository.renew_root()
    return stage


def refused(stage: Stage, reason: str, trusted: bytes = OLD) -> None:
    """A refresh is refused, and what was trusted stays."""
    with pytest.raises(Untrusted) as caught:
        stage.client.refresh()
    assert caught.value.details["reason"] == reason
    assert "No update is taken" in caught.value.message
    assert stage.trusted() == trusted


def next_name(stage: Stage, role: str) -> str:
    """What the client will ask for: a root that is not there yet, or the newest of the others."""
    return "metadata/2.root.json" if role == "root" else stage.name(role)


# Old states -------------------------------------------------------------------------------------


def test_an_old_timestamp_is_refused(stage: Stage) -> None:
    before = stage.path("timestamp").read_bytes()
    stage.repository.publish(NEW)
    stage.client.refresh()
    stage.path("timestamp").write_bytes(before)
    refused(stage, "version", trusted=NEW)


def test_an_older_snapshot_in_a_newer_timestamp_is_refused_though_the_signatures_are_right(
    stage: Stage,
) -> None:
    def back(snapshot: Snapshot) -> None:
        snapshot.version = 1

    stage.repository.publish(NEW)
    stage.client.refresh()
    stage.forge(snapshot=back)
    refused(stage, "version", trusted=NEW)


def test_older_targets_in_a_newer_snapshot_are_refused_though_the_signatures_are_right(
    stage: Stage,
) -> None:
    def back(targets: Targets) -> None:
        targets.version = 1

    stage.repository.publish(NEW)
    stage.client.refresh()
    stage.forge(targets=back)
    refused(stage, "version", trusted=NEW)


def test_a_snapshot_that_no_longer_names_the_targets_is_refused(stage: Stage) -> None:
    def drop(snapshot: Snapshot) -> None:
        snapshot.meta = {"others.json": MetaFile(3)}

    stage.forge(snapshot=drop)
    refused(stage, "malformed")


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_that_skips_or_repeats_a_version_is_refused(stage: Stage, version: int) -> None:
    root = read(Root, stage.first)
    root.version = version
    data = sign(root, stage.keys.signer(stage.root_keys[0]))
    stage.network.answers["metadata/2.root.json"] = lambda: [data]
    refused(stage, "version")


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_a_file_with_another_version_than_the_one_that_names_it_says_is_refused(
    stage: Stage, role: str
) -> None:
    def unhashed(named: MetaFile) -> MetaFile:
        return MetaFile(named.version + 1)

    def change(one: Timestamp | Snapshot) -> None:
        if isinstance(one, Timestamp):
            one.snapshot_meta = unhashed(one.snapshot_meta)
        else:
            one.meta["targets.json"] = unhashed(one.meta["targets.json"])

    if role == "snapshot":
        stage.forge(timestamp=change)
    else:
        stage.forge(snapshot=change)
    metadata = stage.published / "metadata"
    # What lies under the name that will be asked for is genuine, but for its version.
    (metadata / f"4.{role}.json").write_bytes((metadata / f"3.{role}.json").read_bytes())
    refused(stage, "version")


# Held back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", SIGNED)
def test_what_has_expired_is_refused(tmp_path: Path, role: str) -> None:
    short, long = timedelta(days=7), timedelta(days=300)
    lifetimes = Lifetimes(**{one: short if one == role else long for one in SIGNED})
    long_ago = datetime.now(UTC) - timedelta(days=30)
    stage = Stage(tmp_path, time=long_ago, lifetimes=lifetimes)
    with pytest.raises(Untrusted, match="by this machine's clock") as caught:
        stage.client.refresh()
    assert caught.value.details["reason"] == "expired"
    with pytest.raises(AssetUnavailable, match="update once"):
        stage.trusted()


def test_a_mirror_that_shows_the_same_state_for_ever_is_refused_once_that_has_expired(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, time=datetime.now(UTC) - timedelta(days=30))
    stage.trusted_long_ago()
    refused(stage, "expired")


def test_a_new_state_that_has_expired_is_refused(stage: Stage) -> None:
    stage.time -= timedelta(days=8)
    stage.repository.publish(NEW)
    refused(stage, "expired")


# Mixed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_files_of_two_states_do_not_go_together(stage: Stage, role: str) -> None:
    old = stage.path(role).read_bytes()
    stage.repository.publish(NEW)
    stage.network.answers[stage.name(role)] = lambda: [old]
    refused(stage, "hash")


@pytest.mark.parametrize("content", [OLD, NEW[::-1], NEW[:-1], b""])
def test_a_manifest_other_than_the_signed_one_is_refused(stage: Stage, content: bytes) -> None:
    stage.repository.publish(NEW)
    stage.network.answers[stage.name("manifest")] = lambda: [content]
    with pytest.raises(Untrusted):
        stage.client.refresh()
    assert stage.trusted() == OLD


def test_metadata_of_one_role_is_not_taken_for_another(stage: Stage) -> None:
    stage.repository.publish(NEW)
    snapshot = stage.path("snapshot").read_bytes()
    stage.network.answers[stage.name("timestamp")] = lambda: [snapshot]
    refused(stage, "malformed")


def test_another_repository_of_the_same_shape_is_refused(stage: Stage, tmp_path: Path) -> None:
    other = Stage(tmp_path / "other")
    other.repository.publish(NEW)
    stage.network.folder = other.published
    refused(stage, "signature")


# Too much, too slow -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", FILES)
def test_an_endless_answer_is_cut_off_at_the_length_that_it_may_have(
    stage: Stage, role: str
) -> None:
    stage.repository.publish(NEW)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in itertools.count():
            sent += 1000
            yield b" " * 1000

    stage.network.answers[next_name(stage, role)] = endless
    refused(stage, "length")
    # The others' lengths are signed, and are those of a few hundred bytes.
    assert sent <= {"root": 512_000, "timestamp": 16_384}.get(role, 2_000) + 1000


@pytest.mark.parametrize("role", FILES)
def test_an_answer_that_drips_is_given_up(stage: Stage, role: str) -> None:
    clock = ManualClock()
    stage.repository.publish(NEW)
    stage.client = stage.new_client(clock=clock, within_s=60)

    def drip() -> Iterator[bytes]:
        while True:
            clock.advance(1)
            yield b""

    stage.network.answers[next_name(stage, role)] = drip
    with pytest.raises(AssetUnavailable, match="60 s"):
        stage.client.refresh()
    assert clock.now() <= 61
    assert stage.trusted() == OLD


def test_ever_more_roots_are_given_up_and_those_that_hold_are_kept(stage: Stage) -> None:
    clock = ManualClock()
    stage.client = stage.new_client(clock=clock, within_s=60)
    root, signer = read(Root, stage.first), stage.keys.signer(stage.root_keys[0])

    def another(name: str) -> None:
        clock.advance(1)
        root.version = int(name.removeprefix("metadata/").removesuffix(".root.json"))
        data = sign(root, signer)
        stage.network.answers[name] = lambda: [data]

    stage.network.before = another
    for _ in range(2):
        with pytest.raises(AssetUnavailable, match="60 s"):
            stage.client.refresh()
    # The second refresh began where the first one had come to.
    assert root.version == 120
    assert stage.trusted() == OLD


def test_a_manifest_that_is_signed_and_enormous_is_not_even_begun(stage: Stage) -> None:
    def enormous(targets: Targets) -> None:
        targets.targets["manifest.json"].length = 1 << 40

    stage.forge(targets=enormous)
    with pytest.raises(Untrusted, match="ask the publisher"):
        stage.client.refresh()
    assert not any(name.startswith("targets/") for name in stage.network.asked)
    assert stage.trusted() == OLD


def test_cancelling_ends_a_refresh_at_the_next_piece(stage: Stage) -> None:
    stage.repository.publish(NEW)
    with pytest.raises(Cancelled):
        stage.client.refresh(cancelled=lambda: "metadata/timestamp.json" in stage.network.asked)
    assert stage.network.asked[-1] == "metadata/timestamp.json"
    assert stage.trusted() == OLD


# Wrong keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_another_key_signed_is_refused_though_all_that_names_it_is_genuine(
    stage: Stage, role: str
) -> None:
    stage.forge(by={role: stranger()})
    refused(stage, "signature")


@pytest.mark.parametrize("signed_by", ["a stranger", "the new keys alone", "the old keys alone"])
def test_a_root_that_not_both_old_and_new_keys_signed_is_refused(
    stage: Stage, signed_by: str
) -> None:
    root, new = read(Root, stage.first), stranger()
    root.version = 2
    if signed_by != "a stranger":
        root.revoke_key(stage.root_keys[0].id, "root")
        root.add_key(new.public_key, "root")
    old = stage.keys.signer(stage.root_keys[0])
    data = sign(root, old if signed_by == "the old keys alone" else new)
    stage.network.answers["metadata/2.root.json"] = lambda: [data]
    refused(stage, "signature")


@pytest.mark.parametrize("signers", [(0,), (0, 0), (1,)])
def test_a_root_that_fewer_keys_signed_than_the_threshold_says_is_refused(
    tmp_path: Path, signers: tuple[int, ...]
) -> None:
    stage = Stage(tmp_path, root_keys=2)
    stage.client.refresh()
    root = read(Root, stage.first)
    root.version = 2
    data = sign(root, *(stage.keys.signer(stage.root_keys[index]) for index in signers))
    stage.network.answers["metadata/2.root.json"] = lambda: [data]
    refused(stage, "signature")


def test_one_key_under_two_names_does_not_meet_a_threshold_of_two(tmp_path: Path) -> None:
    stage = Stage(tmp_path, root_keys=2)
    stage.client.refresh()
    root, signer = read(Root, stage.first), stage.keys.signer(stage.root_keys[0])
    root.version = 2
    metadata = Metadata[Root].from_bytes(sign(root, signer))
    (signature,) = metadata.signatures.values()
    signature.keyid = stage.root_keys[1].id
    metadata.signatures[signature.keyid] = signature
    metadata.signatures[stage.root_keys[0].id] = signer.sign(metadata.signed_bytes)
    stage.network.answers["metadata/2.root.json"] = lambda: [metadata.to_bytes()]
    refused(stage, "signature")


def test_the_online_key_cannot_sign_a_root(stage: Stage) -> None:
    root = read(Root, stage.first)
    root.version = 2
    data = sign(root, stage.signer)
    stage.network.answers["metadata/2.root.json"] = lambda: [data]
    refused(stage, "signature")


# Nonsense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", SIGNED)
@pytest.mark.parametrize(
    "content",
    [b"", b"<html>log in first</html>", b"{}", b"[" * 10_000, b'{"signed": {}, "signatures": []}'],
)
def test_what_is_no_metadata_is_refused(stage: Stage, role: str, content: bytes) -> None:
    stage.repository.publish(NEW)
    stage.network.answers[next_name(stage, role)] = lambda: [content]
    with pytest.raises(Untrusted):
        stage.client.refresh()
    assert stage.trusted() == OLD


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    role=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 3),
    put=st.binary(max_size=8),
)
def test_no_change_of_any_file_on_its_way_brings_anything_but_a_typed_error(
    two_roots: Stage, role: str, place: float, cut: int, put: bytes
) -> None:
    stage = two_roots
    data = (stage.published / stage.name(role)).read_bytes()
    at = int(place * len(data))
    stage.network.answers = {stage.name(role): lambda: [data[:at] + put + data[at + cut :]]}
    shutil.rmtree(stage.folder / "client", ignore_errors=True)
    try:
        assert stage.client.refresh().manifest.content == OLD
    except AssetError:
        with pytest.raises(AssetUnavailable, match="update once"):
            stage.trusted()


# Nothing there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(5))
def test_wherever_the_network_fails_nothing_is_lost_and_the_next_refresh_goes_on(
    stage: Stage, at: int
) -> None:
    stage.repository.publish(NEW)

    def fail(_: str) -> None:
        if len(stage.network.asked) == at + 1:
            raise AssetUnavailable("no network")

    stage.network.before = fail
    with pytest.raises(AssetUnavailable, match="no network"):
        stage.client.refresh()
    assert stage.trusted() == OLD
    assert stage.client.refresh().manifest.content == NEW


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "manifest"])
def test_a_repository_that_lacks_a_file_is_unavailable(stage: Stage, role: str) -> None:
    stage.repository.publish(NEW)
    name = stage.name(role)
    content = (stage.published / name).read_bytes()
    (stage.published / name).unlink()
    with pytest.raises(AssetUnavailable, match="not complete"):
        stage.client.refresh()
    assert stage.trusted() == OLD
    (stage.published / name).write_bytes(content)
    assert stage.client.refresh().manifest.content == NEW


def test_a_repository_that_has_published_nothing_yet_is_unavailable(stage: Stage) -> None:
    def nothing(targets: Targets) -> None:
        targets.targets = {"other.json": TargetFile.from_data("other.json", b"x", ["sha256"])}

    stage.forge(targets=nothing)
    with pytest.raises(AssetUnavailable, match=r"published no manifest\.json"):
        stage.client.refresh()
    assert stage.trusted() == OLD


@pytest.mark.parametrize("root", [b"", b"{}", b"junk"])
def test_a_first_root_that_is_none_is_refused_at_once(stage: Stage, root: bytes) -> None:
    with pytest.raises(UnusableKey, match="from the publisher"):
        stage.new_client(root=root)


def test_a_first_root_that_its_own_keys_did_not_sign_is_refused_at_once(stage: Stage) -> None:
    with pytest.raises(UnusableKey, match="signed by 0/1"):
        stage.new_client(root=sign(read(Root, stage.first), stranger()))
