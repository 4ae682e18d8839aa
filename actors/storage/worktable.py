"""The table of accepted work in `storage.db`: the one thing that must not be forgotten.

SQLite through apsw: the standard library's is old enough to have the WAL-reset corruption bug.
``synchronous=FULL``: a row that was acknowledged is there after a power loss too (measured under a
simulated one: FULL kept 200 of 200 rows, NORMAL lost all).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import apsw

from actors.storage.work import WORK, Work, WorkEvent, WorkState
from protocol.errors import DiskFull, InternalError, InvalidSettings, NotFound

SCHEMA_VERSION = 1
KEPT_S = 7 * 24 * 3600.0
"""Ended work is kept for a week: long enough to look into what happened on a Friday."""
BUSY_MS = 5000

_SCHEMA = """
CREATE TABLE work (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    holder TEXT NOT NULL,
    taken_up INTEGER NOT NULL DEFAULT 0,
    accepted_at REAL NOT NULL,
    ended_at REAL,
    error_code TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX work_open ON work (kind, accepted_at) WHERE state = 'accepted';
CREATE INDEX work_ended ON work (ended_at) WHERE ended_at IS NOT NULL;
"""
_COLUMNS = "id, kind, state, request, taken_up, accepted_at, ended_at, error_code"


class WorkTable:
    """Not for use by two threads at once. Every method is one transaction and has returned only
    when that is on the disk."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises `InvalidSettings` when the file is no database of
        ours, and `DiskFull`."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._db = apsw.Connection(str(path))
            self._db.set_busy_timeout(BUSY_MS)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()

    def _migrate(self) -> None:
        ((version,),) = self._db.execute("PRAGMA user_version")
        if version == 0:
            with self._transaction():
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise InvalidSettings(
                f"{self._path} has version {version}, this noyau knows {SCHEMA_VERSION}: use the "
                "noyau that wrote it, or another data folder"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing. Not apsw's own: where SQLite has rolled back by itself already, as
        it does on a full disk, that one fails on top of it."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours, with the file and what to do."""
        try:
            yield
        except apsw.FullError:
            raise DiskFull(f"no room for {self._path}: make some, then try again") from None
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise InvalidSettings(
                f"{self._path} is damaged or no database ({error}); move it away, and a new one is "
                "made: what it held of unfinished queries is lost, nothing else"
            ) from None
        except apsw.Error as error:
            raise InternalError(f"{self._path}: {error}") from None

    def accept(
        self, id_: str, kind: str, request: Mapping[str, object], holder: str, now: float
    ) -> Work:
        """Commit a piece of work, or take up one that is there; returns the row.

        ``holder`` is the incarnation that has it: the same one may ask again, and nothing changes.
        Work that ended stays as it is.
        """
        text = json.dumps(dict(request))
        with self._transaction():
            self._db.execute(
                "INSERT INTO work (id, kind, state, request, holder, accepted_at) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET taken_up = taken_up + 1, holder = excluded.holder "
                "WHERE holder <> excluded.holder AND state = ?",
                (id_, kind, WorkState.ACCEPTED, text, holder, now, WorkState.ACCEPTED),
            )
            return self._get(id_)

    def settle(self, id_: str, event: WorkEvent, now: float, error_code: str = "") -> Work:
        """End it. Ending it again in the same way changes nothing. Raises `NotFound`, and
        `IllegalTransition` when it ended in the other way."""
        with self._transaction():
            work = self._get(id_)
            if work.state.value == event.value:
                return work
            state = WORK.next(work.state, event)
            self._db.execute(
                "UPDATE work SET state = ?, ended_at = ?, error_code = ? WHERE id = ?",
                (state, now, error_code, id_),
            )
            return self._get(id_)

    def open_work(self, kind: str) -> list[Work]:
        """All that is accepted and has not ended, oldest first."""
        with self._errors():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM work WHERE kind = ? AND state = 'accepted' "
                "ORDER BY accepted_at",
                (kind,),
            )
            return [_work(row) for row in rows]

    def prune(self, now: float) -> int:
        """Forget what ended more than `KEPT_S` ago; returns how many."""
        with self._transaction():
            self._db.execute("DELETE FROM work WHERE ended_at < ?", (now - KEPT_S,))
            return self._db.changes()

    def _get(self, id_: str) -> Work:
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM work WHERE id = ?", (id_,)):
            return _work(row)
        raise NotFound(f"there is no work {id_!r}", id=id_)

    def close(self) -> None:
        """Let go of the file. What was returned is on the disk already."""
        with self._errors():
            self._db.close()


def _work(row: tuple[object, ...]) -> Work:
    id_, kind, state, request, taken_up, accepted_at, ended_at, error_code = row
    assert isinstance(request, str)
    return Work(
        str(id_), str(kind), WorkState(str(state)), json.loads(request), int(str(taken_up)),
        float(str(accepted_at)), None if ended_at is None else float(str(ended_at)),
        str(error_code),
    )  # fmt: skip
