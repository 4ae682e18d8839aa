"""noyau as a service: what systemd is told, with a socket of the tests in its place."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from noyau import Query
from protocol.lifecycle import SETTLED, Health
from protocol.messages.supervisor import Drain, Restart
from supervision.guard import FINAL_EXIT_CODES
from supervision.health import Verdict
from supervision.notify import Notifier, Service
from tests.integration.test_command import noyau
from tests.support.planning import running as running_plan
from tests.support.system import System, connect, pid_of, running, running_pid, status_when, until
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "noyau.service"
COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"


class Manager:
    """The socket of a service manager, and what was sent to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def hear(self) -> list[tuple[str, str]]:
        """All that was sent so far, each a name and a value."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(65536).decode().splitlines():
                    name, _, value = line.partition("=")
                    self.told.append((name, value))
        return self.told

    def count(self, name: str) -> int:
        """How often it was sent."""
        return sum(told == name for told, _ in self.hear())

    def close(self) -> None:
        """Be gone."""
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    name = f"@noyau-test-{secrets.token_hex(4)}"
    it = Manager(name if request.param == "abstract" else str(tmp_path / "notify"))
    yield it
    with contextlib.suppress(FileNotFoundError):
        it.close()


def is_stopped(system: System) -> bool:
    return system.process.poll() is not None


def is_without_storage(name: str, value: str) -> bool:
    told = re.match(r"(degraded|unhealthy): .*storage ", value)
    return name == "STATUS" and told is not None


async def test_a_start_a_change_of_health_and_the_end_are_told(manager: Manager) -> None:
    told = {"NOTIFY_SOCKET": manager.address}
    async with running(COUNTING, guard=False, wait=False, environment=told) as system:
        async with await connect(system) as client:
            await until(lambda: ("READY", "1") in manager.hear())
            found = await client.status()
            assert all(actor.state in SETTLED for actor in found.actors)
            await until(lambda: manager.hear()[-1] == ("STATUS", "healthy"))
            before = len(manager.told)
            # It stays away until that is told: not every reason is, where they change quickly.
            await client.ask(Drain(name="storage"))
            await until(lambda: any(is_without_storage(*one) for one in manager.hear()[before:]))
            # All others with it.
            os.kill(pid_of(found, "spawner"), signal.SIGKILL)
            await client.ask(Restart(names=["storage"]))
            await until(lambda: manager.hear()[-1] == ("STATUS", "healthy"))
            assert manager.count("STOPPING") == 0
            system.process.terminate()
            await until(lambda: is_stopped(system))
        assert manager.count("READY") == 1
        assert manager.count("STOPPING") == 1
        assert manager.count("WATCHDOG") == 0


async def test_the_watchdog_hears_the_event_loop_and_nothing_of_a_stopped_one(
    manager: Manager,
) -> None:
    told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    async with running(COUNTING, guard=False, environment=told) as system:
        seen = manager.count("WATCHDOG")
        await until(lambda: manager.count("WATCHDOG") > seen + 3)
        supervisor = psutil.Process(system.process.pid)
        supervisor.suspend()
        await until(lambda: supervisor.status() == psutil.STATUS_STOPPED)
        seen = manager.count("WATCHDOG")
        # Twenty times the interval.
        with pytest.raises(TimeoutError):
            await until(lambda: manager.count("WATCHDOG") > seen, 2)
        supervisor.resume()
        await until(lambda: manager.count("WATCHDOG") > seen)


async def test_a_service_manager_that_is_gone_harms_nobody(manager: Manager) -> None:
    told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    async with running(COUNTING, guard=False, environment=told) as system:
        manager.close()
        async with await connect(system) as client:
            old = pid_of(await client.status(), "storage")
            os.kill(old, signal.SIGKILL)
            await status_when(client, lambda s: running_pid(s, "storage") not in (None, old))
            assert (await client.ask(Query(text="count", max_tokens=2))).text == "0 1 "
        system.process.terminate()
        await until(lambda: is_stopped(system))
        assert system.process.returncode == 0
        assert "Traceback" not in system.output


async def test_nothing_that_noyau_starts_has_the_service_managers_variables(
    manager: Manager,
) -> None:
    told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000"}
    async with running(COUNTING, guard=False, environment=told) as system:
        async with await connect(system) as client:
            before = pid_of(await client.status(), "spawner")
            # The next one is started by exec, so the kernel shows what it really got.
            os.kill(before, signal.SIGKILL)
            found = await status_when(
                client, lambda s: running_pid(s, "spawner") not in (None, before)
            )
            environ = psutil.Process(pid_of(found, "spawner")).environ()
        assert "PATH" in environ
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & environ.keys()


async def test_what_could_not_be_sent_is_sent_when_the_manager_is_back(tmp_path: Path) -> None:
    children = running_plan("a").plan.children
    address = str(tmp_path / "notify")
    notifier = Notifier(Service(address))
    notifier.look(0, children, {"a": Verdict(Health.DEGRADED, "late")})
    notifier.look(1, children, {"a": Verdict(Health.HEALTHY)})
    manager = Manager(address)
    notifier.look(2, children, {"a": Verdict(Health.HEALTHY)})
    await eventually(manager.hear)
    assert manager.told == [("READY", "1"), ("STATUS", "healthy")]
    notifier.stop()
    manager.close()


async def test_up_without_a_guard_is_the_supervisor_itself(tmp_path: Path) -> None:
    async with running(COUNTING, guard=False) as system, await connect(system) as client:
        assert (await client.status()).guard.pid is None
        # It becomes the supervisor, which says that the folder is in use.
        done = await asyncio.to_thread(
            noyau, "up", "--no-guard", "--set", f"data.folder={tmp_path}",
            run_folder=system.run_folder,
        )  # fmt: skip
        assert done.returncode == 78
        assert done.stderr.count("noyau:") == 1
        assert f"supervisor pid {system.process.pid}" in done.stderr


# --- the unit ---------------------------------------------------------------------------------


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit_says_how_noyau_is_started_watched_and_left_alone() -> None:
    service = unit()["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    program, verb, *options = service["ExecStart"].split()
    assert program.endswith("/noyau")
    shown = noyau(verb, "--help").stdout
    assert all(re.search(rf"{option}\b", shown) for option in options)
    assert "--no-guard" in options
    final = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert final == set(FINAL_EXIT_CODES) - {0}


def test_systemd_itself_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    mine = tmp_path / "noyau.service"
    mine.write_text(UNIT.read_text().replace("%h/.local/bin/noyau", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(mine)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    about_it = [line for line in done.stderr.splitlines() if "noyau.service" in line]
    assert (done.returncode, about_it) == (0, [])
