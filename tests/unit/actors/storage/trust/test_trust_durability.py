"""Nothing gets its final name before it is on the disk, and no name is used before that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.trust import NEW, Stage

Happened = tuple[str, Path]


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[Happened]:
    """What was fsynced and what got a new name, in the order in which it really happened."""
    seen = list[Happened]()
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def watched_replace(source: Path, target: Path, **_: object) -> None:
        replace(source, target)
        seen.extend([("from", Path(source)), ("to", Path(target))])

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return seen


def published(happened: list[Happened], folder: Path) -> list[Path]:
    """The final names below ``folder``, in order; each proved to have been reached durably."""
    names = list[Path]()
    for at, (what, path) in enumerate(happened):
        in_a_copy = any(part.startswith(".staging-") for part in path.parts)
        if what == "to" and path.is_relative_to(folder) and not in_a_copy:
            assert happened[at - 2] == ("fsync", happened[at - 1][1])
            assert happened[at + 1] == ("fsync", path.parent)
            names.append(path.relative_to(folder))
    return names


def test_all_that_a_client_keeps_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, happened: list[Happened]
) -> None:
    stage = Stage(tmp_path)
    stage.client.refresh()
    kept = [str(name) for name in published(happened, tmp_path / "client")]
    assert kept == [
        "last_trusted",
        "metadata/root_history/1.root.json",
        "metadata/root.json",
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
    ]
    happened.clear()
    stage.client.refresh()
    assert published(happened, tmp_path / "client") == []


def test_what_a_publisher_writes_is_on_the_disk_before_something_names_it(
    tmp_path: Path, happened: list[Happened]
) -> None:
    stage = Stage(tmp_path)
    happened.clear()
    stage.repository.publish(NEW)
    target, *metadata = [str(name) for name in published(happened, stage.published)]
    assert target.startswith("targets/")
    assert metadata == [
        "metadata/3.targets.json", "metadata/3.snapshot.json", "metadata/timestamp.json",
    ]  # fmt: skip


def test_a_new_key_is_on_the_disk_before_anything_says_that_it_counts(
    tmp_path: Path, happened: list[Happened]
) -> None:
    stage = Stage(tmp_path)
    happened.clear()
    key = stage.keys.new("online")
    (_, written), *folders = happened
    assert written.parent == key.path.parent
    assert folders == [("fsync", key.path.parent), ("fsync", key.path.parent.parent)]
