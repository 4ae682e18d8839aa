"""Paths in manifests: none leaves the asset folder, on any file system."""

import pytest

from actors.storage.paths import STORE_ENTRIES, check_asset_path, collisions


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "models/../../x", "", ".", "a//b", "./a", "a/", "a\\b", "a\nb"),
        *("a\x00b", *sorted(STORE_ENTRIES), "staging/x", "Staging/x", "install.lock"),
        *("c:/x", "a/b:stream", "a*", 'a"b', "a|b", "a\u202eb", "e\u0301"),
        *("a/" + "x" * 256, "x/" * 600 + "x"),
    ],
)
def test_no_path_leaves_the_asset_folder_or_hits_the_stores_own_files(path: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_asset_path(path)


@pytest.mark.parametrize("path", ["con", "models/NUL.gguf", "a/com1.txt/b", "LPT9", "aux .x"])
def test_no_path_is_a_device(path: str) -> None:
    with pytest.raises(ValueError, match="a device on Windows"):
        check_asset_path(path)


@pytest.mark.parametrize("path", ["a.", "a /b", " a", "models/x. "])
def test_no_part_has_an_end_that_a_file_system_drops(path: str) -> None:
    with pytest.raises(ValueError, match="begin or end with a space"):
        check_asset_path(path)


@pytest.mark.parametrize(
    "path", ["x.gguf", "models/x.gguf", "a/b/c d.bin", "models/staging/x", "con2", "é/ü"]
)
def test_a_plain_relative_path_is_taken(path: str) -> None:
    assert check_asset_path(path) == path


@pytest.mark.parametrize(
    ("one", "other"), [("A/x", "a/X"), ("straße", "STRASSE"), ("ﬁle", "file"), ("É", "é")]
)
def test_two_paths_that_some_file_system_takes_for_one_collide(one: str, other: str) -> None:
    assert list(collisions([one, other])) == [
        f"the paths {one!r} and {other!r} are one where case does not count"
    ]


def test_a_path_cannot_be_anothers_folder() -> None:
    assert list(collisions(["a/b", "A"])) == ["the path 'A' is the folder that 'a/b' lies in"]


def test_different_paths_do_not_collide() -> None:
    assert list(collisions(["a/b", "a/c", "b/a", "ab"])) == []
