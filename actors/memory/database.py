"""The database of memory: its file, its errors, and changes that happen once.

One file in WAL mode, and every commit is on disk before it is acknowledged (``synchronous=FULL``):
neither kill -9 nor a power cut takes back what a caller was told. All methods block and belong to
one thread; every change is one transaction together with the key of its request.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from actors.memory.schema import TABLES, VERSION
from protocol.errors import ActorUnavailable, DiskFull, InvalidRequest, SetupError

KEYS_KEPT_S: Final = 24 * 3600.0
"""How long a request is known by its key. Callers send again within their deadline, which is at
most a day."""
SWEEP_EVERY: Final = 1000
"""Changes between two removals of old keys: a removal's cost is then none."""
BUSY_MS: Final = 5000
"""Only a backup or a curious person's shell holds the file beside us; neither does so for long."""

Reply = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One change that is asked for: the key it is known by, and a digest of what it says."""

    key: str
    digest: bytes
    now: float
    """Unix seconds."""


class Database:
    """The database at ``path``, made if it is not there.

    Raises ``SetupError`` when the file is damaged, is of a newer noyau, or is no database of
    noyau's; it is left as it is then. Raises ``DiskFull`` or ``ActorUnavailable`` when the disk
    does not do its part. Every method may raise these three.
    """

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self._changes = 0
        with errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # What people told their assistant is theirs alone; the -wal file follows this mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.db = apsw.Connection(str(path))
            try:
                self._prepare(now)
            except BaseException:
                self.db.close()
                raise

    def _prepare(self, now: float) -> None:
        db = self.db
        db.set_busy_timeout(BUSY_MS)
        found = int(self.one("PRAGMA user_version")[0])
        if found > VERSION:
            raise SetupError(
                f"{self.path} was written by a newer noyau (its tables are of version {found}, "
                f"this noyau knows {VERSION}): upgrade noyau, or give it another data.folder",
                path=str(self.path),
                version=found,
            )
        tables = int(self.one("SELECT count(*) FROM sqlite_master")[0])
        if found == 0 and tables:
            raise SetupError(
                f"{self.path} is a database, but not of noyau's memory: move it away, or give "
                "noyau another data.folder",
                path=str(self.path),
            )
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        # What is forgotten is overwritten, and does not stay readable in the file.
        db.execute("PRAGMA secure_delete=ON")
        if found == 0:
            with self.transaction():
                db.execute(TABLES)
                db.execute(f"PRAGMA user_version={VERSION}")
            _fsync_folder(self.path.parent)
        self._sweep(now)

    def close(self) -> None:
        """Let go of the file."""
        with errors(self.path):
            self.db.close()

    # --- changes, each once ---------------------------------------------------------------

    def recorded(self, request: Request) -> Reply | None:
        """What was replied to the request, if it was carried out already.

        Raises ``InvalidRequest`` when its key belongs to another request.
        """
        with errors(self.path):
            row = self.first("SELECT digest, reply FROM requests WHERE key = ?", request.key)
        if row is None:
            return None
        if row[0] != request.digest:
            raise InvalidRequest(
                f"the key {request.key!r} was used for another request; give each its own key"
            )
        reply: Reply = json.loads(row[1])
        return reply

    def once(self, request: Request, change: Callable[[], Reply]) -> Reply:
        """Carry out the change and record its reply, in one transaction; or return the reply of
        the time before."""
        with errors(self.path), self.transaction():
            done = self.recorded(request)
            if done is not None:
                return done
            reply = change()
            self.db.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?)",
                (request.key, request.digest, json.dumps(reply), request.now),
            )
        self._changes += 1
        if self._changes % SWEEP_EVERY == 0:
            with errors(self.path):
                self._sweep(request.now)
        return reply

    def _sweep(self, now: float) -> None:
        self.db.execute("DELETE FROM requests WHERE at < ?", (now - KEYS_KEPT_S,))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        # IMMEDIATE: whoever else writes is waited for here, not in the middle.
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # Some errors (a full disk) have rolled back by themselves.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def one(self, sql: str, *values: Any) -> tuple[Any, ...]:
        """The only row there is."""
        row: tuple[Any, ...] = next(self.db.execute(sql, values))
        return row

    def first(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row, if there is one."""
        return next(self.db.execute(sql, values), None)


@contextlib.contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system say into noyau's errors."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise SetupError(
            f"{path} is damaged ({error}). Nothing was changed in it. Stop noyau, move the file "
            "and those beside it (-wal, -shm) away, and put a backup in its place; without one, "
            "`sqlite3 FILE .recover` gets out what is still readable",
            path=str(path),
        ) from error
    except apsw.FullError as error:
        raise DiskFull(f"no room to write to {path}; free some space", path=str(path)) from error
    except (apsw.Error, OSError) as error:
        raise ActorUnavailable(
            f"{path} cannot be used: {error}. See to it that noyau may read and write it and its "
            "folder, and that no other program holds it",
            path=str(path),
        ) from error


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
