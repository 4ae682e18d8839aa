"""The tables of ``memory.db``. A change here is a new version and a step that leads to it."""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
"""Of the tables, in ``PRAGMA user_version``."""

TABLES: Final = """
CREATE TABLE memories (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: it names a vector
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    source TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE vectors (
    memory INTEGER NOT NULL REFERENCES memories (number) ON DELETE CASCADE,
    model TEXT NOT NULL,                       -- vectors of different models never meet
    vector BLOB NOT NULL,                      -- little-endian float32
    UNIQUE (memory, model)
) STRICT;

CREATE TABLE conversations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    turns INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
) STRICT;
CREATE INDEX conversations_by_update ON conversations (updated_at);

CREATE TABLE turns (
    conversation INTEGER NOT NULL REFERENCES conversations (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT NOT NULL,                    -- JSON
    created_at REAL NOT NULL,
    PRIMARY KEY (conversation, number)
) STRICT;

CREATE TABLE requests (                        -- what was done for which key
    key TEXT PRIMARY KEY,
    digest BLOB NOT NULL,                      -- of the request, so that a key means one only
    reply TEXT NOT NULL,                       -- JSON
    at REAL NOT NULL
) STRICT;
CREATE INDEX requests_by_time ON requests (at);
"""
