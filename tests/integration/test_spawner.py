"""The spawner as the supervisor uses it: real processes, forked by a real one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs import load_settings
from protocol.errors import InternalError
from supervision.forkserver import PIPE_BYTES
from supervision.output import Outputs
from supervision.spawner import SpawnedProcess, Spawner, SpawnerEvents, SpawnOrder
from tests.support.scripts import ROOT, run_python
from tests.support.waiting import PATIENCE_S, eventually, until


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spawner must find our packages wherever the tests are run from."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


SECRET = secrets.token_bytes(32)


class Lines:
    """A file of lines in memory."""

    def __init__(self, into: list[dict[str, Any]]) -> None:
        self._into = into

    def write(self, text: str) -> None:
        self._into.extend(map(json.loads, text.splitlines()))

    def close(self) -> None:
        pass


class Owner:
    """Has a spawner, and keeps all that it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready = 0
        self.died = 0
        self.pids: dict[str, int] = {}
        self.pidfds: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.preloaded: dict[str, str] = {}
        """What speaks against each module."""
        self.ended: list[tuple[str, int]] = []
        self.swept = 0
        self.printed: list[dict[str, Any]] = []
        self.reads = True
        """Whether it reads what processes print."""
        self.unread: dict[str, SpawnedProcess] = {}
        self.outputs = Outputs(lambda name: Lines(self.printed))
        self.spawner = Spawner(
            SpawnerEvents(
                self._on_ready, self._on_spawned, self.failed.__setitem__, self._on_ended,
                self.preloaded.__setitem__, self._on_died,
            )
        )  # fmt: skip

    def _on_ready(self) -> None:
        self.ready += 1

    def _on_spawned(self, made: SpawnedProcess) -> None:
        self.pids[made.key], self.pidfds[made.key] = made.pid, made.pidfd
        self.unread[made.key] = made
        if self.reads:
            self.read(made.key)

    def read(self, key: str) -> None:
        """Begin to read what this process prints."""
        made = self.unread.pop(key)
        self.outputs.take(key, "1", made.pid, made.stdout, made.stderr)

    def _on_ended(self, key: str, status: int, swept: int) -> None:
        self.ended.append((key, status))
        self.swept += swept
        self.outputs.died(key, "1")

    def _on_died(self) -> None:
        self.died += 1

    @property
    def pid(self) -> int:
        """The spawner's."""
        assert self.spawner.pid is not None
        return self.spawner.pid

    def said(self, stream: str = "stderr") -> list[str]:
        """The lines that all processes printed."""
        return [line["event"] for line in self.printed if line["stream"] == stream]

    def order(self, key: str, entry: str, **payload: Any) -> None:
        """Ask for a process of this key with an entry of `tests.support.entries`."""
        where = f"tests.support.entries:{entry}"
        self.spawner.order(SpawnOrder(key, "tested", where, payload, SECRET))

    async def spawn(self, key: str, entry: str, **payload: Any) -> int:
        """Ask for it and wait until it is there; returns its pidfd."""
        self.order(key, entry, **payload)
        await eventually(lambda: key in self.pidfds)
        return self.pidfds[key]

    async def spawn_family(self, key: str) -> list[int]:
        """A process and its child, which has a session of its own; returns their pidfds."""
        into = self.folder / f"{key}.child"
        parent = await self.spawn(key, "have_a_child", into=str(into))
        await eventually(into.exists)
        child = os.pidfd_open(int(into.read_text()))
        self.pidfds[f"{key}.child"] = child
        return [parent, child]


@contextlib.asynccontextmanager
async def owner(folder: Path) -> AsyncGenerator[Owner, None]:
    """An owner whose spawner takes orders; nothing of it is left afterwards."""
    it = Owner(folder)
    it.spawner.start()
    try:
        await eventually(lambda: it.ready)
        yield it
    finally:
        for pidfd in it.pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        if it.spawner.pid is not None:
            os.kill(it.spawner.pid, signal.SIGCONT)
        await it.spawner.close()
        for key in list(it.unread):
            it.read(key)
        it.outputs.close()


