"""The tool user in a running noyau: real processes, killed in the middle of a call."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import struct
from pathlib import Path

import psutil
import pytest

from actors.kernel import Actor, handles
from actors.tool_user import ToolUser
from configs import load_settings
from protocol.client import Client
from protocol.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NoyauError,
    OutcomeUnknown,
)
from protocol.messages.memory import Embed, Embedded, Hit, Recall, Recalled
from protocol.messages.tool_user import CallTool, FindTool, ListTools
from tests.support.system import connect, pid_of, running, status_when
from tests.support.waiting import eventually

ALONE = (
    "query.engines=[]",
    # Whichever actors the default settings have by now.
    *(f"actors.{name}.enabled=false" for name in load_settings(environ={}).actors),
    "actors.tool_user.enabled=true",
    "actors.tool_user.class=actors.tool_user:ToolUser",
)

HANG = '''
import os, pathlib, time
def hang(file: str) -> str:
    """Waits for ever."""
    pathlib.Path(file + ".new").write_text(str(os.getpid()))
    os.rename(file + ".new", file)
    time.sleep(600)
'''

PEEK = '''
import os, pathlib
def peek(complement: str) -> list[str]:
    """Looks for something, given as its complement so that it is not here by that, in all memory
    of this process and in the environment it was given."""
    wanted, turned = bytes.fromhex(complement), bytes(range(255, -1, -1))
    found = []
    if wanted in pathlib.Path("/proc/self/environ").read_bytes().translate(turned):
        found.append("environment")
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
            area, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(one, 16) for one in area.split("-"))
                if wanted in os.pread(memory.fileno(), end - begin, begin).translate(turned):
                    found.append(line)
    return found
'''


class TellingToolUser(ToolUser):
    """Says what it must not say: the secret that all actors have."""

    async def on_start(self) -> None:
        await super().on_start()
        identity = self.caller._identity
        assert identity is not None
        self.info["secret"] = identity.secret.hex()


class SimulatedMemory(Actor):
    """Knows the meaning of one word: texts that hold ``time`` are alike, all others are not."""

    @handles(Embed)
    def embed(self, message: Embed) -> Embedded:
        """Vectors along one of two axes."""
        return Embedded(
            vectors=[
                struct.pack("<2f", "time" in text, "time" not in text) for text in message.texts
            ],
            model="simulated", dimension=2,
        )  # fmt: skip

    @handles(Recall)
    def recall(self, message: Recall) -> Recalled:
        """One memory, which repeats the query."""
        hit = Hit(id="1", text=f"about {message.query}", score=1.0, age_s=1.0, source="test")
        return Recalled(hits=[hit])


async def until_written(file: Path) -> int:
    await eventually(file.exists)
    return int(file.read_text())


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_tools_are_listed_found_and_run_and_survive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    (tmp_path / "bad.py").write_text("nonsense")
    folders = f'actors.tool_user.settings.folders=["{tmp_path}"]'
    async with running(*ALONE, folders, assets=False) as system, system.client() as client:
        await _look(client, tmp_path)
        await _call(client)
        file = tmp_path / "pid"
        timeout_s = 1.5
        # It has to be at work when its time is over: on a slow machine that needs more time.
        while not file.exists():
            call = CallTool(name="hang", arguments={"file": str(file)}, timeout_s=timeout_s)
            with pytest.raises(DeadlineExceeded):
                await client.ask(call)
            timeout_s *= 2
        assert gone(int(file.read_text()))
        file.unlink()
        await _kill_in_the_middle(client, file)


async def _look(client: Client, folder: Path) -> None:
    tools = await client.ask(ListTools())
    names = [tool.name for tool in tools.tools]
    assert names == ["calculator", "clock", "hang", "read_file", "recall"]
    (broken,) = tools.broken
    assert broken.file == str(folder / "bad.py")
    assert "NameError" in broken.problem
    found = await client.ask(FindTool(text="what is 17.5 % of 2,340?"))
    assert (found.how, found.arguments) == ("exact", {"expression": "17.5 % of 2,340"})
    none = await client.ask(FindTool(text="what is love?"))
    assert (none.how, none.tool) == ("none", None)
    assert "there is no actor 'memory'" in none.note


async def _call(client: Client) -> None:
    result = await client.ask(CallTool(name="calculator", arguments={"expression": "2 ** 64"}))
    assert result.value == result.text == "18446744073709551616"
    assert result.took_ms > 0
    with pytest.raises(NotFound, match="calculator, clock, hang, read_file, recall"):
        await client.ask(CallTool(name="nothing"))
    with pytest.raises(InvalidRequest, match="expression") as invalid:
        await client.ask(CallTool(name="calculator", arguments={"sum": "1"}))
    assert len(invalid.value.details["errors"]) == 2
    with pytest.raises(InvalidRequest, match="division by zero"):
        await client.ask(CallTool(name="calculator", arguments={"expression": "1/0"}))
    with pytest.raises(NotAllowed, match="allow one with"):
        await client.ask(CallTool(name="read_file", arguments={"path": "/etc/passwd"}))
    with pytest.raises(NoyauError, match="memory"):
        await client.ask(CallTool(name="recall", arguments={"query": "x"}, timeout_s=0.5))


async def _kill_in_the_middle(client: Client, file: Path) -> None:
    call = asyncio.create_task(
        client.ask(CallTool(name="hang", arguments={"file": str(file)}), timeout_s=60)
    )
    tool = await until_written(file)
    before = pid_of(await client.status(), "tool_user")
    below = psutil.Process(before).children(recursive=True)
    os.kill(before, signal.SIGKILL)
    # Not done again: nobody knows what the tool had done by then.
    with pytest.raises(OutcomeUnknown):
        await call
    await eventually(lambda: gone(tool) and all(gone(one.pid) for one in below))
    result = await client.ask(CallTool(name="calculator", arguments={"expression": "6 * 7"}))
    assert result.text == "42"
    after = await status_when(client, lambda found: pid_of(found, "tool_user") != before)
    assert pid_of(after, "tool_user") != before


async def test_with_a_memory_likeness_counts_and_recall_works() -> None:
    memory = (
        "actors.memory.class=tests.integration.test_tools_actor:SimulatedMemory",
        "actors.memory.enabled=true",
        "actors.memory.needs=[]",
    )
    async with running(*ALONE, *memory, assets=False) as system, system.client() as client:
        found = await client.ask(FindTool(text="has the time come?"))
        assert found.tool is not None
        assert (found.tool.name, found.how, found.arguments) == ("clock", "similar", None)
        assert found.score == pytest.approx(1.0)
        recalled = await client.ask(CallTool(name="recall", arguments={"query": "Ann"}))
        assert recalled.value["hits"][0]["text"] == "about Ann"


async def test_a_tool_finds_neither_the_actors_secret_nor_the_users_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "peek.py").write_text(PEEK)
    telling = "actors.tool_user.class=tests.integration.test_tools_actor:TellingToolUser"
    folders = f'actors.tool_user.settings.folders=["{tmp_path}"]'
    key = secrets.token_hex(16)
    async with (
        running(*ALONE, telling, folders, assets=False, environment={"API_KEY": key}) as system,
        system.client() as client,
    ):
        secret = bytes.fromhex(client.caller.directory.entries["tool_user"].info["secret"])
        assert len(secret) == 32
        assert not await _find_from_inside(client, secret)
        assert not await _find_from_inside(client, key.encode())
        # It does find what is there.
        assert await _find_from_inside(client, str(tmp_path / "peek.py").encode())


async def _find_from_inside(client: Client, searched: bytes) -> list[str]:
    complement = bytes(255 - byte for byte in searched).hex()
    found = await client.ask(CallTool(name="peek", arguments={"complement": complement}))
    assert isinstance(found.value, list)
    return found.value


async def test_wrong_options_of_a_tool_keep_the_actor_from_starting_and_say_why() -> None:
    wrong = "actors.tool_user.settings.options.read_file.allowed=3"
    async with running(*ALONE, wrong, wait=False, assets=False) as system:
        async with await connect(system) as client:
            found = await status_when(
                client,
                lambda found: any(
                    a.name == "tool_user" and "options" in a.reason for a in found.actors
                ),
            )
        (reason,) = (actor.reason for actor in found.actors if actor.name == "tool_user")
    assert "actors.tool_user.settings.options.read_file.allowed" in reason
