"""Signing keys on disk: their owner's alone, whole or refused, encrypted if he likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.storage.trust.keys import KeyFolder, SigningKey
from protocol.errors import UnusableKey

MESSAGE = b"what is signed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_new_key_is_its_owners_alone_and_named_by_what_it_is_for(folder: Path) -> None:
    key = KeyFolder(folder).new("root")
    assert key.path == folder / f"root-{key.id[:12]}.key"
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not key.encrypted


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_a_key_that_is_read_again_signs_like_the_one_that_was_made(
    folder: Path, passphrase: str | None
) -> None:
    made = KeyFolder(folder)
    key = made.new("online", passphrase)
    asked = list[Path]()

    def ask(path: Path) -> str:
        asked.append(path)
        return passphrase or ""

    keys = KeyFolder(folder, passphrase=ask)
    found = keys.find(key.id)
    assert found == key
    for _ in range(2):
        signature = keys.signer(found).sign(MESSAGE)
        key.public.verify_signature(signature, MESSAGE)
    # Asked once, though it signed twice; the one who made it is not asked at all.
    assert asked == ([key.path] if passphrase else [])
    assert made.signer(key).sign(MESSAGE) == signature


def test_the_secret_of_an_encrypted_key_is_not_in_its_file(folder: Path) -> None:
    plain, sealed = KeyFolder(folder).new("root"), KeyFolder(folder).new("root", "correct horse")
    assert "kdf" not in plain.path.read_text()
    lines = dict(line.split(" = ") for line in sealed.path.read_text().splitlines()[1:])
    # 32 bytes and the 16 of the seal.
    assert len(lines["secret"].strip('"')) == 2 * 48
    assert sealed.encrypted


def test_a_wrong_passphrase_is_refused(folder: Path) -> None:
    key = KeyFolder(folder).new("root", "correct horse")
    with pytest.raises(UnusableKey, match="passphrase"):
        KeyFolder(folder, passphrase=lambda _: "battery staple").signer(key)


def test_a_passphrase_that_nobody_gives_is_missed(folder: Path) -> None:
    key = KeyFolder(folder).new("root", "correct horse")
    with pytest.raises(UnusableKey, match="is encrypted, and no passphrase was given"):
        KeyFolder(folder).signer(key)


def test_an_empty_passphrase_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(UnusableKey, match="protects nothing"):
        KeyFolder(folder).new("root", "")
    assert not folder.exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_key_that_lies_open_to_others_is_refused(folder: Path, mode: int) -> None:
    keys = KeyFolder(folder)
    key = keys.new("root")
    key.path.chmod(mode)
    with pytest.raises(UnusableKey, match="chmod 600"):
        keys.find(key.id)


def test_a_key_in_any_of_the_folders_is_found(folder: Path, tmp_path: Path) -> None:
    key = KeyFolder(tmp_path / "stick").new("root")
    assert KeyFolder(folder, tmp_path / "stick").find(key.id) == key
    assert KeyFolder(folder).find(key.id) is None


def test_keys_whose_names_begin_alike_are_told_apart(folder: Path) -> None:
    keys = KeyFolder(folder)
    mine, other = keys.new("root"), keys.new("online")
    alike = other.path.with_name(f"another-{mine.id[:12]}.key")
    other.path.rename(alike)
    assert keys.find(mine.id) == mine
    assert keys.find(other.id) is None


def attempt(keys: KeyFolder, key: SigningKey) -> str | None:
    """Sign with what is left of a key: rightly, or with what was said instead."""
    try:
        found = keys.find(key.id)
        signature = None if found is None else keys.signer(found).sign(MESSAGE)
    except UnusableKey as error:
        return error.message
    # Where the damage is in what nobody reads, such as a comment.
    if signature is not None:
        key.public.verify_signature(signature, MESSAGE)
    return None


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_a_damaged_key_file_never_signs(folder: Path, passphrase: str | None) -> None:
    key = KeyFolder(folder).new("root", passphrase)
    whole = key.path.read_bytes()
    # Each guess of a passphrase is expensive by intention: fewer places there.
    for at in range(whole.index(b"role"), len(whole), 1 if passphrase is None else 17):
        for damaged in (whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :], whole[:at]):
            key.path.write_bytes(damaged)
            said = attempt(KeyFolder(folder, passphrase=lambda _: passphrase or ""), key)
            assert said is None or str(key.path) in said


def test_a_file_with_the_halves_of_two_keys_does_not_sign(folder: Path) -> None:
    keys = KeyFolder(folder)
    key, other = keys.new("root"), keys.new("root")
    lines = [one.path.read_text().splitlines() for one in (key, other)]
    assert lines[0][3].startswith("secret")
    key.path.write_text("\n".join([*lines[0][:3], lines[1][3]]))
    again = KeyFolder(folder)
    assert again.find(key.id) == key
    with pytest.raises(UnusableKey, match="damaged"):
        again.signer(key)


def test_a_key_that_vanished_meanwhile_is_missed(folder: Path) -> None:
    key = KeyFolder(folder).new("root")
    key.path.unlink()
    with pytest.raises(UnusableKey, match="there is no key at"):
        KeyFolder(folder).signer(key)