def is_over(pidfd: int) -> bool:
    """Whether the kernel says that this process has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])


async def stop(it: Owner) -> None:
    """SIGSTOP the spawner, and see that it has stopped."""
    os.kill(it.pid, signal.SIGSTOP)
    await eventually(lambda: psutil.Process(it.pid).status() == psutil.STATUS_STOPPED)


# --- a process's life -----------------------------------------------------------------------


async def test_the_spawner_says_that_it_is_ready_once(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "wait")
        assert it.ready == 1


async def test_an_entry_runs_in_a_process_of_its_own_with_the_payload(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        into = tmp_path / "facts"
        await it.spawn("a.1", "describe", into=str(into), data=b"\x00\xff secret")
        await eventually(lambda: it.ended)
        facts = json.loads(into.read_text())
        assert bytes.fromhex(facts["payload"]) == b"\x00\xff secret"
        assert facts["pid"] == facts["session"] == it.pids["a.1"] != it.pid
        assert facts["name"] == "tested"


async def test_a_process_holds_nothing_of_the_spawners(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        into = tmp_path / "facts"
        await it.spawn("a.1", "describe", into=str(into), data=b"")
        await eventually(lambda: it.ended)
        facts = json.loads(into.read_text())
        # What the tests' own caller left open in all of us says nothing.
        spawners = _open_in(it.pid) - _open_in(os.getpid())
        assert any(link.startswith("socket:") for link in spawners)
        assert not spawners & set(facts["open"])
        assert facts["blocked"] == []
        assert facts["default"]


def _open_in(pid: int) -> set[str]:
    links = list(Path(f"/proc/{pid}/fd").iterdir())
    return {os.readlink(link) for link in links if os.path.lexists(link)} - {os.devnull}


async def test_the_secret_reaches_the_process_and_never_the_spawners_memory(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        into, marker = tmp_path / "secret", secrets.token_hex(32)
        await it.spawn("a.1", "keep_secret", into=str(into), marker=marker)
        await eventually(lambda: it.ended)
        assert into.read_bytes() == SECRET + b"|"
        # The order itself was there, and what was freed is still to be seen.
        it.order("a.2", "wait", marker=marker)
        await eventually(lambda: "a.2" in it.pidfds)
        assert _remembers(it.pid, marker.encode())
        assert not _remembers(it.pid, SECRET)


def _remembers(pid: int, what: bytes) -> bool:
    """Whether it is anywhere in the memory of this process that can be written."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            area, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(one, 16) for one in area.split("-"))
                if what in os.pread(memory.fileno(), end - begin, begin):
                    return True
    return False


