"""The database of memory: the one place that knows SQL.

One file in WAL mode, and every commit is on disk before it is acknowledged (``synchronous=FULL``):
neither kill -9 nor a power cut takes back what a caller was told. All methods block and belong to
one thread; every change is one transaction together with the key of its request.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from actors.memory.schema import TABLES, VERSION
from actors.memory.texts import title_of
from protocol.envelope import new_id
from protocol.errors import ActorUnavailable, DiskFull, InvalidRequest, NotFound, SetupError

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


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One memory. ``number`` is what its vector is known by."""

    number: int
    id: str
    text: str
    source: str
    created_at: float


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn; ``metadata`` is JSON."""

    role: str
    content: str
    metadata: str
    number: int = -1
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One conversation without its turns."""

    number: int
    id: str
    title: str
    turns: int
    created_at: float
    updated_at: float


class Store:
    """The database at ``path``, made if it is not there.

    Raises ``SetupError`` when the file is damaged, is of a newer noyau, or is no database of
    noyau's; it is left as it is then. Raises ``DiskFull`` or ``ActorUnavailable`` when the disk
    does not do its part. Every method may raise these three.
    """

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self._changes = 0
        with _errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # What people told their assistant is theirs alone; the -wal file follows this mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = apsw.Connection(str(path))
            try:
                self._prepare(now)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, now: float) -> None:
        db = self._db
        db.set_busy_timeout(BUSY_MS)
        found = int(self._one("PRAGMA user_version")[0])
        if found > VERSION:
            raise SetupError(
                f"{self.path} was written by a newer noyau (its tables are of version {found}, "
                f"this noyau knows {VERSION}): upgrade noyau, or give it another data.folder",
                path=str(self.path),
                version=found,
            )
        tables = int(self._one("SELECT count(*) FROM sqlite_master")[0])
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
            with self._transaction():
                db.execute(TABLES)
                db.execute(f"PRAGMA user_version={VERSION}")
            _fsync_folder(self.path.parent)
        self._sweep(now)

    def close(self) -> None:
        """Let go of the file."""
        with _errors(self.path):
            self._db.close()

    # --- changes, each once ---------------------------------------------------------------

    def recorded(self, request: Request) -> Reply | None:
        """What was replied to the request, if it was carried out already.

        Raises ``InvalidRequest`` when its key belongs to another request.
        """
        with _errors(self.path):
            row = self._first("SELECT digest, reply FROM requests WHERE key = ?", request.key)
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
        with _errors(self.path), self._transaction():
            done = self.recorded(request)
            if done is not None:
                return done
            reply = change()
            self._db.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?)",
                (request.key, request.digest, json.dumps(reply), request.now),
            )
        self._changes += 1
        if self._changes % SWEEP_EVERY == 0:
            with _errors(self.path):
                self._sweep(request.now)
        return reply

    def _sweep(self, now: float) -> None:
        self._db.execute("DELETE FROM requests WHERE at < ?", (now - KEYS_KEPT_S,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: whoever else writes is waited for here, not in the middle.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # Some errors (a full disk) have rolled back by themselves.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _one(self, sql: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = next(self._db.execute(sql, values))
        return row

    def _first(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        return next(self._db.execute(sql, values), None)

    # --- memories -------------------------------------------------------------------------

    def add_memory(
        self, request: Request, text: str, source: str, model: str, vector: bytes, reply: Reply
    ) -> tuple[Reply, int | None]:
        """Store a memory and its vector; its id is put into ``reply``. Returns the reply and the
        new memory's number, None when this was done before."""
        made: list[int] = []

        def change() -> Reply:
            identity = new_id().hex()
            self._db.execute(
                "INSERT INTO memories (id, text, source, created_at) VALUES (?, ?, ?, ?)",
                (identity, text, source, request.now),
            )
            number = self._db.last_insert_rowid()
            self._db.execute("INSERT INTO vectors VALUES (?, ?, ?)", (number, model, vector))
            made.append(number)
            return reply | {"id": identity}

        answer = self.once(request, change)
        return answer, made[0] if made else None

    def memories(self, offset: int, limit: int) -> tuple[list[MemoryRow], int]:
        """A page of memories, the newest first, and how many there are in all."""
        with _errors(self.path):
            rows = self._db.execute(
                "SELECT * FROM memories ORDER BY number DESC LIMIT ? OFFSET ?", (limit, offset)
            )
            return [MemoryRow(*row) for row in rows], self.count_memories()

    def count_memories(self) -> int:
        """How many memories there are."""
        with _errors(self.path):
            return int(self._one("SELECT count(*) FROM memories")[0])

    def by_numbers(self, numbers: Sequence[int]) -> dict[int, MemoryRow]:
        """The memories with these numbers, as far as they are there."""
        with _errors(self.path):
            rows = self._db.execute(
                "SELECT * FROM memories WHERE number IN (SELECT value FROM json_each(?))",
                (json.dumps(list(numbers)),),
            )
            return {row[0]: MemoryRow(*row) for row in rows}

    def forget_memories(self, request: Request, ids: Sequence[str]) -> tuple[Reply, list[int]]:
        """Remove memories and their vectors. Returns the reply and the numbers that are gone."""
        gone: list[int] = []

        def change() -> Reply:
            rows = self._db.execute(
                "DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?)) "
                "RETURNING number",
                (json.dumps(list(ids)),),
            )
            gone.extend(row[0] for row in rows)
            return {"count": len(gone)}

        return self.once(request, change), gone

    # --- vectors --------------------------------------------------------------------------

    def vectors(self, model: str) -> tuple[list[int], bytes]:
        """All vectors of the model behind one another, and the memories they belong to."""
        with _errors(self.path):
            # The plus keeps it from going through the index: all rows are wanted.
            rows: list[Any] = self._db.execute(
                "SELECT memory, vector FROM vectors WHERE +model = ?", (model,)
            ).fetchall()
            return [int(row[0]) for row in rows], b"".join([row[1] for row in rows])

    def numbers(self, model: str) -> list[int]:
        """The memories that have a vector of the model."""
        with _errors(self.path):
            rows = self._db.execute("SELECT memory FROM vectors WHERE +model = ?", (model,))
            return [row[0] for row in rows]

    def without_vector(self, model: str, limit: int) -> list[tuple[int, str]]:
        """Memories that have no vector of the model yet: number and text."""
        with _errors(self.path):
            rows = self._db.execute(
                "SELECT number, text FROM memories WHERE NOT EXISTS (SELECT 1 FROM vectors "
                "WHERE memory = number AND model = ?) ORDER BY number LIMIT ?",
                (model, limit),
            )
            return [(int(row[0]), str(row[1])) for row in rows]

    def add_vectors(self, model: str, vectors: Sequence[tuple[int, bytes]]) -> list[int]:
        """Add vectors of memories. Returns the numbers of those that are still there."""
        kept: list[int] = []
        with _errors(self.path), self._transaction():
            for number, vector in vectors:
                kept += [
                    row[0]
                    for row in self._db.execute(
                        "INSERT OR REPLACE INTO vectors SELECT number, ?, ? FROM memories "
                        "WHERE number = ? RETURNING memory",
                        (model, vector, number),
                    )
                ]
        return kept

    def drop_other_vectors(self, model: str) -> None:
        """Remove the vectors of all other models: every memory has one of this."""
        with _errors(self.path), self._transaction():
            self._db.execute("DELETE FROM vectors WHERE model != ?", (model,))

    # --- conversations --------------------------------------------------------------------

    def append(self, request: Request, conversation: str, turns: Sequence[TurnRow]) -> Reply:
        """Put turns behind those there are; an empty ``conversation`` begins a new one. Raises
        ``NotFound``."""

        def change() -> Reply:
            row = self._find(conversation) if conversation else self._begin(request.now)
            numbers = list(range(row.turns, row.turns + len(turns)))
            self._db.executemany(
                "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (row.number, number, turn.role, turn.content, turn.metadata, request.now)
                    for number, turn in zip(numbers, turns, strict=True)
                ],
            )
            asked = (title_of(turn.content) for turn in turns if turn.role == "user")
            title = row.title or next(filter(None, asked), "")
            self._db.execute(
                "UPDATE conversations SET title = ?, turns = ?, updated_at = max(updated_at, ?) "
                "WHERE number = ?",
                (title, row.turns + len(turns), request.now, row.number),
            )
            return {"conversation": row.id, "numbers": numbers}

        return self.once(request, change)

    def _begin(self, now: float) -> ConversationRow:
        identity = new_id().hex()
        self._db.execute(
            "INSERT INTO conversations (id, title, turns, created_at, updated_at) "
            "VALUES (?, '', 0, ?, ?)",
            (identity, now, now),
        )
        return ConversationRow(self._db.last_insert_rowid(), identity, "", 0, now, now)

    def _find(self, conversation: str) -> ConversationRow:
        row = self._first("SELECT * FROM conversations WHERE id = ?", conversation)
        if row is None:
            raise NotFound(
                f"there is no conversation {conversation!r}; memory.conversations lists them",
                conversation=conversation,
            )
        return ConversationRow(*row)

    def conversation(self, conversation: str, last: int) -> tuple[ConversationRow, list[TurnRow]]:
        """A conversation and its last turns in their order. Raises ``NotFound``."""
        with _errors(self.path):
            found = self._find(conversation)
            rows = self._db.execute(
                "SELECT role, content, metadata, number, created_at FROM turns "
                "WHERE conversation = ? AND number >= ? ORDER BY number",
                (found.number, found.turns - last),
            )
            return found, [TurnRow(*row) for row in rows]

    def appended(self, key: str) -> tuple[ConversationRow, list[TurnRow]] | None:
        """The turns that the request of this key appended, and their conversation."""
        with _errors(self.path):
            row = self._first("SELECT reply FROM requests WHERE key = ?", key)
            reply = json.loads(row[0]) if row is not None else {}
            if "numbers" not in reply:
                return None
            try:
                found = self._find(reply["conversation"])
            except NotFound:
                return None
            rows = self._db.execute(
                "SELECT role, content, metadata, number, created_at FROM turns WHERE conversation "
                "= ? AND number IN (SELECT value FROM json_each(?)) ORDER BY number",
                (found.number, json.dumps(reply["numbers"])),
            )
            return found, [TurnRow(*row) for row in rows]

    def conversations(self, offset: int, limit: int) -> tuple[list[ConversationRow], int]:
        """A page of conversations, the one that went on last first, and how many there are."""
        with _errors(self.path):
            rows = self._db.execute(
                "SELECT * FROM conversations ORDER BY updated_at DESC, number DESC "
                "LIMIT ? OFFSET ?",
                (limit, offset),
            )
            found = [ConversationRow(*row) for row in rows]
            return found, int(self._one("SELECT count(*) FROM conversations")[0])

    def forget_conversation(self, request: Request, conversation: str) -> Reply:
        """Remove a conversation with its turns. Raises ``NotFound``."""

        def change() -> Reply:
            found = self._find(conversation)
            self._db.execute("DELETE FROM conversations WHERE number = ?", (found.number,))
            return {"count": found.turns}

        return self.once(request, change)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
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
