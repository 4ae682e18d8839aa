"""How long a repository is believed, and the copy of its root beside the keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.storage.trust.roles import KeyState, RoleState, Validity
from actors.storage.trust.root_file import RootFile
from protocol.errors import AssetUnavailable, InvalidRequest

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HERE = KeyState("a" * 64, Path("root-a.key"), False)
AWAY = KeyState("b" * 64, None, False)


def validity(
    root: timedelta, timestamp: timedelta = 7 * DAY, keys: tuple[KeyState, ...] = (HERE,),
    threshold: int = 1,
) -> Validity:  # fmt: skip
    """Of a repository whose roles expire so much later."""
    return Validity(
        (
            RoleState("root", 1, NOW + root, threshold, keys),
            RoleState("targets", 1, NOW + 300 * DAY, 1, (HERE,)),
            RoleState("snapshot", 1, NOW + 300 * DAY, 1, (HERE,)),
            RoleState("timestamp", 1, NOW + timestamp, 1, (HERE,)),
        ),
        NOW,
    )


@pytest.mark.parametrize(
    ("root", "timestamp", "first", "left"),
    [(365, 7, "timestamp", 7), (3, 7, "root", 3), (365, 330, "targets", 300)],
)
def test_a_repository_is_believed_until_the_first_of_its_roles_expires(
    root: int, timestamp: int, first: str, left: int
) -> None:
    found = validity(root * DAY, timestamp * DAY)
    assert (found.first.role, found.left) == (first, left * DAY)


@pytest.mark.parametrize(
    ("left", "due", "expired"),
    [
        (31 * DAY, False, False),
        (30 * DAY, True, False),
        (timedelta(seconds=1), True, False),
        (timedelta(0), True, True),
        (-DAY, True, True),
    ],
)
def test_a_root_is_due_thirty_days_before_it_expires(
    left: timedelta, due: bool, expired: bool
) -> None:
    found = validity(left)
    assert (found.root_is_due, found.root_expired) == (due, expired)


@pytest.mark.parametrize(
    ("keys", "threshold", "here"),
    [((HERE,), 1, True), ((AWAY,), 1, False), ((HERE, AWAY), 2, False), ((HERE, AWAY), 1, True)],
)
def test_a_root_can_be_renewed_where_as_many_keys_are_here_as_must_sign(
    keys: tuple[KeyState, ...], threshold: int, here: bool
) -> None:
    assert validity(DAY, keys=keys, threshold=threshold).root_keys_are_here is here


def test_a_root_beside_the_keys_is_put_there_once_and_replaced_by_newer_ones(
    tmp_path: Path,
) -> None:
    file = RootFile(tmp_path)
    assert file.fits([])
    assert file.add([b"1"])
    assert not file.add([b"1", b"2"])
    assert file.fits([b"1", b"2"])
    file.replace([b"1", b"2"])
    assert file.path.read_bytes() == b"2"
    with pytest.raises(InvalidRequest, match="is no root of the repository in site"):
        file.check([b"1"], Path("site"))
    with pytest.raises(InvalidRequest, match="these keys have one elsewhere"):
        file.check([], Path("site"))


def test_what_lies_in_the_place_of_the_root_and_is_no_file_is_told_and_kept(
    tmp_path: Path,
) -> None:
    file = RootFile(tmp_path)
    file.path.symlink_to("nowhere")
    with pytest.raises(InvalidRequest, match="leads nowhere"):
        file.check([b"1"], Path("site"))
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(InvalidRequest, match="cannot be read: Is a directory"):
        file.check([b"1"], Path("site"))
    assert not file.add([b"1"])
    assert file.path.is_dir()


def test_a_root_that_cannot_be_written_names_the_file_to_copy(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    file = RootFile(tmp_path / "keys")
    for write in (file.add, file.replace):
        with pytest.raises(AssetUnavailable, match=r"Copy metadata/2\.root\.json"):
            write([b"1", b"2"])
