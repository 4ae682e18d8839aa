"""The table of accepted work: what was acknowledged is there, and ends once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import apsw
import pytest

from actors.storage.work import WORK, DeathBounds, Return, WorkEvent, WorkState
from actors.storage.worktable import KEPT_S, WorkTable
from protocol.errors import DiskFull, IllegalTransition, InvalidSettings, NotFound
from tests.support.scripts import start_python

REQUEST = {"text": "Why is the sky blue? 🌍", "seed": None, "nul": "a\0b"}
BOUNDS = DeathBounds(in_a_row=2, in_all=16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "storage.db"


@pytest.fixture
def table(path: Path) -> WorkTable:
    return WorkTable(path, BOUNDS)


def test_accepted_work_is_open_until_it_ends(table: WorkTable) -> None:
    accepted = table.accept("q1", "query", REQUEST, "o.1", 100.0)
    assert accepted.state is WorkState.ACCEPTED
    assert accepted.request == REQUEST
    assert table.open_work("query") == [accepted]
    assert table.open_work("job") == []
    done = table.settle("q1", WorkEvent.DONE, 105.0)
    assert (done.state, done.ended_at, done.error_code) == (WorkState.DONE, 105.0, "")
    assert table.open_work("query") == []


def test_open_work_comes_oldest_first(table: WorkTable) -> None:
    for at in (3.0, 1.0, 2.0):
        table.accept(f"q{at:.0f}", "query", {}, "o.1", at)
    assert [work.id for work in table.open_work("query")] == ["q1", "q2", "q3"]


def test_the_same_incarnation_may_ask_again(table: WorkTable) -> None:
    first = table.accept("q", "query", REQUEST, "o.1", 100.0)
    assert table.accept("q", "query", {"other": 1}, "o.1", 101.0) == first


def test_each_further_incarnation_is_counted(table: WorkTable) -> None:
    table.accept("q", "query", REQUEST, "o.1", 100.0)
    assert table.accept("q", "query", REQUEST, "o.2", 101.0).taken_up == 1
    assert table.accept("q", "query", REQUEST, "o.2", 102.0).taken_up == 1
    again = table.accept("q", "query", {"other": 1}, "o.3", 103.0)
    assert (again.taken_up, again.request, again.accepted_at) == (2, REQUEST, 100.0)


def test_work_that_ended_is_not_opened_again(table: WorkTable) -> None:
    table.accept("q", "query", REQUEST, "o.1", 100.0)
    ended = table.settle("q", WorkEvent.FAILED, 101.0, "deadline_exceeded")
    assert ended.error_code == "deadline_exceeded"
    assert table.accept("q", "query", REQUEST, "o.2", 102.0) == ended


def test_ending_it_twice_is_ending_it_once(table: WorkTable) -> None:
    table.accept("q", "query", REQUEST, "o.1", 100.0)
    first = table.settle("q", WorkEvent.DONE, 101.0)
    assert table.settle("q", WorkEvent.DONE, 200.0) == first
    with pytest.raises(IllegalTransition):
        table.settle("q", WorkEvent.FAILED, 201.0, "cancelled")


def test_the_second_death_in_a_row_ends_it_as_poisoned(table: WorkTable) -> None:
    table.accept("q", "query", REQUEST, "o-1", 100.0)
    assert table.died("q", "cpu_engine.b-4", 10, 101.0).state is WorkState.ACCEPTED
    ended = table.died("q", "cpu_engine.b-5", 10, 102.0)
    assert (ended.state, ended.error_code, ended.ended_at) == (WorkState.FAILED, "poisoned", 102.0)
    assert ended.deaths.in_a_row == ("cpu_engine.b-4", "cpu_engine.b-5")
    assert table.open_work("query") == []
    assert table.accept("q", "query", REQUEST, "o-1", 103.0) == ended
    assert table.settle("q", WorkEvent.FAILED, 104.0, "poisoned") == ended


def test_deaths_are_known_after_storage_s_own(path: Path) -> None:
    table = WorkTable(path, BOUNDS)
    table.accept("q", "query", REQUEST, "o-1", 100.0)
    before = table.died("q", "cpu_engine.b-4", 10, 101.0)
    table.close()
    table = WorkTable(path, BOUNDS)
    assert table.died("q", "cpu_engine.b-4", 10, 102.0) == before
    assert table.died("q", "cpu_engine.b-5", 10, 103.0).error_code == "poisoned"


def test_a_query_that_comes_back_has_its_first_death_before_its_row(table: WorkTable) -> None:
    first = table.accept("q", "query", {}, "b-2", 100.0, Return("orchestrator.b-1", 0))
    assert first.deaths.in_a_row == ("orchestrator.b-1",)
    ended = table.accept("q", "query", {}, "b-3", 101.0, Return("orchestrator.b-2", 0))
    assert ended.error_code == "poisoned"


def test_what_was_given_up_is_listed_newest_first(table: WorkTable) -> None:
    for number, id_ in enumerate(("old", "new", "open")):
        table.accept(id_, "query", {}, "o-1", 0.0)
        table.died(id_, "cpu_engine.b-4", 0, 1.0)
        if id_ != "open":
            table.died(id_, "cpu_engine.b-5", 0, 2.0 + number)
    table.accept("cancelled", "query", {}, "o-1", 0.0)
    table.settle("cancelled", WorkEvent.FAILED, 9.0, "cancelled")
    assert table.poisoned("query") == ["new", "old"]
    assert table.poisoned("job") == []


def test_nobody_dies_over_what_was_never_accepted(table: WorkTable) -> None:
    with pytest.raises(NotFound, match="no work 'nothing'"):
        table.died("nothing", "cpu_engine.b-4", 0, 1.0)


def test_what_was_never_accepted_cannot_end(table: WorkTable) -> None:
    with pytest.raises(NotFound, match="no work 'nothing'"):
        table.settle("nothing", WorkEvent.DONE, 1.0)


def test_ended_work_is_forgotten_after_a_week_and_open_work_never(table: WorkTable) -> None:
    for name in ("open", "old", "new"):
        table.accept(name, "query", {}, "o.1", 0.0)
    table.settle("old", WorkEvent.DONE, 10.0)
    table.settle("new", WorkEvent.DONE, 20.0)
    assert table.prune(15.0 + KEPT_S) == 1
    assert [work.id for work in table.open_work("query")] == ["open"]
    with pytest.raises(NotFound):
        table.settle("old", WorkEvent.DONE, 30.0)
    assert table.settle("new", WorkEvent.DONE, 30.0).ended_at == 20.0


KILLED = """
import os, signal, sys
from pathlib import Path
from actors.storage.work import DeathBounds
from actors.storage.worktable import WorkTable
table = WorkTable(Path(sys.argv[1]), DeathBounds(2, 16))
for number in range(1000):
    table.accept(f"q{number:04}", "query", {}, "o.1", float(number))
    print(number, flush=True)
