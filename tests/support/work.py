"""The table of accepted work of a running noyau, as it is on the disk."""

from __future__ import annotations

import apsw

from tests.support.system import System


def rows(system: System) -> dict[str, tuple[str, int, str]]:
    """State, further incarnations, and error of every row, by id."""
    if not (system.data_folder / "storage.db").exists():
        return {}
    db = apsw.Connection(str(system.data_folder / "storage.db"), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(5000)
    try:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'work'").fetchall():
            # Just being made.
            return {}
        found = db.execute("SELECT id, state, taken_up, error_code FROM work").fetchall()
        return {str(i): (str(s), int(str(t)), str(e)) for i, s, t, e in found}
    finally:
        db.close()
