"""One set of metadata and the file that it speaks for: each link of the chain, taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.exceptions import (
    BadVersionNumberError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from actors.storage.trust.chain import (
    Evidence,
    first_root,
    following,
    last_root,
    newest,
    next_root,
    prove,
)
from tests.support.trust import NEW, OLD, Stage, read, sign, stranger

NAME = "manifest.json"
KINDS = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """With three roots: online keys changed, then root keys."""
    stage = Stage(tmp_path)
    stage.repository.rotate("online", stage.keys.new("online"))
    stage.repository.rotate("root", stage.keys.new("root"))
    return stage


def online(stage: Stage) -> Signer:
    found = stage.keys.find(stage.repository.overview()[-1].keys[0].id)
    assert found is not None
    return stage.keys.signer(found)


def evidence(stage: Stage) -> Evidence:
    """Of the newest state that lies there, whether it holds or not."""
    metadata = stage.published / "metadata"

    def last(role: str) -> bytes:
        versions = [int(path.name.split(".")[0]) for path in metadata.glob(f"*.{role}.json")]
        return (metadata / f"{max(versions)}.{role}.json").read_bytes()

    timestamp = (metadata / "timestamp.json").read_bytes()
    roots = tuple((metadata / f"{version}.root.json").read_bytes() for version in (2, 3))
    targets = last("targets")
    (target,) = read(Targets, targets).targets.values()
    content = (stage.published / "targets" / target.get_prefixed_paths()[0]).read_bytes()
    return Evidence(roots, timestamp, last("snapshot"), targets, content)


def rewritten(
    stage: Stage, by: dict[str, Signer] | None = None, **changes: Callable[[Any], object]
) -> Evidence:
    """The next state, with changes, each file named by the next as it then is."""
    stage.forge({role: online(stage) for role in KINDS} | (by or {}), **changes)
    return evidence(stage)


def test_whole_evidence_is_proven_with_versions_and_dates(stage: Stage) -> None:
    proven = prove(evidence(stage), stage.first, NAME)
    assert proven.content == OLD
    assert proven.versions == {"root": 3, "timestamp": 3, "snapshot": 3, "targets": 3}
    assert proven.expires.keys() == proven.versions.keys()


def test_evidence_that_was_rewritten_with_the_right_keys_is_proven(stage: Stage) -> None:
    assert prove(rewritten(stage), stage.first, NAME).versions["timestamp"] == 4


@pytest.mark.parametrize("role", KINDS)
def test_each_role_must_be_signed_by_the_keys_that_the_root_names(stage: Stage, role: str) -> None:
    with pytest.raises(UnsignedMetadataError, match=role):
        prove(rewritten(stage, {role: stranger()}), stage.first, NAME)


@pytest.mark.parametrize("role", KINDS)
def test_keys_that_were_retired_do_not_count(stage: Stage, role: str) -> None:
    with pytest.raises(UnsignedMetadataError, match=role):
        prove(rewritten(stage, {role: stage.signer}), stage.first, NAME)


def test_no_role_stands_for_another(stage: Stage) -> None:
    whole = evidence(stage)
    for wrong in (
        replace(whole, timestamp=whole.snapshot),
        replace(whole, snapshot=whole.targets),
        replace(whole, targets=whole.timestamp),
    ):
        with pytest.raises(RepositoryError, match="this is"):
            prove(wrong, stage.first, NAME)


def test_each_file_must_be_the_one_that_is_named(stage: Stage) -> None:
    before = evidence(stage)
    stage.repository.publish(NEW)
    whole = evidence(stage)
    for mixed in (
        replace(whole, snapshot=before.snapshot),
        replace(whole, targets=before.targets),
        replace(whole, content=before.content),
    ):
        with pytest.raises(LengthOrHashMismatchError):
            prove(mixed, stage.first, NAME)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_where_no_hash_is_named_the_version_counts(stage: Stage, role: str) -> None:
    def next_snapshot(timestamp: Timestamp) -> None:
        timestamp.snapshot_meta = MetaFile(timestamp.snapshot_meta.version + 1)

    def next_targets(snapshot: Snapshot) -> None:
        snapshot.meta["targets.json"] = MetaFile(snapshot.meta["targets.json"].version + 1)

    forged = (
        rewritten(stage, timestamp=next_snapshot)
        if role == "snapshot"
        else rewritten(stage, snapshot=next_targets)
    )
    with pytest.raises(BadVersionNumberError, match=f"{role} is version 4, not 5"):
        prove(forged, stage.first, NAME)


def test_targets_that_the_snapshot_does_not_name_prove_nothing(stage: Stage) -> None:
    def drop(snapshot: Snapshot) -> None:
        snapshot.meta = {"others.json": MetaFile(1)}

    with pytest.raises(RepositoryError, match="does not name"):
        prove(rewritten(stage, snapshot=drop), stage.first, NAME)


def test_a_file_that_the_targets_do_not_name_is_not_proven(stage: Stage) -> None:
    with pytest.raises(RepositoryError, match=r"do not name other\.json"):
        prove(evidence(stage), stage.first, "other.json")


# Roots ------------------------------------------------------------------------------------------


def test_a_missing_link_ends_the_chain(stage: Stage) -> None:
    # Signed by the newest key alone: the one before signed for the last time when it was changed.
    stage.repository.publish(NEW)
    whole = evidence(stage)
    with pytest.raises(RepositoryError):
        prove(replace(whole, roots=whole.roots[1:]), stage.first, NAME)
    with pytest.raises(RepositoryError):
        prove(replace(whole, roots=whole.roots[::-1]), stage.first, NAME)
    with pytest.raises(UnsignedMetadataError, match="timestamp"):
        prove(replace(whole, roots=()), stage.first, NAME)


def test_roots_not_newer_than_the_first_are_passed_over(stage: Stage) -> None:
    whole = evidence(stage)
    assert prove(whole, whole.roots[0], NAME).versions["root"] == 3
    assert prove(whole, whole.roots[1], NAME).versions["root"] == 3


@pytest.mark.parametrize("signers", ["old", "new", "stranger"])
def test_a_root_must_be_signed_by_the_keys_of_both(stage: Stage, signers: str) -> None:
    first, new = read(Root, stage.first), stranger()
    second = read(Root, stage.first)
    second.version = 2
    second.revoke_key(stage.root_keys[0].id, "root")
    second.add_key(new.public_key, "root")
    old = stage.keys.signer(stage.root_keys[0])
    by = {"old": old, "new": new, "stranger": stranger()}[signers]
    with pytest.raises(UnsignedMetadataError):
        next_root(first, sign(second, by))
    assert next_root(first, sign(second, old, new)).version == 2


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_must_be_one_higher(stage: Stage, version: int) -> None:
    root = read(Root, stage.first)
    root.version = version
    data = sign(root, stage.keys.signer(stage.root_keys[0]))
    with pytest.raises(BadVersionNumberError):
        next_root(first_root(stage.first), data)


def test_of_many_candidates_those_that_follow_are_kept(stage: Stage) -> None:
    second, third = evidence(stage).roots
    first, damaged = stage.first, second.replace(b'"version":2', b'"version":9')
    assert damaged != second
    assert following(first, [b"junk", first, second, damaged, third]) == [second, third]
    assert following(first, [third, damaged]) == []
    assert last_root(first, [second, third]).version == 3


def test_of_several_copies_the_newest_that_holds_is_taken(stage: Stage) -> None:
    root, old = last_root(stage.first, evidence(stage).roots), evidence(stage).timestamp
    stage.repository.renew()
    new = evidence(stage).timestamp
    forged = read(Timestamp, new)
    forged.version = 99
    candidates = [b"junk", old, sign(forged, stranger()), new, old]
    assert newest(root, Timestamp, candidates) == new
    assert newest(root, Timestamp, [b"junk"]) is None
