"""Looking at processes: what the kernel says, and the page of signs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from protocol.signs import Doing, SignsPage
from supervision.looking import Looker
from supervision.looks import read_stat
from tests.support.scripts import start_python
from tests.support.waiting import until


def stat(name: str = "python") -> bytes:
    return (
        f"4242 ({name}) S 1 4242 4242 0 -1 4194560 1500 0 25 0 310 40 0 0 20 0 3 0 9000 1 2 3"
    ).encode()


def test_state_cpu_time_and_faults_are_read_off_the_line() -> None:
    look = read_stat(stat())
    ticks = os.sysconf("SC_CLK_TCK")
    assert (look.state, look.cpu_s, look.faults) == ("S", 350 / ticks, 1525)
    assert look.rss_bytes == 2 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", [") R 1 (x", "a b", "((("])
def test_a_name_that_looks_like_fields_deceives_nobody(name: str) -> None:
    assert read_stat(stat(name)) == read_stat(stat())


def test_a_process_is_seen_to_be_stopped_and_to_go_on(tmp_path: Path) -> None:
    process = start_python("import time; time.sleep(60)")
    looker = Looker(tmp_path)
    try:
        processes = [("a.1", process.pid)]
        until(lambda: looker.look(processes)[0][1].state == "S")
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: looker.look(processes)[0][1].state == "T")
        os.kill(process.pid, signal.SIGCONT)
        until(lambda: looker.look(processes)[0][1].state == "S")
    finally:
        process.kill()
        process.communicate()
        looker.close()


def test_its_page_is_read_as_soon_as_there_is_one(tmp_path: Path) -> None:
    looker, me = Looker(tmp_path), [("a.1", os.getpid())]
    assert looker.look(me)[0][2] is None
    page = SignsPage(tmp_path / "a.1.signs")
    page.progressed(3)
    signs = looker.look(me)[0][2]
    assert signs is not None
    assert (signs.progress, signs.doing) == (3, Doing.LOADING)
    looker.close()


def test_a_process_that_is_gone_is_left_out_and_nothing_is_kept_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    process = start_python("")
    looker = Looker(tmp_path)
    pid = process.pid
    looker.look([("a.1", pid)])
    process.communicate()
    assert looker.look([("a.1", pid)]) == []
    looker.look([])
    assert os.listdir("/proc/self/fd") == before
