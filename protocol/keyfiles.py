"""Where keys lie on disk: key pairs, one file each, and the list of those that may come in.

A file with a secret is its owner's alone (0600), or it is refused, as ssh does. Files are replaced
whole, so that nobody reads half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from protocol.errors import UnusableKey
from protocol.keys import Authorized, KeyPair, dump_authorized, parse_authorized, parse_key
from protocol.messages.base import Role

SUFFIX = ".key"
SERVER_FOLDER = "keys"
"""In a noyau's data folder: its own key, and the list of those that may come in."""
DEFAULT_NAME = "default"
"""The client's key that is taken where none is named."""


def client_keys_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where a person's own keys are: ``$XDG_CONFIG_HOME/noyau/keys``, else ``~/.config/…``."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification: an empty or relative one counts as unset.
    root = Path(base) if base.startswith("/") else Path.home() / ".config"
    return root / "noyau" / "keys"


def client_key_path(name: str, environ: Mapping[str, str] | None = None) -> Path:
    """A key's file: the one of that name, or the one at that path, where it has a slash."""
    if "/" in name:
        return Path(name).expanduser()
    return client_keys_folder(environ) / f"{name}{SUFFIX}"


def read_secret(path: Path, remedy: str) -> str:
    """The text of a file with a secret. Raises `UnusableKey` where there is none, which ``remedy``
    says how to get, and where it lies open to others."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        raise UnusableKey(f"there is no key at {path}: {remedy}") from None
    except OSError as error:
        raise UnusableKey(f"the key {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise UnusableKey(f"others can read the secret key {path}: chmod 600 {path}")
    return text


def write_secret(path: Path, text: str) -> None:
    """Write a new file, its owner's alone. Raises `UnusableKey` where there is one already: a key
    that is lost cannot be had back."""
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise UnusableKey(f"{path.parent} is no folder: keys need one of their own")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = _written(path, text)
        try:
            # Never over another one: a link, unlike a rename, refuses that.
            os.link(temporary, path)
        finally:
            temporary.unlink()
        # The folder may be new as well.
        _sync(path.parent)
        _sync(path.parent.parent)
    except FileExistsError:
        raise UnusableKey(f"there is a key at {path} already: name the new one otherwise") from None
    except OSError as error:
        raise UnusableKey(f"the key {path} cannot be written: {error.strerror}") from None


def read_key_pair(path: Path) -> KeyPair:
    """The key pair in a file. Raises `UnusableKey`, which says what to do."""
    text = read_secret(path, "`noyau keys new` makes one")
    try:
        table = tomllib.loads(text)
        return KeyPair(parse_key(str(table["public"])), parse_key(str(table["secret"])))
    except (tomllib.TOMLDecodeError, KeyError):
        raise UnusableKey(
            f"{path} is no key file, which holds a public and a secret key; make a new one with "
            "`noyau keys new`"
        ) from None
    except UnusableKey as error:
        raise UnusableKey(f"{path}: {error.message}") from None


def write_key_pair(path: Path, pair: KeyPair) -> None:
    """Write a new file. Raises `UnusableKey`, also where there is one already."""
    text = (
        "# A key of noyau's. Others may know the public one; the secret one stays here.\n"
        f'public = "{pair.public}"\nsecret = "{pair.secret}"\n'
    )
    write_secret(path, text)


def _written(path: Path, text: str) -> Path:
    """A new file beside ``path``, its owner's alone, with its content on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(name)  # noqa: PTH108 - it is a plain name here
        raise
    return Path(name)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def server_key_pair(folder: Path, make: Callable[[], KeyPair]) -> KeyPair:
    """The server's own key pair, made when it is first needed. Raises `UnusableKey`."""
    path = folder / f"server{SUFFIX}"
    if not path.exists():
        try:
            write_key_pair(path, make())
        except UnusableKey:
            # Another process of the same noyau was faster.
            if not path.exists():
                raise
    return read_key_pair(path)


class AuthorizedKeys:
    """The list on disk of who may come in. Each question looks whether it has changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "authorized.toml"
        self.problem = ""
        """Why nobody is let in, where the file cannot be read."""
        self._keys: dict[str, Authorized] = {}
        self._seen: tuple[int, ...] | None = None

    def role(self, key: str) -> Role | None:
        """What this key may do; None for one that may not come in."""
        self._look()
        found = self._keys.get(key)
        return None if found is None else found.role

    def _look(self) -> None:
        try:
            stat = os.stat(self.path)  # noqa: PTH116 - for every message: a Path costs as much again
            # With the time of the last change of anything, its owner and mode included.
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
            if seen == self._seen:
                return
            self._keys = {one.key: one for one in self.read()}
            # As it was before it was read: what was written meanwhile shows as another change.
            self._seen, self.problem = seen, ""
        except FileNotFoundError:
            self._seen, self._keys, self.problem = None, {}, ""
        except (OSError, UnusableKey) as error:
            # Looked at anew with the next message: what keeps it from being read may pass.
            self._seen, self._keys, self.problem = None, {}, str(error)

    def read(self) -> list[Authorized]:
        """All of them, in the file's order. Raises `UnusableKey` for a broken file."""
        try:
            with self.path.open() as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableKey(f"{self.path} cannot be read: {error}") from None
        if mode & 0o022:
            raise UnusableKey(
                f"others can write to {self.path}, and so let in whom they like: chmod 600 "
                f"{self.path}"
            )
        return list(parse_authorized(text, str(self.path)).values())

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[Authorized]]:
        """The list, for whoever changes it: written when the block ends without an error. One after
        the other. Raises `UnusableKey`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise UnusableKey(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = self.read()
            yield keys
            self.write(keys)
        finally:
            os.close(folder)

    def write(self, keys: Iterable[Authorized]) -> None:
        """Replace the list. Raises `UnusableKey`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _written(self.path, dump_authorized(keys)).replace(self.path)
            _sync(self.path.parent)
        except OSError as error:
            raise UnusableKey(f"{self.path} cannot be written: {error.strerror}") from None