async def test_a_death_is_seen_by_the_pidfd_and_its_exit_code_reported(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        pidfd = await it.spawn("a.1", "end", code=7)
        await eventually(lambda: is_over(pidfd))
        await eventually(lambda: it.ended)
        assert it.ended == [("a.1", 7)]


async def test_a_process_that_lives_is_not_seen_as_dead(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        living = await it.spawn("a.1", "wait")
        await it.spawn("a.2", "end", code=0)
        await eventually(lambda: it.ended)
        assert it.ended == [("a.2", 0)]
        assert not is_over(living)


async def test_a_death_by_signal_is_reported_as_the_negated_signal(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        pidfd = await it.spawn("a.1", "rest")
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        await eventually(lambda: it.ended)
        assert it.ended == [("a.1", -signal.SIGKILL)]
        assert is_over(pidfd)


async def test_of_many_processes_each_is_reported_once_and_as_itself(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        for number in range(40):
            it.order(f"a.{number}", "end", code=number)
        await eventually(lambda: len(it.ended) == 40)
        assert sorted(it.ended) == sorted((f"a.{number}", number) for number in range(40))
        assert len(set(it.pids.values())) == 40
        assert it.failed == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [("fail", "RuntimeError: the entry's own"), ("nobody", "AttributeError"), ("come_back", "")],
)
async def test_an_entry_that_fails_ends_its_process_alone_and_its_last_words_say_why(
    tmp_path: Path, entry: str, said: str
) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", entry, text="the entry's own")
        await eventually(lambda: it.ended)
        assert it.ended == [("a.1", os.EX_OSERR)]
        await eventually(lambda: said in "\n".join(it.said()))
        await it.spawn("a.2", "wait")


async def test_what_an_actor_left_behind_is_gone_before_its_end_is_told(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        for kills in range(1, 4):
            parent, child = await it.spawn_family(f"a.{kills}")
            other = await it.spawn(f"b.{kills}", "rest")
            signal.pidfd_send_signal(parent, signal.SIGKILL)
            await eventually(lambda kills=kills: len(it.ended) == kills)  # type: ignore[misc]
            assert it.ended[-1] == (f"a.{kills}", -signal.SIGKILL)
            assert is_over(child)
            assert it.swept == kills
            assert not is_over(other)


async def test_an_end_is_told_at_once_where_nothing_was_left(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "end", code=0)
        await eventually(lambda: it.ended)
        assert it.swept == 0


# --- what processes print -------------------------------------------------------------------


async def test_what_is_printed_comes_as_lines_that_say_who_said_it_and_where(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "say", text="héllo")
        await eventually(lambda: len(it.printed) == 2)
        assert it.said("stdout") == ["héllo"]
        assert it.said("stderr") == ["héllo on standard error, b'' in"]
        line = it.printed[0]
        assert (line["actor"], line["epoch"], line["pid"]) == ("a.1", "1", it.pids["a.1"])


async def test_a_crash_in_native_code_loses_no_line_and_shows_where_python_was(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "abort", text="ggml: out of memory")
        await eventually(lambda: it.ended and it.said("stderr"))
        await eventually(lambda: "in abort" in "\n".join(it.said()))
        assert it.ended == [("a.1", -signal.SIGABRT)]
        # Printed by Python and by a C library, and both held back while it goes to no terminal.
        assert it.said("stdout") == ["python: ggml: out of memory", "c: ggml: out of memory"]
        assert it.said()[0] == "Fatal Python error: Aborted"


async def test_a_traceback_comes_whole_and_in_order(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "fail", text="the entry's own")
        await eventually(lambda: "RuntimeError: the entry's own" in it.said())
        said = it.said()
        assert said[0] == "Traceback (most recent call last):"
        assert said[-1] == "RuntimeError: the entry's own"
        assert '    raise RuntimeError(payload["text"])' in said


async def test_a_process_prints_on_while_nobody_reads_as_far_as_its_pipe_holds(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        it.reads = False
        # What is written in small pieces does not fill every page.
        await it.spawn("fits.1", "print_much", size=PIPE_BYTES * 9 // 10)
        await it.spawn("full.1", "print_much", size=PIPE_BYTES + 1)
        await eventually(lambda: it.ended == [("fits.1", 0)])
        await eventually(
            lambda: psutil.Process(it.pids["full.1"]).status() == psutil.STATUS_SLEEPING
        )
        assert not is_over(it.pidfds["full.1"])
        it.read("full.1")
        await eventually(lambda: ("full.1", 0) in it.ended)


async def test_the_pipes_of_a_process_are_its_own_and_the_owners_alone(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "wait")
        into = tmp_path / "facts"
        await it.spawn("a.2", "describe", into=str(into), data=b"")
        await eventually(lambda: it.ended)
        outsiders = _open_in(it.pid) | _open_in(it.pids["a.1"])
        pipes = {link for link in json.loads(into.read_text())["open"] if link.startswith("pipe:")}
        # Two to print into, and the one with the secret.
        assert len(pipes - _open_in(os.getpid())) == 3
        assert not (pipes & outsiders) - _open_in(os.getpid())


async def test_a_later_spawner_has_nothing_of_the_processes_before_it(tmp_path: Path) -> None:
    before = _open_in(os.getpid())
    async with owner(tmp_path) as it:
        await it.spawn("a.1", "wait")
        held = _open_in(os.getpid())
        it.spawner.kill()
        await eventually(lambda: it.died)
        it.spawner.start()
        await eventually(lambda: it.ready == 2)
        assert "anon_inode:[pidfd]" in held
        assert _open_in(it.pid) & held <= before


async def test_what_a_dead_process_left_holds_no_pipe_open_here(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        before = len(os.listdir("/proc/self/fd"))
        parent, _ = await it.spawn_family("a.1")
        # A child of it is kept from dying by nothing but the stopped spawner.
        await stop(it)
        signal.pidfd_send_signal(parent, signal.SIGKILL)
        await eventually(lambda: is_over(parent))
        it.outputs.died("a.1", "1")
        # Both pidfds are there still.
        await eventually(lambda: len(os.listdir("/proc/self/fd")) == before + 2)


# --- preloading -----------------------------------------------------------------------------

GOOD = "class It: pass"


async def preload(it: Owner, **files: str) -> dict[str, str]:
    """Have a spawner import the class It of each file; what speaks against each."""
    for name, source in files.items():
        (it.folder / f"{name}.py").write_text(source)
    names = [f"{name}:It" for name in files]
    it.spawner.preload(names)
    await eventually(lambda: len(it.preloaded) == len(names))
    return {name.removesuffix(":It"): problem for name, problem in it.preloaded.items()}


@pytest.fixture
def _finds_files_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")


@pytest.mark.usefixtures("_finds_files_of")
async def test_what_is_preloaded_is_there_in_every_later_process(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        assert await preload(it, quick=GOOD) == {"quick": ""}
        into = tmp_path / "modules"
        await it.spawn("a.1", "list_modules", into=str(into))
        await eventually(lambda: it.ended)
        assert "quick" in into.read_text().split()


@pytest.mark.usefixtures("_finds_files_of")
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('broken')", "fails"),
        ("no python", "fails"),
        ("class Other: pass", "fails"),
        ("import os; os._exit(9)", "with 9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "with -11"),
        (
            "import threading; threading.Thread(target=threading.Event().wait, daemon=True)"
            ".start()\nclass It: pass",
            "thread",
        ),
    ],
)
async def test_what_would_harm_the_spawner_is_not_preloaded_and_it_lives_on(
    tmp_path: Path, source: str, problem: str
) -> None:
    async with owner(tmp_path) as it:
        found = await preload(it, harmful=source, good=GOOD)
        assert problem in found["harmful"]
        assert found["good"] == ""
        into = tmp_path / "modules"
        await it.spawn("a.1", "list_modules", into=str(into))
        await eventually(lambda: it.ended)
        assert "harmful" not in into.read_text().split()
        assert it.died == 0


async def test_every_actor_of_the_default_settings_can_be_preloaded(tmp_path: Path) -> None:
    actors = load_settings(environ={}).actors.values()
    classes = {entry.class_path for entry in actors if entry.preload}
    assert len(classes) == 5
    async with owner(tmp_path) as it:
        it.spawner.preload(classes)
        await eventually(lambda: len(it.preloaded) == len(classes))
        assert it.preloaded == dict.fromkeys(classes, "")


@pytest.mark.usefixtures("_finds_files_of")
async def test_an_import_that_never_ends_holds_up_no_order(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        begun = tmp_path / "begun"
        (tmp_path / "endless.py").write_text(
            f"import pathlib, threading\npathlib.Path({str(begun)!r}).touch()\n"
            "threading.Event().wait()"
        )
        it.spawner.preload(["endless:It"])
        await eventually(begun.exists)
        await it.spawn("a.1", "end", code=4)
        await eventually(lambda: it.ended)
        assert it.ended == [("a.1", 4)]
        assert it.preloaded == {}


@pytest.mark.usefixtures("_finds_files_of")
async def test_a_trial_of_an_import_dies_with_its_spawner(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        pid = tmp_path / "pid"
        (tmp_path / "endless.py").write_text(
            "import os, pathlib, threading\n"
            f"new = pathlib.Path({str(pid.with_suffix('.new'))!r})\n"
            f"new.write_text(str(os.getpid()))\nnew.rename({str(pid)!r})\n"
            "threading.Event().wait()"
        )
        it.spawner.preload(["endless:It"])
        await eventually(pid.exists)
        trial = os.pidfd_open(int(pid.read_text()))
        it.pidfds["trial"] = trial
        it.spawner.kill()
        await eventually(lambda: is_over(trial))


# --- a spawner that dies --------------------------------------------------------------------


async def test_when_the_spawner_is_killed_it_is_told_once_and_its_children_are_gone(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        pidfds = [await it.spawn(f"a.{number}", "rest") for number in range(3)]
        os.kill(it.pid, signal.SIGKILL)
        await eventually(lambda: it.died)
        await eventually(lambda: all(is_over(pidfd) for pidfd in pidfds))
        assert it.died == 1
        assert it.spawner.pid is None


async def test_a_spawner_that_died_can_be_followed_by_another(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        first = it.pid
        it.spawner.kill()
        await eventually(lambda: it.died)
        it.spawner.start()
        await eventually(lambda: it.ready == 2)
        assert it.pid != first
        await it.spawn("a.1", "end", code=3)
        await eventually(lambda: it.ended)
        assert it.ended == [("a.1", 3)]


async def test_a_spawner_that_is_asked_to_end_takes_all_its_descendants_with_it(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        family = await it.spawn_family("a.1")
        os.kill(it.pid, signal.SIGTERM)
        await eventually(lambda: it.died)
        assert all(is_over(pidfd) for pidfd in family)


async def test_what_the_spawner_said_before_its_death_is_heard_before_that_is_told() -> None:
    order: list[str] = []
    spawner = Spawner(
        SpawnerEvents(
            lambda: order.append("ready"), lambda *_: None, lambda *_: None, lambda *_: None,
            lambda *_: None, lambda: order.append("died"),
        )
    )  # fmt: skip
    spawner.start()
    assert spawner.pid is not None
    process = psutil.Process(spawner.pid)
    # The loop does not run before both have happened.
    until(lambda: _unread(spawner))
    process.kill()
    until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    await eventually(lambda: "died" in order)
    assert order == ["ready", "died"]


async def test_starting_a_second_one_beside_it_is_a_defect(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        with pytest.raises(InternalError):
            it.spawner.start()


async def test_an_order_without_a_spawner_is_lost(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        it.spawner.kill()
        await eventually(lambda: it.died)
        it.order("a.1", "wait")
        it.spawner.start()
        await eventually(lambda: it.ready == 2)
        await it.spawn("a.2", "wait")
        assert "a.1" not in it.pids


# --- a spawner that is stopped ----------------------------------------------------------------


async def test_orders_to_a_stopped_spawner_do_not_block_and_are_done_when_it_goes_on(
    tmp_path: Path,
) -> None:
    async with owner(tmp_path) as it:
        await stop(it)
        # Much more than the socket holds.
        for number in range(40):
            it.order(f"a.{number}", "end", code=number, ballast=bytes(100_000))
        assert it.pids == {}
        os.kill(it.pid, signal.SIGCONT)
        await eventually(lambda: len(it.ended) == 40)
        assert sorted(it.ended) == sorted((f"a.{number}", number) for number in range(40))


async def test_a_stopped_spawner_can_be_killed(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        pidfd = await it.spawn("a.1", "rest")
        await stop(it)
        it.order("a.2", "rest", ballast=bytes(100_000))
        it.order("a.3", "rest", ballast=bytes(100_000))
        it.order("a.4", "rest", ballast=bytes(100_000))
        it.spawner.kill()
        await eventually(lambda: it.died)
        await eventually(lambda: is_over(pidfd))
        assert it.pids.keys() == {"a.1"}


async def test_a_stopped_spawner_does_not_hold_up_the_close(tmp_path: Path) -> None:
    async with owner(tmp_path) as it:
        pidfd = await it.spawn("a.1", "rest")
        await stop(it)
        await it.spawner.close(timeout_s=0)
        assert it.spawner.pid is None
        await eventually(lambda: is_over(pidfd))


# --- closing ------------------------------------------------------------------------------------


async def test_a_close_leaves_nothing_behind(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    async with owner(tmp_path) as it:
        families = [*await it.spawn_family("a.1"), *await it.spawn_family("b.1")]
        await it.spawner.close(PATIENCE_S)
        assert all(is_over(pidfd) for pidfd in families)
        assert it.spawner.pid is None
        assert it.died == 0
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)


async def test_a_close_leaves_nothing_behind_when_the_last_words_were_not_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with owner(tmp_path) as it:
        family = await it.spawn_family("a.1")
        it.order("a.2", "end", code=0)
        # The loop does not run, so what the spawner says stays in the socket.
        until(lambda: _unread(it.spawner))
        await it.spawner.close(PATIENCE_S)
        assert all(is_over(pidfd) for pidfd in family)
    assert capfd.readouterr().err == ""


def _unread(spawner: Spawner) -> bool:
    assert spawner._channel is not None
    return bool(select.select([spawner._channel], [], [], 0)[0])


async def test_closing_what_is_closed_or_never_was_started_is_no_mistake(tmp_path: Path) -> None:
    never = Owner(tmp_path)
    await never.spawner.close()
    async with owner(tmp_path) as it:
        await it.spawner.close()
        await it.spawner.close()


# --- the first spawner, a fork --------------------------------------------------------------------

FORKED = """
import asyncio, os
from supervision.spawner import Spawner, SpawnerEvents, SpawnOrder, fork_spawner

async def main(first):
    done = asyncio.Event()
    def ended(key, status, swept):
        print(key, status)
        done.set()
    def spawned(made):
        print(made.key, made.pid != os.getpid())
    spawner = Spawner(SpawnerEvents(lambda: print("ready"), spawned, print, ended, print, print))
    spawner.start(first)
    entry = "tests.support.entries:end"
    spawner.order(SpawnOrder("a.1", "a", entry, {"code": 7}, b"secret"))
    await done.wait()
    await spawner.close()
    print("closed", spawner.pid)

asyncio.run(main(fork_spawner()))
"""

ORPHANED = """
import os, signal, socket, sys
import msgpack
from supervision import forkserver
from supervision.processes import become_subreaper

become_subreaper()
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
fork, me = os.fork, os.getpid()

def fork_and_die():
    "The spawner is killed before its child has said whose death it wants to die with."
    spawner = os.getpid()
    pid = fork()
    if pid:
        os.kill(spawner, signal.SIGKILL)
    while os.getppid() == spawner:
        pass
    return pid

if fork() == 0:
    ours.close()
    os.fork = fork_and_die
    forkserver.serve(theirs, me)
theirs.close()
assert msgpack.unpackb(ours.recv(100)) == {"ready": True}
socket.send_fds(ours, [msgpack.packb({
    "spawn": "a.1", "name": "a", "entry": "tests.support.entries:describe",
    "payload": {"into": sys.argv[1], "data": b""},
})], [0])
for _ in range(2):
    os.waitpid(-1, 0)
print("it ran" if os.path.exists(sys.argv[1]) else "it never ran")
"""

THREADED = """
import threading
from protocol.errors import InternalError
from supervision.spawner import fork_spawner
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
try:
    fork_spawner()
except InternalError as error:
    print(error)
finally:
    go.set()
"""


def test_the_first_spawner_is_a_fork_and_works_like_any_other() -> None:
    said = run_python(FORKED).splitlines()
    assert said == ["ready", "a.1 True", "a.1 7", "closed None"]


def test_a_process_with_threads_is_not_forked() -> None:
    assert "threads cannot be forked" in run_python(THREADED)


def test_a_process_whose_spawner_died_while_it_was_being_forked_does_not_run(
    tmp_path: Path,
) -> None:
    assert run_python(ORPHANED, tmp_path / "facts") == "it never ran\n"