"""


def test_every_row_that_was_acknowledged_survives_kill_9(path: Path) -> None:
    process = start_python(KILLED, path)
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    seen += process.stdout.readlines()
    process.wait()
    acknowledged = [line for line in seen if line.endswith("\n")]
    found = [work.id for work in WorkTable(path, BOUNDS).open_work("query")]
    assert found[: len(acknowledged)] == [f"q{int(line):04}" for line in acknowledged]


def test_a_database_of_a_later_noyau_is_refused_and_left_alone(path: Path) -> None:
    WorkTable(path, BOUNDS).close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InvalidSettings, match="version 99"):
        WorkTable(path, BOUNDS)


def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"This is no database at all. " * 100)
    with pytest.raises(InvalidSettings, match=r"storage\.db is damaged"):
        WorkTable(path, BOUNDS)
    assert path.read_bytes().startswith(b"This is")


def test_a_full_disk_is_told_and_what_was_there_stays(table: WorkTable) -> None:
    table.accept("before", "query", {}, "o.1", 1.0)
    table._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(DiskFull, match="no room"):
        table.accept("large", "query", {"text": "x" * 100_000}, "o.1", 2.0)
    assert "before" in [work.id for work in table.open_work("query")]


def test_an_end_is_final() -> None:
    assert {state for state, _ in WORK.rows} == {WorkState.ACCEPTED}
