"""Keys of CURVE (RFC 26/CurveZMQ), and the list of those that may come over TCP. Pure.

A key is 32 bytes (X25519). People see it as 64 hexadecimal digits, which every shell takes as they
are; the 40 characters of Z85 (RFC 32/Z85) that ZeroMQ's own tools show are taken as well.
"""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.errors import UnusableKey
from protocol.messages.base import Role

KEY_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a key may be called: it stands in a file's name and in a TOML table's."""
GIVEN = (Role.OBSERVE, Role.ASK, Role.OPERATE)
"""The roles that a key may be given; `internal` is for noyau's own processes on this machine."""
ROLES: Mapping[str, Role] = {role.name.lower(): role for role in GIVEN}
"""The same, by the words that people use."""

# Z85's digits, in its order, and those of Python's base85: the same algorithm with other letters.
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_B85 = str.maketrans(_Z85, _B85)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key, which others may know, and the secret one that proves who has it."""

    public: str
    """64 hexadecimal digits."""
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorized:
    """A key that may come in, and what it may do."""

    name: str
    key: str
    role: Role
    since: str = ""
    """The day it was let in, as YYYY-MM-DD."""


def parse_key(text: str) -> str:
    """A public or secret key as 64 lower-case hexadecimal digits.

    Raises `UnusableKey` for what is neither those nor Z85. The message never repeats ``text``,
    which may be a secret.
    """
    text = text.strip()
    if len(text) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text).hex()
        except ValueError:
            pass
    elif len(text) == KEY_BYTES * 5 // 4 and set(text) <= set(_Z85):
        try:
            return base64.b85decode(text.translate(_TO_B85)).hex()
        except ValueError:
            pass
    raise UnusableKey(
        f"that is no key: it has {len(text)} characters, where a key has 64 hexadecimal digits, or "
        "40 characters of Z85; `noyau keys new` makes one, `noyau keys list` shows a server's"
    )


def parse_name(text: str) -> str:
    """A key's name. Raises `UnusableKey`."""
    if NAME.fullmatch(text):
        return text
    raise UnusableKey(
        f"{text[:80]!r} cannot name a key: take up to 64 letters, digits, dots, dashes and "
        "underscores, beginning with a letter or digit"
    )


def parse_role(text: str) -> Role:
    """A role that a key may have. Raises `UnusableKey`."""
    role = ROLES.get(text)
    if role is None:
        raise UnusableKey(f"{text[:80]!r} is no role that a key can have; there are: {_listed()}")
    return role


def _listed() -> str:
    return ", ".join(ROLES)


def parse_authorized(text: str, where: str) -> dict[str, Authorized]:
    """The keys of an `authorized` file, by key. Raises `UnusableKey` naming the place in it.

    ::

        [keys.NAME]
        key = "64 hexadecimal digits"
        role = "observe" | "ask" | "operate"
        since = "2026-11-28"
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusableKey(f"{where} is no TOML: {error}; nobody is let in until it is") from None
    found: dict[str, Authorized] = {}
    entries = table.get("keys", {})
    if not isinstance(entries, dict) or set(table) - {"keys"}:
        raise UnusableKey(f"{where} holds tables [keys.NAME], and nothing else")
    for name, entry in entries.items():
        one = _authorized(name, entry, f"{where}, [keys.{name}]")
        if one.key in found:
            raise UnusableKey(f"{where}: {name} and {found[one.key].name} are the same key")
        found[one.key] = one
    return found


def _authorized(name: str, entry: Any, place: str) -> Authorized:
    try:
        if not isinstance(entry, dict) or set(entry) - {"key", "role", "since"}:
            raise UnusableKey("it has a key, a role and perhaps a since, and nothing else")
        values = [entry.get("key", ""), entry.get("role", ""), entry.get("since", "")]
        if not all(isinstance(value, str) for value in values):
            raise UnusableKey("its values are strings")
        key, role, since = values
        return Authorized(parse_name(name), parse_key(key), parse_role(role), since)
    except UnusableKey as error:
        raise UnusableKey(f"{place}: {error.message}") from None


HEAD = """\
# Who may come to this noyau over TCP, and what he may do. `noyau keys` writes this file; it may be
# edited by hand too, and what it says holds from the next message on.
"""


def dump_authorized(keys: Iterable[Authorized]) -> str:
    """The text of an `authorized` file."""
    parts = [HEAD]
    for one in keys:
        part = f'\n[keys."{one.name}"]\nkey = "{one.key}"\nrole = "{one.role.name.lower()}"\n'
        parts.append(part + (f'since = "{one.since}"\n' if one.since else ""))
    return "".join(parts)
