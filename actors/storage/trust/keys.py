"""The publisher's signing keys: Ed25519, one file each, its owner's alone.

    KEYS/root-4f0c2ad91b7e.key      says which keys count; best on a stick in a drawer
    KEYS/online-9b1d33c07a52.key    signs what is published, as often as once a day

A file is TOML like noyau's other key files. Its public half can be read without a passphrase, so
that keys can be listed and compared; the secret half is plain, or encrypted with AES-256-GCM under
a key that scrypt makes of the passphrase. (PEM would say it in a standard form, but what writes PEM
here stretches a passphrase over 2,048 rounds alone, which a graphics card undoes in an afternoon.)
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from protocol.errors import UnusableKey
from protocol.keyfiles import SUFFIX, read_secret, write_secret

KeyRole = Literal["root", "online"]
AskPassphrase = Callable[[Path], str]
"""Gets the file's path; may raise `UnusableKey`."""

SCRYPT_N: Final = 1 << 17
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""OWASP's password storage cheat sheet: 128 MiB and about half a second for each guess."""
_KDF: Final = f"scrypt-{SCRYPT_N}-{SCRYPT_R}-{SCRYPT_P}"
_NAMED_BY: Final = 12
"""Hex digits of the key's id in its file's name."""


@dataclass(frozen=True)
class SigningKey:
    """A key that lies here, its secret half still in its file."""

    id: str
    """TUF's key id, 64 hex digits: metadata names keys by it."""
    role: KeyRole
    """What it was made for."""
    path: Path
    encrypted: bool
    public: Key


def no_passphrase(path: Path) -> str:
    """An `AskPassphrase` for those who cannot ask."""
    raise UnusableKey(f"the key {path} is encrypted, and no passphrase was given")


class KeyFolder:
    """The keys in one or several folders. Several, because keys that must sign together lie apart.

    Args:
        folder: where new keys are written.
        more: further folders in which keys are looked for.
        passphrase: is asked when an encrypted key has to sign, and only then.
    """

    def __init__(
        self, folder: Path, *more: Path, passphrase: AskPassphrase = no_passphrase
    ) -> None:
        self.folders = (folder, *more)
        self._passphrase = passphrase
        self._opened: dict[str, CryptoSigner] = {}
        """So that a passphrase is asked for once."""

    def new(self, role: KeyRole, passphrase: str | None = None) -> SigningKey:
        """Make a key and write it. Raises `UnusableKey` where that cannot be done."""
        secret = Ed25519PrivateKey.generate()
        public = SSlibKey.from_crypto(secret.public_key())
        path = self.folders[0] / f"{role}-{public.keyid[:_NAMED_BY]}{SUFFIX}"
        write_secret(path, _dump(role, secret, passphrase))
        self._opened[public.keyid] = CryptoSigner(secret)
        return SigningKey(public.keyid, role, path, passphrase is not None, public)

    def find(self, key_id: str) -> SigningKey | None:
        """The key of that id, if its file is here. Raises `UnusableKey` for a broken one."""
        for folder in self.folders:
            for path in sorted(folder.glob(f"*-{key_id[:_NAMED_BY]}{SUFFIX}")):
                key = _public(path, _load(path))
                if key.id == key_id:
                    return key
        return None

    def present(self, role: KeyRole) -> list[SigningKey]:
        """All keys that were made for this and lie here. Raises `UnusableKey` for a broken one."""
        paths = (path for one in self.folders for path in sorted(one.glob(f"{role}-*{SUFFIX}")))
        keys = [_public(path, _load(path)) for path in paths]
        return [key for key in keys if key.role == role]

    def signer(self, key: SigningKey) -> CryptoSigner:
        """What signs with this key. Raises `UnusableKey`, also for a wrong passphrase."""
        if key.id not in self._opened:
            self._opened[key.id] = CryptoSigner(self._secret(key))
        return self._opened[key.id]

    def _secret(self, key: SigningKey) -> Ed25519PrivateKey:
        table = _load(key.path)
        raw = _hex(key.path, table, "secret")
        if key.encrypted:
            raw = self._decrypted(key, table, raw)
        try:
            secret = Ed25519PrivateKey.from_private_bytes(raw)
        except ValueError:
            raise _broken(key.path) from None
        if secret.public_key().public_bytes_raw() != _hex(key.path, table, "public"):
            raise _broken(key.path)
        return secret

    def _decrypted(self, key: SigningKey, table: dict[str, Any], secret: bytes) -> bytes:
        if table.get("kdf") != _KDF:
            raise _broken(key.path)
        stretched = _stretch(self._passphrase(key.path), _hex(key.path, table, "salt"))
        nonce, public = _hex(key.path, table, "nonce"), _hex(key.path, table, "public")
        try:
            return AESGCM(stretched).decrypt(nonce, secret, public)
        except (InvalidTag, ValueError):
            raise UnusableKey(
                f"the passphrase for {key.path} is wrong, or the file is damaged"
            ) from None


def _dump(role: KeyRole, secret: Ed25519PrivateKey, passphrase: str | None) -> str:
    raw, public = secret.private_bytes_raw(), secret.public_key().public_bytes_raw()
    fields = {"role": role, "public": public.hex()}
    if passphrase is None:
        fields["secret"] = raw.hex()
    else:
        salt, nonce = os.urandom(16), os.urandom(12)
        sealed = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, raw, public)
        fields |= {"kdf": _KDF, "salt": salt.hex(), "nonce": nonce.hex(), "secret": sealed.hex()}
    lines = [f'{name} = "{value}"' for name, value in fields.items()]
    head = "# Signs an asset repository of noyau's. The secret one stays here."
    return "\n".join([head, *lines, ""])


def _stretch(passphrase: str, salt: bytes) -> bytes:
    if not passphrase:
        raise UnusableKey("an empty passphrase protects nothing: give another, or none at all")
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32,
        maxmem=2 * 128 * SCRYPT_N * SCRYPT_R,
    )  # fmt: skip


def _load(path: Path) -> dict[str, Any]:
    text = read_secret(path, "look for it where the repository's keys are kept")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise _broken(path) from None


def _public(path: Path, table: dict[str, Any]) -> SigningKey:
    try:
        public = SSlibKey.from_crypto(
            Ed25519PublicKey.from_public_bytes(_hex(path, table, "public"))
        )
    except ValueError:
        raise _broken(path) from None
    role = table.get("role")
    if role not in ("root", "online"):
        raise _broken(path)
    return SigningKey(public.keyid, role, path, "kdf" in table, public)


def _hex(path: Path, table: dict[str, Any], field: str) -> bytes:
    try:
        return bytes.fromhex(table[field])
    except (KeyError, TypeError, ValueError):
        raise _broken(path) from None


def _broken(path: Path) -> UnusableKey:
    return UnusableKey(
        f"{path} is no signing key, or damaged: bring it back from a copy, or make a new key and "
        "let the others put it in its place"
    )
