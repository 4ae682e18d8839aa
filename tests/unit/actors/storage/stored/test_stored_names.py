"""Names of stored files: each is one file on every file system, and none leads outside."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.stored.entries import StoredFile, expiry, from_disk_name, revision_after
from actors.storage.stored.names import check_name, check_owner
from protocol.errors import InvalidRequest

HEX = "blake3-" + "0123456789abcdef" * 4
GOOD = ("a", "0", "report.json", "traces/2026-01-31.jsonl", "a_b-c.d/e", "a..b", "con1", "x" * 120)
BAD = {
    "empty": "",
    "up": "..",
    "up in the middle": "a/../b",
    "here": "./a",
    "absolute": "/etc/passwd",
    "a part that is empty": "a//b",
    "a folder": "a/",
    "hidden": ".bashrc",
    "backslash": "a\\b",
    "drive": "c:a",
    "nul byte": "a\0b",
    "newline": "a\n",
    "a space": "a b",
    "a capital letter": "README",
    "another script": "отчёт",
    "an accent": "é",
    "a combined accent": "e\u0301",
    "fullwidth": "ａ",
    "a digit of another script": "٣",
    "a dot at the end": "a.",
    "half of a character": "\ud800",
    "a device": "con",
    "a device with an ending": "logs/nul.txt",
    "a port": "com7.tar.gz",
    "the sign of disk names": "a@1",
    "the sign for /": "a+b",
    "too long": "x" * 121,
}

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?(/[a-z0-9]{1,8}){0,3}", fullmatch=True)


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_is_safe_everywhere_is_allowed(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", BAD.values(), ids=BAD.keys())
def test_any_other_is_refused_with_what_would_be_right(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"such as traces/2026-01-31\.jsonl"):
        check_name(name)


@given(st.text("ab1./_-AKéıſ\u0301ａ\u212a", max_size=8))
def test_no_two_allowed_names_are_one_to_any_file_system(name: str) -> None:
    try:
        check_name(name)
    except InvalidRequest:
        return
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unicodedata.normalize(form, name).casefold() == name
    assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"


@pytest.mark.parametrize("owner", ["storage", "job_worker", "gpu2"])
def test_an_owner_is_the_name_of_an_actor(owner: str) -> None:
    assert check_owner(owner) == owner


@pytest.mark.parametrize(
    "owner", ["", "..", ".staging", "a/b", "Storage", "con", "a b", "1st", "x" * 65, "é"]
)
def test_no_folder_is_made_for_anything_else(owner: str) -> None:
    with pytest.raises(InvalidRequest):
        check_owner(owner)


# --- names on disk --------------------------------------------------------------------------


@given(
    names,
    st.integers(0, 10**19 - 1), st.integers(0, 10**12 - 1), st.integers(0, 10**15 - 1),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip
def test_all_that_is_known_of_a_file_is_read_off_its_name_on_disk(
    name: str, revision: int, expires_at: int, size: int, digest: bytes
) -> None:
    try:
        check_name(name)
    except InvalidRequest:
        return
    file = StoredFile("telemetry", name, revision, expires_at, size, f"blake3-{digest.hex()}")
    assert from_disk_name("telemetry", file.disk_name) == file
    assert "/" not in file.disk_name
    assert len(file.disk_name.encode()) <= 255


def test_the_longest_name_fits_every_file_system() -> None:
    file = StoredFile("o", "x" * 120, 10**19 - 1, 10**12 - 1, 10**15 - 1, HEX)
    assert len(file.disk_name.encode()) == 241


@pytest.mark.parametrize(
    "text",
    [
        "", "notes.txt", ".lock", f"a@1.0.5.{HEX[:-1]}", f"a@1.0.5.{HEX}0", f"A@1.0.5.{HEX}",
        f"..@1.0.5.{HEX}", f"a@01.0.5.{HEX}", f"a@1.00.5.{HEX}", f"a@1.0.٥.{HEX}",
        f"a@1.0.-5.{HEX}", f"a@1.0.5.{HEX.upper()}", f"a@1.0.5.{HEX}\n", f"con@1.0.5.{HEX}",
        f"a@1.0.5.{HEX}.tmp",
    ],
)  # fmt: skip
def test_what_storage_did_not_name_is_no_file_of_it(text: str) -> None:
    assert from_disk_name("o", text) is None


def test_a_later_save_has_a_higher_revision_also_when_the_clock_went_back() -> None:
    first = StoredFile("o", "a", revision_after(1000.0, None), 0, 1, HEX)
    assert first.saved_at == 1000.0
    assert revision_after(1001.0, first) == 1_001_000_000
    assert revision_after(1000.0, first) == revision_after(5.0, first) == first.revision + 1


def test_a_file_is_there_until_its_time_is_over_and_no_longer() -> None:
    until = expiry(1000.25, 60)
    assert until == 1061
    file = StoredFile("o", "a", 1, until, 1, HEX)
    assert [file.expired(now) for now in (1060.9, 1061.0, 1e12)] == [False, True, True]
    assert not StoredFile("o", "a", 1, expiry(1000.0, None), 1, HEX).expired(1e12)
