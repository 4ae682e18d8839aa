"""The run folder is private, ours and short, or refused with a remedy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import EPOCH_CHARACTERS, prepare_run_folder
from protocol.endpoints import MAX_SOCKET_PATH_BYTES as SOCKET_PATH_BYTES
from protocol.endpoints import endpoint
from protocol.errors import RunFolderUnusable

REMEDY = "--set run.folder=/tmp/noyau"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, which pytest's own need not have."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="n") as name:
        yield Path(name)


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


def refused(folder: Path, *actors: str) -> str:
    with pytest.raises(RunFolderUnusable) as caught:
        prepare_run_folder(folder, actors)
    assert REMEDY in str(caught.value)
    assert caught.value.details == {"folder": str(folder)}
    return str(caught.value)


def test_a_folder_is_made_private_with_its_parents(short: Path) -> None:
    folder = short / "a" / "b"
    assert prepare_run_folder(folder, ["storage"]) == folder
    assert mode(folder) == 0o700


def test_a_folder_that_is_right_stays_as_it_is(short: Path) -> None:
    prepare_run_folder(short / "run")
    (short / "run" / "socket").touch()
    prepare_run_folder(short / "run")
    assert [path.name for path in (short / "run").iterdir()] == ["socket"]


def test_a_folder_of_ours_that_others_may_enter_is_made_private(short: Path) -> None:
    short.chmod(0o755)
    prepare_run_folder(short)
    assert mode(short) == 0o700


def test_a_file_in_its_place_is_refused(short: Path) -> None:
    (short / "run").touch()
    assert "it is not a folder" in refused(short / "run")


def test_a_file_among_its_parents_is_refused(short: Path) -> None:
    (short / "a").touch()
    assert "it cannot be made: Not a directory" in refused(short / "a" / "run")


def test_another_user_s_folder_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert "it belongs to another user" in refused(short)


def test_a_folder_that_cannot_be_made_private_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    short.chmod(0o755)
    assert "it cannot be made private: Operation not permitted" in refused(short)


def test_a_file_system_that_ignores_modes_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: None)
    short.chmod(0o755)
    assert "its file system keeps it so" in refused(short)


def folder_of(length: int, under: Path) -> Path:
    return under / ("x" * (length - len(os.fsencode(under)) - 1))


def test_the_longest_socket_may_have_exactly_the_bytes_allowed(short: Path) -> None:
    rest = len(f"/long_actor_name.{'0' * EPOCH_CHARACTERS}")
    fits = folder_of(SOCKET_PATH_BYTES - rest, short)
    assert prepare_run_folder(fits, ["a", "long_actor_name"]).is_dir()
    too_long = folder_of(SOCKET_PATH_BYTES - rest + 1, short)
    assert "too long by 1 byte:" in refused(too_long, "a", "long_actor_name")
    assert not too_long.exists()


def test_length_is_counted_in_bytes_not_characters(short: Path) -> None:
    assert "too long by" in refused(short / ("é" * 45))


def test_the_supervisor_s_own_socket_counts_too(short: Path) -> None:
    rest = len(f"/supervisor.{'0' * EPOCH_CHARACTERS}")
    assert "supervisor" in refused(folder_of(SOCKET_PATH_BYTES - rest + 3, short), "a")


def test_an_endpoint_names_the_incarnation() -> None:
    assert endpoint(Path("/tmp/noyau"), "storage", "0123") == "ipc:///tmp/noyau/storage.0123"
    assert endpoint(Path("/tmp/noyau"), "supervisor") == "ipc:///tmp/noyau/supervisor"
