"""The table of accepted work in `storage.db`: the one thing that must not be forgotten.

SQLite through apsw: the standard library's is old enough to have the WAL-reset corruption bug.
``synchronous=FULL``: a row that was acknowledged is there after a power loss too (measured under a
simulated one: FULL kept 200 of 200 rows, NORMAL lost all).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from actors.storage.work import (
    WORK,
    DeathBounds,
    Deaths,
    Return,
    Work,
    WorkEvent,
    WorkState,
    accepted_by,
    died_over,
)
from protocol.errors import DiskFull, InternalError, InvalidSettings, NotFound

SCHEMA_VERSION = 2
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
    in_hand INTEGER NOT NULL,
    taken_up INTEGER NOT NULL,
    deaths TEXT NOT NULL,
    deaths_in_all INTEGER NOT NULL,
    emitted INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    ended_at REAL,
    error_code TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX work_open ON work (kind, accepted_at) WHERE state = 'accepted';
CREATE INDEX work_ended ON work (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX work_poisoned ON work (kind, ended_at) WHERE error_code = 'poisoned';
"""
_COLUMNS = (
    "id, kind, state, request, holder, in_hand, taken_up, deaths, deaths_in_all, emitted, "
    "accepted_at, ended_at, error_code"
)
_CHANGING = ", ".join(f"{name} = ?" for name in _COLUMNS.split(", ")[4:])
POISONED_SHOWN = 1000
"""Those of a week are some few; each is an id."""


class WorkTable:
    """Not for use by two threads at once. Every method is one transaction and has returned only
    when that is on the disk."""

    def __init__(self, path: Path, bounds: DeathBounds) -> None:
        """Open or make the database. ``bounds``: how many deaths work is tried through. Raises
        `InvalidSettings` when the file is no database of ours, and `DiskFull`."""
        self._path = path
        self._bounds = bounds
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
        self,
        id_: str,
        kind: str,
        request: Mapping[str, object],
        holder: str,
        now: float,
        returned: Return | None = None,
    ) -> Work:
        """Commit a piece of work, or take up one that is there; returns the row, see `accepted_by`.

        ``holder`` is the incarnation that has it: the same one may ask again, and nothing changes.
        ``returned`` says that it comes back because its holder died.
        """
        new = Work(id_, kind, WorkState.ACCEPTED, dict(request), holder, now)
        with self._transaction():
            before = self._find(id_)
            work = accepted_by(before, new, returned, self._bounds)
            if before is None:
                self._db.execute(
                    f"INSERT INTO work ({_COLUMNS}) VALUES (?, ?, ?, ?{', ?' * 9})",
                    (work.id, work.kind, work.state, json.dumps(work.request), *_changing(work)),
                )
            elif work != before:
                self._update(work)
            return work

    def died(self, id_: str, died: str, emitted: int, now: float) -> Work:
        """A process died over it: count that, or end it; returns the row, see `died_over`. Raises
        `NotFound`."""
        with self._transaction():
            before = self._get(id_)
            work = died_over(before, died, emitted, self._bounds, now)
            if work != before:
                self._update(work)
            return work

    def settle(self, id_: str, event: WorkEvent, now: float, error_code: str = "") -> Work:
        """End it. Ending it again in the same way changes nothing. Raises `NotFound`, and
        `IllegalTransition` when it ended in the other way."""
        with self._transaction():
            work = self._get(id_)
            if work.state.value == event.value:
                return work
            state = WORK.next(work.state, event)
            work = replace(work, state=state, ended_at=now, error_code=error_code)
            self._update(work)
            return work

    def open_work(self, kind: str) -> list[Work]:
        """All that is accepted and has not ended, oldest first."""
        with self._errors():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM work WHERE kind = ? AND state = 'accepted' "
                "ORDER BY accepted_at",
                (kind,),
            )
            return [_work(row) for row in rows]

    def poisoned(self, kind: str) -> list[str]:
        """The ids of what ended because too many processes died over it, newest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id FROM work WHERE kind = ? AND error_code = 'poisoned' "
                "ORDER BY ended_at DESC LIMIT ?",
                (kind, POISONED_SHOWN),
            )
            return [str(id_) for (id_,) in rows]

    def prune(self, now: float) -> int:
        """Forget what ended more than `KEPT_S` ago; returns how many."""
        with self._transaction():
            self._db.execute("DELETE FROM work WHERE ended_at < ?", (now - KEPT_S,))
            return self._db.changes()

    def _update(self, work: Work) -> None:
        self._db.execute(
            f"UPDATE work SET state = ?, {_CHANGING} WHERE id = ?",
            (work.state, *_changing(work), work.id),
        )

    def _find(self, id_: str) -> Work | None:
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM work WHERE id = ?", (id_,)):
            return _work(row)
        return None

    def _get(self, id_: str) -> Work:
        work = self._find(id_)
        if work is None:
            raise NotFound(f"there is no work {id_!r}", id=id_)
        return work

    def close(self) -> None:
        """Let go of the file. What was returned is on the disk already."""
        with self._errors():
            self._db.close()


def _changing(work: Work) -> tuple[str | int | float | None, ...]:
    """The columns that change, but for the state, in their order."""
    deaths = work.deaths
    return (
        work.holder, work.in_hand, work.taken_up, json.dumps(deaths.in_a_row), deaths.in_all,
        deaths.emitted, work.accepted_at, work.ended_at, work.error_code,
    )  # fmt: skip


def _work(row: tuple[Any, ...]) -> Work:
    """A row; STRICT tables hold nothing of another type."""
    (
        id_, kind, state, request, holder, in_hand, taken_up, in_a_row, in_all, emitted,
        accepted_at, ended_at, error_code,
    ) = row  # fmt: skip
    return Work(
        id=id_, kind=kind, state=WorkState(state), request=json.loads(request), holder=holder,
        in_hand=bool(in_hand), taken_up=taken_up,
        deaths=Deaths(tuple(json.loads(in_a_row)), emitted, in_all),
        accepted_at=accepted_at, ended_at=ended_at, error_code=error_code,
    )  # fmt: skip
