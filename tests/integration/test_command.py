"""The ``noyau`` command, as a person at a terminal uses it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from noyau import Client
from noyau.app import VERBS
from noyau.processes import alive
from protocol.lifecycle import Health
from protocol.messages.supervisor import Status
from tests.support.invoking import invoked
from tests.support.model import shared_assets
from tests.support.system import (
    System,
    connect,
    pid_of,
    running,
    running_pid,
    status_when,
)

ROOT = Path(__file__).parents[2]
SIMULATED = ("actors.cpu_engine.settings.backend=simulated",
             "actors.cpu_engine.settings.simulated_token_s=0.001",
             "restart.max_restarts=1000")  # fmt: skip


# What they do is done in a moment, and nothing of it is about processes or terminals.
AT_ONCE = (
    "status", "ask", "conversations", "memories", "models", "files", "assets", "restart", "drain",
    "reload", "keys", "protocol",
)  # fmt: skip


PLAIN = {"COLUMNS": "200", "NO_COLOR": "1"}


def noyau(
    *arguments: str, run_folder: Path | None = None, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command; returns what it printed and its exit code. In this process where it can
    be, as a new one takes a second to import what it needs: not in the main thread, whose loop is
    the test's, and inside which the command's own cannot run."""
    settings = PLAIN | variables
    if run_folder is not None:
        settings["NOYAU_RUN__FOLDER"] = str(run_folder)
    if arguments[0] in AT_ONCE and threading.current_thread() is not threading.main_thread():
        return invoked(*arguments, stdin=stdin or "", **settings)
    return in_a_new_process(arguments, settings, stdin or "")


