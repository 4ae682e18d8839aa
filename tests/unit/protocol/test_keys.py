"""Keys as people see them, and the lists and files that they lie in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from protocol.curve import new_key_pair
from protocol.errors import UnusableKey
from protocol.keyfiles import (
    AuthorizedKeys,
    client_key_path,
    read_key_pair,
    server_key_pair,
    write_key_pair,
)
from protocol.keys import Authorized, dump_authorized, parse_authorized, parse_key
from protocol.messages.base import Role

A, B = "aa" * 32, "bb" * 32


# --- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [bytes(32), bytes(range(32)), b"\xff" * 32, b"\x00\x01" * 16])
def test_a_key_is_read_as_hexadecimal_digits_and_as_z85(raw: bytes) -> None:
    assert parse_key(raw.hex()) == parse_key(f" {raw.hex().upper()}\n") == raw.hex()
    assert parse_key(z85.encode(raw).decode()) == raw.hex()


def test_a_new_key_is_one_that_zmq_takes() -> None:
    pair = new_key_pair()
    secret = z85.encode(bytes.fromhex(pair.secret))
    assert z85.decode(zmq.curve_public(secret)).hex() == pair.public
    assert new_key_pair() != pair


@pytest.mark.parametrize(
    "text",
    ["", "aa", "g" * 64, "aa" * 31, "aa" * 33, "~" * 40, "%" * 40, "é" * 64, "a a" * 21 + "a"],
)
def test_what_is_no_key_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(UnusableKey, match="64 hexadecimal digits") as caught:
        parse_key(text)
    assert len(text) < 3 or text not in caught.value.message


def test_a_secret_is_not_shown_with_its_pair() -> None:
    pair = new_key_pair()
    assert pair.secret not in repr(pair)


# --- the list -------------------------------------------------------------------------------


def test_a_list_comes_back_as_it_was_written() -> None:
    keys = [Authorized("laptop", A, Role.ASK, "2026-11-28"), Authorized("a.b-c_1", B, Role.OBSERVE)]
    assert parse_authorized(dump_authorized(keys), "here") == {one.key: one for one in keys}
    assert parse_authorized(dump_authorized([]), "here") == {}
    assert parse_authorized("", "here") == {}


ENTRY = f'[keys.x]\nkey = "{A}"\nrole = "ask"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[keys.", "is no TOML"),
        ("keys = 3", "nothing else"),
        (ENTRY + "[others]", "nothing else"),
        (ENTRY.replace("ask", "internal"), "there are: observe, ask, operate"),
        (ENTRY.replace('"ask"', "3"), "are strings"),
        (ENTRY.replace(A, "aa"), r"\[keys.x\]: that is no key"),
        (ENTRY.replace("key =", "kee ="), "a key, a role"),
        ("[keys.x]", "that is no key"),
        ("keys.x = 3", "a key, a role"),
        (ENTRY.replace("keys.x", 'keys."x/y"'), "cannot name a key"),
        (ENTRY + ENTRY.replace("keys.x", "keys.y"), "y and x are the same key"),
    ],
)
def test_a_broken_list_says_where_and_what(text: str, problem: str) -> None:
    with pytest.raises(UnusableKey, match=problem) as caught:
        parse_authorized(text, "authorized.toml")
    assert "authorized.toml" in caught.value.message


def test_a_change_of_the_list_holds_for_the_next_question(tmp_path: Path) -> None:
    keys = AuthorizedKeys(tmp_path / "keys")
    assert keys.role(A) is None
    keys.write([Authorized("x", A, Role.ASK)])
    assert keys.role(A) is Role.ASK
    assert keys.role(B) is None
    keys.write([Authorized("x", A, Role.OBSERVE)])
    assert keys.role(A) is Role.OBSERVE
    keys.path.write_text("[keys.")
    assert keys.role(A) is None
    assert "is no TOML" in keys.problem
    keys.write([Authorized("x", A, Role.OPERATE)])
    assert keys.role(A) is Role.OPERATE
    assert keys.problem == ""
    keys.path.unlink()
    assert keys.role(A) is None


def test_what_could_not_be_read_is_read_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = AuthorizedKeys(tmp_path)
    keys.write([Authorized("x", A, Role.ASK)])
    assert keys.role(A) is Role.ASK

    def fails(path: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", fails)
        assert keys.role(A) is None
        assert "Permission denied" in keys.problem
    assert keys.role(A) is Role.ASK
    assert keys.problem == ""


def test_a_list_that_others_can_write_lets_nobody_in(tmp_path: Path) -> None:
    keys = AuthorizedKeys(tmp_path)
    keys.write([Authorized("x", A, Role.ASK)])
    keys.path.chmod(0o666)
    assert keys.role(A) is None
    assert "chmod 600" in keys.problem
    # The owner mends it; nothing but its mode changes.
    keys.path.chmod(0o600)
    assert keys.role(A) is Role.ASK


def test_who_changes_the_list_does_not_lose_what_another_wrote(tmp_path: Path) -> None:
    keys = AuthorizedKeys(tmp_path / "keys")
    with keys.changing() as listed:
        listed.append(Authorized("x", A, Role.ASK))
    with keys.changing() as listed:
        assert [one.name for one in listed] == ["x"]
        listed.append(Authorized("y", B, Role.ASK))

    def change_in_vain() -> None:
        with keys.changing() as listed:
            listed.clear()
            raise UnusableKey("it goes wrong")

    with pytest.raises(UnusableKey):
        change_in_vain()
    assert [one.name for one in keys.read()] == ["x", "y"]


# --- files ----------------------------------------------------------------------------------


def test_a_key_file_is_its_owners_alone_and_never_written_over(tmp_path: Path) -> None:
    path, pair = tmp_path / "keys" / "x.key", new_key_pair()
    write_key_pair(path, pair)
    assert read_key_pair(path) == pair
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UnusableKey, match="already"):
        write_key_pair(path, new_key_pair())
    assert read_key_pair(path) == pair
    assert os.listdir(path.parent) == ["x.key"]


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (None, 0, "`noyau keys new` makes one"),
        (f'public = "{A}"\nsecret = "{B}"', 0o644, "chmod 600"),
        (f'public = "{A}"', 0o600, "is no key file"),
        ("\xff\xfe", 0o600, "is no key file"),
        (f'public = "{A}"\nsecret = "bb"', 0o600, "that is no key"),
    ],
)
def test_an_unusable_key_file_says_what_to_do(
    tmp_path: Path, content: str | None, mode: int, problem: str
) -> None:
    path = tmp_path / "x.key"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
        path.chmod(mode)
    with pytest.raises(UnusableKey, match=problem) as caught:
        read_key_pair(path)
    assert str(path) in caught.value.message


def test_the_servers_key_is_made_once(tmp_path: Path) -> None:
    first = server_key_pair(tmp_path / "keys", new_key_pair)
    assert server_key_pair(tmp_path / "keys", new_key_pair) == first


def test_a_key_is_found_by_name_or_by_path() -> None:
    environ = {"XDG_CONFIG_HOME": "/c"}
    assert client_key_path("desk", environ) == Path("/c/noyau/keys/desk.key")
    assert client_key_path("./desk.key", environ) == Path("desk.key")
    assert client_key_path("~/desk.key", environ) == Path.home() / "desk.key"
