"""The status as people read it, in a terminal of 100 columns."""

from __future__ import annotations

import io

from rich.console import Console

from noyau.status import table
from protocol.lifecycle import ActorState, Health
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Activity, ActorStatus, ProcessStatus, Status

FIGURES = {"cpu_percent": 23.4, "rss_bytes": 1_234_000_000, "threads": 31, "open_files": 123}
REASON = "there is no GPU: the kernel has no driver for one, and there is no device file either"


def actor(name: str, **more: object) -> ActorStatus:
    plain = {
        "name": name, "pid": 1_234_567, "epoch": "boot-1", "state": ActorState.READY,
        "health": Health.HEALTHY, "reason": "", "restarts": 12, "last_exit": "", "uptime_s": 3000.0,
        "activity": Activity(), "counters": Counters(), "info": {},
    }  # fmt: skip
    return ActorStatus.model_validate(plain | FIGURES | more)


def shown(verbose: bool = False) -> list[str]:
    process = ProcessStatus.model_validate({"pid": 1_234_566, "uptime_s": 4000.0, **FIGURES})
    found = Status(
        health=Health.HEALTHY, reason="", version="0.1.0", boot="boot", run_folder="/run",
        data_folder="/data", profile="lite", supervisor=process, guard=process,
        spawner=ProcessStatus(pid=None),
        actors=[
            actor("orchestrator"),
            actor("gpu_engine", state=ActorState.UNAVAILABLE, reason=REASON),
            actor("lost", state=ActorState.FAILED, pid=None, uptime_s=None, cpu_percent=None,
                  rss_bytes=None, threads=None, open_files=None),
        ],
    )  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=100, no_color=True).print(table(found, verbose))
    return text.getvalue().splitlines()


def row(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(name)).split()


def test_it_fits_and_shows_the_memory_of_every_process() -> None:
    lines = shown()
    assert max(map(len, lines)) <= 100
    assert row(lines, "orchestrator") == [
        "orchestrator", "1234567", "ready", "healthy", "12", "50", "min", "1234", "MB", "idle",
    ]  # fmt: skip
    assert row(lines, "supervisor")[-3:] == ["h", "1234", "MB"]
    assert row(lines, "spawner") == ["spawner", "-", "starting", "0", "0", "s", "-"]
    assert "threads" not in lines[1]


def test_on_demand_it_shows_cpu_threads_and_open_files_and_still_fits() -> None:
    lines = shown(verbose=True)
    assert max(map(len, lines)) <= 100
    assert lines[1].split()[6:] == ["cpu", "memory", "threads", "files", "doing"]
    assert row(lines, "orchestrator")[7:] == ["23", "%", "1234", "MB", "31", "123", "idle"]
    assert row(lines, "supervisor")[-6:] == ["23", "%", "1234", "MB", "31", "123"]
    assert row(lines, "lost")[-5:] == ["-", "-", "-", "-", "idle"]


def test_a_reason_is_told_in_full_however_little_room_there_is() -> None:
    for verbose in (False, True):
        words = " ".join(shown(verbose)).split()
        assert {*REASON.split()} <= {*words}
