"""What Linux is asked about processes; each test does it in a process of its own."""

from __future__ import annotations

import pytest

from tests.support.scripts import run_python

PREPARE = """
import os, signal, sys, time
from pathlib import Path
from supervision.processes import *

def fork(life):
    "A child that lives this life; returns its pid."
    pid = os.fork()
    if pid == 0:
        life()
        os._exit(0)
    return pid

def rest():
    "Wait for SIGKILL, which alone can end it; a failed test leaves it for a minute."
    signal.alarm(60)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGALRM})
    while True:
        signal.sigwait([signal.SIGUSR2])

read, write = os.pipe()

def tell():
    os.write(write, b"%d\\n" % os.getpid())

def hear(count):
    "The pids that so many processes have told."
    told = b""
    while told.count(b"\\n") < count:
        told += os.read(read, 4096)
    return [int(pid) for pid in told.split()]

def lives(pid):
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
"""

FAMILY = """
def grandchild():
    os.setsid()
    tell()
    rest()

def child():
    fork(grandchild)
    fork(grandchild)
    tell()
    rest()

become_subreaper()
children = [fork(child), fork(child)]
family = hear(6)
"""

BOTH_WAYS = pytest.mark.parametrize(
    "way",
    ["", "from supervision.processes import _searched_children_of as children_of\n"],
    ids=["listed", "searched"],
)


@BOTH_WAYS
def test_children_of_finds_the_direct_children_alone(way: str) -> None:
    run_python(
        PREPARE
        + way
        + FAMILY
        + """
assert sorted(children_of(os.getpid())) == sorted(children)
assert len(children_of(children[0])) == 2
kill_descendants()
"""
    )


@BOTH_WAYS
def test_children_of_finds_those_that_only_wait_to_be_reaped(way: str) -> None:
    run_python(
        PREPARE
        + way
        + """
pid = fork(lambda: None)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
assert children_of(os.getpid()) == [pid]
os.waitpid(pid, 0)
assert children_of(os.getpid()) == []
"""
    )


@BOTH_WAYS
def test_children_of_is_not_deceived_by_a_name_that_looks_like_figures(way: str) -> None:
    run_python(
        PREPARE
        + way
        + """
def life():
    set_name(") S 1 (x) 2")
    tell()
    rest()

become_subreaper()
pid = fork(life)
hear(1)
assert children_of(os.getpid()) == [pid]
assert pid not in children_of(1)
kill_descendants()
"""
    )


@BOTH_WAYS
def test_children_of_one_who_is_not_there_is_nobody(way: str) -> None:
    run_python(
        PREPARE
        + way
        + """
pid = fork(lambda: None)
os.waitpid(pid, 0)
assert children_of(pid) == []
"""
    )


def test_kill_descendants_kills_and_reaps_also_those_in_other_sessions() -> None:
    run_python(
        PREPARE
        + FAMILY
        + """
assert sorted(kill_descendants()) == sorted(family)
assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise AssertionError("there is somebody left")
"""
    )


def test_kill_descendants_finds_those_whose_parent_is_gone() -> None:
    run_python(
        PREPARE
        + """
def grandchild():
    os.setsid()
    tell()
    rest()

become_subreaper()
child = fork(lambda: fork(grandchild))
os.waitpid(child, 0)
(orphan,) = hear(1)
assert kill_descendants() == [orphan]
assert not lives(orphan)
"""
    )


def test_kill_descendants_of_one_who_has_none_returns_at_once() -> None:
    run_python(PREPARE + "assert kill_descendants(timeout_s=1000) == []")


def test_kill_descendants_gives_up_in_the_end() -> None:
    run_python(
        PREPARE
        + """
import supervision.processes
supervision.processes.os = type("Deaf", (), {
    "kill": lambda *_: None, "waitpid": os.waitpid, "getpid": os.getpid, "WNOHANG": os.WNOHANG
})
pid = fork(rest)
assert kill_descendants(timeout_s=0) == [pid]
assert lives(pid)
supervision.processes.os = os
assert kill_descendants() == [pid]
assert not lives(pid)
"""
    )


def test_kill_descendants_makes_its_rounds_however_late_it_is() -> None:
    run_python(
        PREPARE
        + """
pid = fork(rest)
assert kill_descendants(timeout_s=0) == [pid]
assert not lives(pid)
"""
    )


def test_an_orphan_becomes_the_child_of_the_subreaper() -> None:
    run_python(
        PREPARE
        + """
become_subreaper()
def grandchild():
    tell()
    rest()
child = fork(lambda: fork(grandchild))
os.waitpid(child, 0)
assert children_of(os.getpid()) == hear(1)
kill_descendants()
"""
    )


def test_whoever_dies_with_his_parent_is_told_by_the_kernel() -> None:
    run_python(
        PREPARE
        + """
def grandchild():
    die_with_parent(parent, signal.SIGKILL)
    tell()
    rest()

def child():
    global parent
    parent = os.getpid()
    fork(grandchild)
    rest()

become_subreaper()
pid = fork(child)
(doomed,) = hear(1)
os.kill(pid, signal.SIGKILL)
# Both come to us to be reaped, and nobody else killed the second.
ends = dict(os.waitpid(-1, 0) for _ in range(2))
assert ends == {pid: signal.SIGKILL, doomed: signal.SIGKILL}, ends
"""
    )


def test_whoever_would_die_with_a_parent_that_is_gone_already_ends_at_once() -> None:
    run_python(
        PREPARE
        + """
go_read, go_write = os.pipe()

def grandchild():
    os.close(go_write)
    os.read(go_read, 1)
    die_with_parent(gone, signal.SIGKILL)
    tell()

def child():
    global gone
    gone = os.getpid()
    fork(grandchild)

become_subreaper()
os.waitpid(fork(child), 0)
os.close(go_write)
pid, status = os.waitpid(-1, 0)
assert status == 0
os.close(write)
assert os.read(read, 1) == b"", "it went on without its parent"
"""
    )


def test_a_name_is_shown_and_cut_where_linux_cuts_it() -> None:
    run_python(
        PREPARE
        + """
set_name("noyau-guard")
assert Path("/proc/self/comm").read_text() == "noyau-guard\\n"
set_name("a_name_that_is_too_long")
assert Path("/proc/self/comm").read_text() == "a_name_that_is_\\n"
"""
    )
