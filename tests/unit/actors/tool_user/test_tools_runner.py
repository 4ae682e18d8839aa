"""Running tools: whatever one does, its call ends, nothing of it is left, and the next one works.

Real processes, each with tools of its own in a folder of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.tool_user.limits import Limits
from actors.tool_user.results import Shaped
from actors.tool_user.runner import Runner
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    ToolFailed,
)
from tests.support.waiting import eventually, until

LIMITS = Limits(cpu_s=1, memory_mib=64, file_mib=1, output_bytes=1000)
PATIENT_S = 60.0
"""For calls that must end by something else."""

TOOLS = {
    "greet": 'return f"hello {name}"',
    "surroundings": """
    import os, signal
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "listing": os.listdir("."),
        "input": os.read(0, 10).decode(), "session": os.getsid(0) == os.getpid(),
        "open": sorted(int(one) for one in os.listdir("/proc/self/fd"))[:-1],
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    }""",
    "fail": 'print("on the way"); raise ValueError(name)',
    "refuse": 'from protocol.errors import NotFound; raise NotFound(f"no {name}")',
    "leave": "raise SystemExit(0)",
    "vanish": "import os; os._exit(3)",
    "crash": "import ctypes; ctypes.string_at(0)",
    "eat": "return len(bytearray(2**40))",
    "eat_slowly": "kept = []\n    while True: kept.append('x' * 2**20 + str(len(kept)))",
    "spin": "while True: pass",
    "spew": "while True: print('x' * 1000)",
    "fill": "open('large', 'wb').write(bytes(2**22))",
    "recurse": "return recurse(name)",
    "lengthy": "return 'x' * 100_000",
    "nonsense": "return object()",
    "stubborn": """
    import os, pathlib, signal
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP): signal.signal(number, signal.SIG_IGN)
    new = pathlib.Path(name + ".new")
    new.write_text(str(os.getpid()))
    new.rename(name)
    while True: signal.pause()""",
    "breed": """
    import os, pathlib, signal, subprocess, sys
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            new = pathlib.Path(name + ".new")
            new.write_text(str(os.getpid()))
            new.rename(name)
            while True: signal.pause()
        os._exit(0)
    while not os.path.exists(name): pass
    return "bred" """,
    "kill_warden": """
    import os, pathlib, signal
    if os.fork() == 0:
        os.setsid()
        pathlib.Path(name).write_text(str(os.getpid()))
        while True: signal.pause()
    while not os.path.exists(name) or not open(name).read(): pass
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()""",
    "stop_warden": "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); signal.pause()",
    "kill_server": """
    import os, signal
    warden = open(f"/proc/{os.getppid()}/stat").read()
    os.kill(int(warden.rpartition(")")[2].split()[1]), signal.SIGKILL)
    signal.pause()""",
    "scribble": "import os\n    while True: os.write(3, b'x' * 1000)",
    "lock_up": "import os; os.mkdir('d'); open('d/f', 'w').close(); os.chmod('d', 0); return 1",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in TOOLS.items():
        text = f'def {name}(name: str = ""):\n    """Does it."""\n    {body}\n'
        (tools / f"{name}.py").write_text(text)
    return tools


@contextlib.asynccontextmanager
async def running(folder: Path, limits: Limits = LIMITS, most: int = 8) -> AsyncGenerator[Runner]:
    runner = Runner([folder], limits, folder.parent / "scratch", most)
    runner.start()
    try:
        yield runner
    finally:
        await runner.close()
        assert runner.running == 0
        assert not list((folder.parent / "scratch").iterdir())
        assert not psutil.Process().children()


async def call(runner: Runner, tool: str, name: str = "", seconds: float = PATIENT_S) -> Shaped:
    return await runner.run(tool, {"name": name}, {}, seconds)


async def failure(runner: Runner, tool: str, name: str = "") -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await call(runner, tool, name)
    return caught.value


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def written_pid(file: Path) -> int:
    await eventually(lambda: file.exists() and file.read_text())
    return int(file.read_text())


async def test_a_tool_runs_and_its_result_comes_back(folder: Path) -> None:
    async with running(folder) as runner:
        assert await call(runner, "greet", "Ann") == Shaped("hello Ann", "hello Ann")


async def test_a_tool_inherits_nothing_of_the_actor(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    with socket.socket() as held:
        held.set_inheritable(True)
        async with running(folder) as runner:
            found: dict[str, Any] = (await call(runner, "surroundings")).value
            (server,) = psutil.Process().children()
            assert "API_KEY" not in server.environ()
    assert found["environment"].keys() == {"PATH", "LANG", "HOME", "TMPDIR"}
    assert found["environment"]["HOME"] == found["folder"]
    assert found["listing"] == []
    assert found["input"] == ""
    assert found["session"]
    assert found["term"]
    # Standard input and output, and the report.
    assert found["open"] == [0, 1, 2, 3]
    assert not Path(found["folder"]).exists()


async def test_an_exception_comes_back_with_its_place_and_what_was_printed(folder: Path) -> None:
    async with running(folder) as runner:
        error = await failure(runner, "fail", "boom")
    assert error.message == "fail raised ValueError: boom (fail.py, line 3)"
    assert error.details == {"tool": "fail", "kind": "ValueError", "printed": "on the way\n"}


async def test_a_request_error_comes_back_as_itself(folder: Path) -> None:
    async with running(folder) as runner:
        with pytest.raises(NotFound, match="no Bob"):
            await call(runner, "refuse", "Bob")


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        ("leave", "SystemExit"), ("vanish", "exit"), ("crash", "crash"), ("eat", "memory"),
        ("eat_slowly", "memory"), ("spin", "cpu"), ("spew", "file"), ("fill", "file"),
        ("recurse", "RecursionError"), ("nonsense", "no JSON"), ("kill_warden", "lost"),
    ],
)  # fmt: skip
async def test_a_tool_that_goes_wrong_is_a_typed_failure_and_the_next_one_works(
    folder: Path, tool: str, kind: str
) -> None:
    async with running(folder) as runner:
        error = await failure(runner, tool, str(folder / "pid"))
        assert (error.details["tool"], error.details["kind"]) == (tool, kind)
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_a_result_that_is_too_long_is_cut_and_says_so(folder: Path) -> None:
    async with running(folder) as runner:
        shaped = await call(runner, "lengthy")
    assert shaped.truncated
    assert shaped.text.endswith("(cut: the first 1,000 of 100,000 bytes)")


async def test_a_tool_that_scribbles_without_end_into_its_channel_is_stopped(folder: Path) -> None:
    async with running(folder) as runner:
        error = await failure(runner, "scribble")
        assert "without end" in error.message
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_at_its_deadline_a_tool_that_ignores_every_signal_is_gone(folder: Path) -> None:
    file = folder / "pid"
    async with running(folder) as runner:
        # The time to start the fork server is not the tool's; that to fork it is.
        await call(runner, "greet")
        with pytest.raises(DeadlineExceeded, match="stubborn did not end within 10 s"):
            await call(runner, "stubborn", str(file), 10)
        assert not alive(int(file.read_text()))
        assert runner.running == 0


async def test_a_cancelled_call_leaves_no_process(folder: Path) -> None:
    file = folder / "pid"
    async with running(folder) as runner:
        task = asyncio.create_task(call(runner, "stubborn", str(file)))
        pid = await written_pid(file)
        assert alive(pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(pid)


async def test_a_call_cancelled_before_it_began_leaves_nothing(folder: Path) -> None:
    async with running(folder) as runner:
        task = asyncio.create_task(call(runner, "greet"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert runner.running == 0


async def test_descendants_in_sessions_of_their_own_die_with_the_call(folder: Path) -> None:
    file = folder / "pid"
    async with running(folder) as runner:
        assert (await call(runner, "breed", str(file))).text == "bred"
        assert not alive(int(file.read_text()))


async def test_what_a_tool_that_killed_its_warden_left_dies_too(folder: Path) -> None:
    file = folder / "pid"
    async with running(folder) as runner:
        await failure(runner, "kill_warden", str(file))
        pid = int(file.read_text())
        await eventually(lambda: not alive(pid))


async def test_a_warden_that_was_stopped_is_killed_after_its_deadline(folder: Path) -> None:
    async with running(folder) as runner:
        with pytest.raises(DeadlineExceeded):
            await call(runner, "stop_warden", "", 0.5)
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_when_the_fork_server_dies_running_calls_fail_and_another_is_started(
    folder: Path,
) -> None:
    file = folder / "pid"
    async with running(folder) as runner:
        beside = asyncio.create_task(call(runner, "stubborn", str(file)))
        pid = await written_pid(file)
        before = runner.server_pid
        error = await failure(runner, "kill_server")
        assert error.details["kind"] == "lost"
        with pytest.raises(ToolFailed, match="the process that starts tools died"):
            await beside
        await eventually(lambda: not alive(pid))
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"
        assert runner.server_pid not in (None, before)


async def test_a_fork_server_that_was_stopped_is_replaced(folder: Path) -> None:
    async with running(folder) as runner:
        await call(runner, "greet")
        assert runner.server_pid is not None
        os.kill(runner.server_pid, signal.SIGSTOP)
        with pytest.raises(ToolFailed, match="does not answer"):
            await call(runner, "greet")
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_a_folder_whose_rights_a_tool_took_away_is_removed(folder: Path) -> None:
    async with running(folder) as runner:
        assert (await call(runner, "lock_up")).value == 1


async def test_calls_run_side_by_side_each_with_its_own_result(folder: Path) -> None:
    async with running(folder) as runner:
        results = await asyncio.gather(*(call(runner, "greet", str(n)) for n in range(8)))
    assert [one.text for one in results] == [f"hello {n}" for n in range(8)]


async def test_one_call_too_many_is_refused(folder: Path) -> None:
    file = folder / "pid"
    async with running(folder, most=1) as runner:
        task = asyncio.create_task(call(runner, "stubborn", str(file)))
        await written_pid(file)
        with pytest.raises(Overloaded) as caught:
            await call(runner, "greet")
        assert caught.value.details["retry_after_s"] > 0
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_arguments_with_no_json_form_are_refused_and_take_no_slot(folder: Path) -> None:
    async with running(folder) as runner:
        with pytest.raises(InvalidRequest):
            await runner.run("greet", {"name": object()}, {}, PATIENT_S)
        assert runner.running == 0


async def test_without_room_for_a_working_folder_the_failure_names_the_place(folder: Path) -> None:
    async with running(folder) as runner:
        scratch = folder.parent / "scratch"
        scratch.rmdir()
        error = await failure(runner, "greet")
        assert str(scratch) in error.message
        scratch.mkdir()
        assert (await call(runner, "greet", "Ann")).text == "hello Ann"


async def test_a_runner_that_was_closed_takes_no_more(folder: Path) -> None:
    async with running(folder) as runner:
        task = asyncio.create_task(call(runner, "stubborn", str(folder / "pid")))
        pid = await written_pid(folder / "pid")
        await runner.close()
        with pytest.raises(ToolFailed, match="stopping"):
            await task
        await eventually(lambda: not alive(pid))
        with pytest.raises(Cancelled):
            await call(runner, "greet")


def test_when_the_actor_is_killed_its_tools_and_fork_server_die(folder: Path) -> None:
    file = folder / "pid"
    actor = os.fork()
    if actor == 0:
        runner_dies_here(folder, file)
    try:
        until(lambda: file.exists() and file.read_text())
        below = psutil.Process(actor).children(recursive=True)
        assert len(below) == 3
    finally:
        os.kill(actor, signal.SIGKILL)
        os.waitpid(actor, 0)
    until(lambda: not any(alive(one.pid) for one in below))


def runner_dies_here(folder: Path, file: Path) -> None:
    """In a fork: run a tool until killed."""

    async def live() -> None:
        runner = Runner([folder], LIMITS, folder.parent / "scratch")
        runner.start()
        await call(runner, "stubborn", str(file))

    try:
        asyncio.run(live())
    finally:
        os._exit(1)
