"""Looking at processes: what the kernel says, and the page of signs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from protocol.signs import Doing, SignsPage
from supervision.looking import Looker
from supervision.looks import read_stat
from supervision.turns import LOOKS_AT_ONCE, QUIET_LOOKS
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

    def state() -> str:
        look = looker.look([("a.1", process.pid)])[0][1]
        assert look is not None
        return look.state

    try:
        until(lambda: state() == "S")
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: state() == "T")
        os.kill(process.pid, signal.SIGCONT)
        until(lambda: state() == "S")
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


def test_of_many_whose_loops_turn_the_kernel_is_asked_in_turns(tmp_path: Path) -> None:
    looker, count = Looker(tmp_path), LOOKS_AT_ONCE * 2 + 1
    processes = [(f"a.{number}", os.getpid()) for number in range(count)]
    pages = [SignsPage(tmp_path / f"{key}.signs") for key, _ in processes]
    asked: set[str] = set()
    for turn in range(3):
        for page in pages:
            page.beat(float(turn + 1))
        found = looker.look(processes)
        now = {key for key, look, _ in found if look is not None}
        assert len(now) == LOOKS_AT_ONCE
        assert all(signs is not None for _, _, signs in found)
        asked |= now
    assert len(asked) == count
    looker.close()


def test_one_whose_loop_stands_still_is_asked_about_at_each_look(tmp_path: Path) -> None:
    looker, count = Looker(tmp_path), LOOKS_AT_ONCE * 3
    processes = [(f"a.{number}", os.getpid()) for number in range(count)]
    pages = {key: SignsPage(tmp_path / f"{key}.signs") for key, _ in processes}
    for turn in range(QUIET_LOOKS + 2):
        for key, page in pages.items():
            if key != "a.7":
                page.beat(float(turn + 1))
        found = {key: look for key, look, _ in looker.look(processes)}
        if turn > QUIET_LOOKS:
            assert found["a.7"] is not None
    looker.close()
