"""What a dead spawner left is killed and reaped before the next one starts."""

from __future__ import annotations

from tests.support.scripts import run_python

PREPARE = """
import asyncio, os, signal
from pathlib import Path
from supervision.processes import become_subreaper
from supervision.sweeping import sweep

become_subreaper()
read, write = os.pipe()

def rest():
    signal.alarm(60)
    os.setsid()
    os.write(write, b"%d\\n" % os.getpid())
    while True:
        signal.pause()

def family():
    "A process with a child and a grandchild, each in a session of its own."
    for _ in range(2):
        if os.fork() != 0:
            rest()
    rest()

def hear(count):
    told = b""
    while told.count(b"\\n") < count:
        told += os.read(read, 4096)
    return [int(pid) for pid in told.split()]

def fork(life):
    pid = os.fork()
    if pid == 0:
        life()
    return pid
"""


def test_everything_below_is_gone_and_reaped_but_who_is_to_be_kept() -> None:
    run_python(
        PREPARE
        + """
kept = fork(rest)
for _ in range(3):
    fork(family)
pids = set(hear(10)) - {kept}
assert len(pids) == 9
assert asyncio.run(sweep(lambda: [kept])) == []
assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
os.kill(kept, 0)
assert os.waitpid(kept, os.WNOHANG) == (0, 0)
os.kill(kept, signal.SIGKILL)
"""
    )


def test_nothing_is_below_and_it_is_over_at_once() -> None:
    run_python(PREPARE + "assert asyncio.run(sweep(list)) == []")


def test_the_event_loop_goes_on_meanwhile_and_what_cannot_be_killed_is_told() -> None:
    run_python(
        PREPARE
        + """
import supervision.sweeping
supervision.sweeping.os = type("Deaf", (), {
    "kill": lambda *_: None, "waitpid": os.waitpid, "getpid": os.getpid, "WNOHANG": os.WNOHANG
})
pid = fork(rest)
async def main():
    turns = []
    async def turn():
        while True:
            turns.append(1)
            await asyncio.sleep(0)
    turning = asyncio.create_task(turn())
    left = await sweep(list, timeout_s=1)
    turning.cancel()
    return left, len(turns)
left, turns = asyncio.run(main())
os.kill(pid, signal.SIGKILL)
assert left == [pid]
assert turns > 10
"""
    )
