"""The page of memory on which an actor shows that it lives."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from protocol.signs import PAGE_BYTES, Doing, Signs, SignsPage, SignsReader
from tests.support.scripts import run_python


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "actor.boot-1.signs"


def read(path: Path) -> Signs | None:
    reader = SignsReader.open(path)
    if reader is None:
        return None
    try:
        return reader.read()
    finally:
        reader.close()


def test_what_the_actor_writes_the_supervisor_reads(path: Path) -> None:
    page = SignsPage(path)
    assert read(path) == Signs(0.0, 0, Doing.LOADING)
    page.beat(12.5)
    page.progressed(3)
    page.progressed(4)
    page.does(Doing.WORKING)
    assert read(path) == Signs(12.5, 7, Doing.WORKING)


def test_another_process_sees_every_step(path: Path) -> None:
    page = SignsPage(path)
    script = """
import sys
from pathlib import Path
from protocol.signs import SignsReader
print(SignsReader.open(Path(sys.argv[1])).read().progress)
"""
    for steps in (5, 6):
        page.progressed(steps)
        assert run_python(script, path).strip() == str({5: 5, 6: 11}[steps])


def test_progress_of_any_thread_shows(path: Path) -> None:
    page = SignsPage(path)
    for count in (1, 2, 3):
        thread = threading.Thread(target=page.progressed, args=(1,))
        thread.start()
        thread.join()
        assert read(path) == Signs(0.0, count, Doing.LOADING)


def test_progress_goes_round_where_it_would_not_fit_any_more(path: Path) -> None:
    page = SignsPage(path)
    page.progressed(2**64 - 1)
    page.progressed(2)
    assert read(path) == Signs(0.0, 1, Doing.LOADING)


def test_the_page_is_its_owners_alone(path: Path) -> None:
    SignsPage(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(PAGE_BYTES), b"x" * PAGE_BYTES])
def test_what_is_no_page_is_none(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    assert read(path) is None


def test_a_page_that_is_cut_off_while_it_is_read_does_no_harm(path: Path) -> None:
    SignsPage(path)
    reader = SignsReader.open(path)
    assert reader is not None
    path.write_bytes(b"")
    assert reader.read() is None
    reader.close()


def test_an_activity_that_nobody_knows_counts_as_idle(path: Path) -> None:
    page = SignsPage(path)
    page._fields[3] = 99
    assert read(path) == Signs(0.0, 0, Doing.IDLE)