def in_a_new_process(
    arguments: Sequence[str], settings: Mapping[str, str], stdin: str = "", bound_s: float = 90
) -> subprocess.CompletedProcess[str]:
    """The same, wherever this is called; a process that is not done after ``bound_s`` is killed."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("NOYAU_")}
    return subprocess.run(
        [sys.executable, "-m", "noyau", *arguments],
        cwd=ROOT, env=own | PLAIN | dict(settings), capture_output=True, text=True,
        timeout=bound_s, check=False, input=stdin,
    )  # fmt: skip


async def command(system: System, *arguments: str, stdin: str | None = None) -> str:
    """Run it against a system; it must succeed."""
    done = await asyncio.to_thread(noyau, *arguments, run_folder=system.run_folder, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_healthy(system: System) -> None:
    async with await connect(system) as client:
        await status_when(client, lambda found: found.health is Health.HEALTHY)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_stands_in_the_readme_or_docs(verb: str) -> None:
    shown = invoked(verb, "--help")
    assert shown.returncode == 0
    assert "Usage" in shown.stdout
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"noyau {verb}" in page.read_text() for page in pages)


@pytest.mark.parametrize(
    "words", [["--version"], ["assets", "list"], ["protocol", "schema"], ["protocol", "operations"]]
)
def test_output_that_cannot_be_written_is_said_in_one_line_and_by_the_exit_code(
    words: list[str], tmp_path: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "noyau", *words], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=90, check=False,
            env=os.environ | {"NOYAU_DATA__FOLDER": str(tmp_path), "NOYAU_RUN__FOLDER": "/none"},
        )  # fmt: skip
    assert done.stderr == "noyau: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_who_stops_reading_the_output_is_told_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "noyau", "protocol", "schema"], cwd=ROOT, stdout=writing,
            stderr=subprocess.PIPE, text=True, timeout=90, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.parametrize("verb", ["status", "ask", "down", "restart"])
def test_without_a_system_a_verb_says_how_to_start_one(verb: str, tmp_path: Path) -> None:
    words = {"ask": ["hello"], "restart": ["storage"]}.get(verb, [])
    done = noyau(verb, *words, run_folder=tmp_path / "none")
    assert done.returncode == 3
    assert "noyau up" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_question_is_wrong_usage(tmp_path: Path) -> None:
    done = noyau("ask", run_folder=tmp_path)
    assert done.returncode == 2
    assert "noyau ask" in done.stderr


def test_wrong_settings_are_all_told_before_anything_starts(tmp_path: Path) -> None:
    done = noyau("up", "--set", "query.deadline_s=soon", "--set", "nonsense.x=1")
    assert done.returncode == 78
    assert "query.deadline_s" in done.stderr
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_folder_too_long_for_a_socket_is_told_with_the_remedy(tmp_path: Path) -> None:
    done = noyau("up", "--detach", "--set", f"run.folder={tmp_path}/{'x' * 100}",
                 "--set", f"data.folder={tmp_path}/data")  # fmt: skip
    assert done.returncode == 78
    assert "--set run.folder=" in done.stderr
    assert "Traceback" not in done.stderr


async def test_asking_status_restart_and_down_work_on_a_running_system() -> None:
    async with running() as system:
        await until_healthy(system)
        found = json.loads(await command(system, "status", "--json"))
        assert found["health"] == "healthy"
        assert isinstance(found["supervisor"]["pid"], int)
        for actor in found["actors"]:
            assert {"name", "pid", "epoch", "state", "health", "reason", "restarts"} <= actor.keys()
        for process in (*found["actors"], found["supervisor"], found["spawner"], found["guard"]):
            assert process["threads"] >= 1
            assert process["open_files"] >= 3
            assert process["rss_bytes"] > 5_000_000
            assert process["cpu_percent"] >= 0
        table = await command(system, "status")
        assert all(actor["name"] in table for actor in found["actors"])
        assert "threads" in await command(system, "status", "--verbose")

        piped = await command(
            system, "ask", "--max-tokens", "12", "--temperature", "0", "Shorten this:",
            stdin="The sky is blue because of scattering.\n",
        )  # fmt: skip
        assert piped.strip()
        answered = json.loads(await command(system, "ask", "--json", "-n", "8", "Hello"))
        assert answered["text"]
        assert answered["metadata"]["engines"][0]["completion_tokens"] <= 8

        await command(system, "restart", "orchestrator")
        after = json.loads(await command(system, "status", "--json"))
        restarts = {actor["name"]: actor["restarts"] for actor in after["actors"]}
        assert restarts.pop("orchestrator") == 1
        assert {*restarts.values()} == {0}

        unknown = await asyncio.to_thread(noyau, "restart", "nobody", run_folder=system.run_folder)
        assert unknown.returncode == 1
        assert "there are: storage, cpu_engine" in unknown.stderr

        everything = system.processes()
        await command(system, "down")
        assert alive(everything) == []
        assert system.process.wait(10) == 0


async def test_a_second_supervisor_on_one_run_folder_refuses_and_names_the_first() -> None:
    async with running() as system:
        first = json.loads(await command(system, "status", "--json"))["supervisor"]["pid"]
        second = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "supervisor.py", "--set", f"run.folder={system.run_folder}",
             "--set", f"data.folder={system.data_folder}"],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert second.returncode == 78
        assert f"pid {first}" in second.stderr
        assert "Traceback" not in second.stderr
        await until_healthy(system)
        assert json.loads(await command(system, "status", "--json"))["health"] == "healthy"


async def test_up_detached_returns_when_it_is_up_and_down_ends_it(tmp_path: Path) -> None:
    # Sockets need a short path, and tmp_path is a long one.
    run_folder, data = Path(f"/tmp/nyup{os.getpid()}"), tmp_path / "data"
    data.mkdir()
    (data / "assets").symlink_to(shared_assets())
    up = await asyncio.to_thread(
        noyau, "up", "--detach", "--set", f"run.folder={run_folder}", "--set", f"data.folder={data}"
    )
    try:
        assert up.returncode == 0, up.stderr
        assert "noyau is up" in up.stderr
    finally:
        down = await asyncio.to_thread(noyau, "down", run_folder=run_folder)
    assert down.returncode == 0, down.stderr
    (run_folder / "lock").unlink()
    run_folder.rmdir()


async def test_without_network_and_weights_it_says_what_to_do() -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR": "1",
               "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}  # fmt: skip
    async with running(wait=False, assets=False, environment=offline) as system:
        done = None
        async with asyncio.timeout(60):
            while done is None or "models/" not in done.stdout:
                done = await asyncio.to_thread(noyau, "status", run_folder=system.run_folder)
        shown = " ".join(done.stdout.split())
        assert "network" in shown
        asked = await asyncio.to_thread(
            noyau, "ask", "--timeout", "1", "hi", run_folder=system.run_folder
        )
        assert asked.returncode == 1
        assert "Traceback" not in asked.stderr


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_import_noyau_and_the_standard_library_alone(example: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(example.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"noyau"}


async def test_the_examples_run() -> None:
    async with running() as system:
        for example in sorted((ROOT / "examples").glob("*.py")):
            environment = os.environ | {"NOYAU_RUN__FOLDER": str(system.run_folder)}
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, str(example)], cwd="/", env=environment,
                capture_output=True, text=True, timeout=90, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert len(done.stdout) > 100


async def test_logs_of_all_processes_are_shown_in_one_order_and_by_their_query() -> None:
    async with running(*SIMULATED) as system:
        answered = json.loads(await command(system, "ask", "--json", "-n", "4", "Hello"))
        shown = await command(system, "logs", "-n", "200")
        assert "storage is ready" in shown
        times = [line[:12] for line in shown.splitlines() if line[:2].isdigit()]
        assert times == sorted(times)
        lines = [json.loads(one) for one in (await command(system, "logs", "--json")).splitlines()]
        assert {"supervisor"} <= {one["actor"] for one in lines}
        assert answered["metadata"]["query"]
        unknown = await asyncio.to_thread(noyau, "logs", "nobody", run_folder=system.run_folder)
        assert unknown.returncode == 1
        assert "there are: " in unknown.stderr
        wrong = await asyncio.to_thread(noyau, "logs", "-l", "loud", run_folder=system.run_folder)
        assert wrong.returncode == 1
        assert "critical" in wrong.stderr


async def test_the_last_words_of_a_crash_in_native_code_are_in_the_logs_before_its_death() -> None:
    aborting = ("actors.aborting.class=tests.support.actors:Aborting",
                "actors.aborting.restart=temporary")  # fmt: skip
    async with running(*SIMULATED, *aborting, wait=False) as system, await connect(system) as it:
        await status_when(it, lambda found: bool(last_exit(found, "aborting")))
        shown = await command(system, "logs", "-n", "1000")
        said = [line[36:] for line in shown.splitlines() if "aborting" in line]
        (died,) = (n for n, line in enumerate(said) if line.startswith("actor.stopped"))
        before = said[:died]
        assert "stdout | tensor 1 of 2" in before
        assert "stdout | tensor 2 of 2" in before
        assert any(line.startswith("stderr | ggml: not enough memory") for line in before)
        assert any("in on_start" in line for line in before)
        assert "SIGABRT" in said[died]
        warnings = await command(system, "logs", "-l", "warning", "aborting")
        assert "ggml" in warnings
        assert "tensor" not in warnings


def last_exit(found: Status, name: str) -> str:
    return next(actor.last_exit for actor in found.actors if actor.name == name)


async def kill_until_done(client: Client, name: str, done: asyncio.Future[Any]) -> None:
    """Kill an actor again and again: whether somebody watches events yet, nobody else knows."""
    while not done.done():
        pid = running_pid(await client.status(), name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await client.caller.wait_for_news(client.caller.clock.now() + 0.3)


async def test_events_are_shown_as_they_happen() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        watching = asyncio.create_task(
            asyncio.to_thread(
                noyau, "events", "actor.died", "--once", "--json", run_folder=system.run_folder
            )
        )
        await kill_until_done(client, "storage", watching)
        done = await watching
        assert done.returncode == 0
        first = json.loads(done.stdout.splitlines()[0])
        assert (first["what"], first["actor"]) == ("actor.died", "storage")
        assert "SIGKILL" in first["text"]


async def test_events_are_shown_through_the_death_of_a_supervisor() -> None:
    async with running(*SIMULATED) as system, await connect(system) as client:
        watching = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "noyau", "events", "actor.died", "--json", "--run-folder",
            str(system.run_folder), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

        async def shown(name: str) -> None:
            assert watching.stdout is not None
            while json.loads(await watching.stdout.readline())["actor"] != name:
                continue

        first = asyncio.ensure_future(shown("storage"))
        await kill_until_done(client, "storage", first)
        before = await client.status()
        os.kill(pid_of(before, "supervisor"), signal.SIGKILL)
        await status_when(client, lambda s: s.boot != before.boot)
        later = asyncio.ensure_future(shown("tool_user"))
        await kill_until_done(client, "tool_user", later)
        watching.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(watching.communicate(), 60)
        assert (first.exception(), later.exception()) == (None, None)
        assert b"was missed" in told
        assert watching.returncode == 130
