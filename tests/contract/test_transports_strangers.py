"""What strangers can do to a process that listens to other machines: be counted, and no more."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import curve
from protocol.curve import most_connections
from protocol.transport import ZmqTransport
from tests.support.sides import Pair, Side
from tests.support.waiting import eventually
from tests.support.wirings import CurveWiring, free_port

ROOT = Path(__file__).parents[2]


def outcome_of(script: str, *arguments: object) -> str:
    """Run a script in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def rude(port: int) -> socket.socket:
    """A connection of somebody who speaks in clear."""
    stranger = socket.create_connection(("127.0.0.1", port), 5)
    stranger.send(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04\x19\x05READY")
    return stranger


CROWDED = """
import asyncio, resource, sys, tempfile
from protocol import curve
from protocol.curve import ServerCurve, new_key_pair
from protocol.transport import ZmqTransport
from tests.contract.test_transports_strangers import Everybody

async def main(port, files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    curve.CLOSED_S = 0.05
    transport = ZmqTransport(server=ServerCurve(new_key_pair(), Everybody()))
    remote = transport.listen(f"tcp://127.0.0.1:{port}", lambda peer, frame: None)
    local = transport.listen(f"ipc://{tempfile.mkdtemp(dir='/tmp')}/x", lambda peer, frame: (
        local.send(peer, frame)))
    # From here on the loop is free: what it waits with is there before anybody is told to come.
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    print("listening", local.endpoint, flush=True)
    await over.wait()
    transport.close()

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


class Everybody:
    """Lets everybody in."""

    def lets_in(self, key: str, address: str) -> bool:
        return True

    def turned_away(self, why: str) -> None:
        """See `Door.turned_away`."""


@contextlib.contextmanager
def crowded(port: int, files: int) -> Iterator[str]:
    """A process that may have so many files open; gives its local endpoint."""
    process = subprocess.Popen(
        [sys.executable, "-c", CROWDED, str(port), str(files)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.stdin.close()
        code = process.wait(20)
        process.stdout.close()
    assert code == 0


async def test_a_crowd_of_strangers_takes_no_file_that_the_process_needs_for_itself() -> None:
    port, files = free_port(), 200
    with crowded(port, files) as endpoint:
        crowd: list[socket.socket] = []
        with contextlib.suppress(OSError):
            for _ in range(3 * files):
                crowd.append(socket.create_connection(("127.0.0.1", port), 0.2))
        assert files // 2 < len(crowd)
        # Its own people come in as ever.
        transport, side = ZmqTransport(), Side()
        for _ in range(20):
            link = transport.connect(endpoint, side.on_frame, side.on_lost)
            link.send(b"hello")
        await side.has(20)
        assert side.lost == []
        transport.close()
        for stranger in crowd:
            stranger.close()

        # And others do too, once the crowd is gone.
        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        await eventually(listens)


def test_fewer_may_come_where_fewer_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    assert most_connections() == 512
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 20, 1 << 20))
    assert most_connections() == curve.MOST_CONNECTIONS


BESIEGED = """
import asyncio, faulthandler, os, sys, time
from protocol.curve import ServerCurve, new_key_pair
from protocol.transport import ZmqTransport
from tests.contract.test_transports_strangers import Everybody, rude

async def main(port, crowd):
    transport = ZmqTransport(server=ServerCurve(new_key_pair(), Everybody()))
    transport.listen(f"tcp://127.0.0.1:{port}", lambda peer, frame: None)
    child = os.fork()
    if child == 0:
        for _ in range(crowd):
            try:
                rude(port).close()
            except OSError:
                pass
        os._exit(0)
    # The loop is busy for as long as that takes: nobody reads what zmq tells of them.
    os.waitpid(child, 0)
    faulthandler.dump_traceback_later(30, exit=True)
    transport.close()
    print("closed")

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


def test_a_listener_closes_however_many_strangers_came_while_its_loop_was_busy() -> None:
    assert outcome_of(BESIEGED, free_port(), 3000) == "closed"


NAMES = """
import asyncio, sys
from tests.support.sides import Pair
from tests.support.wirings import CurveWiring

async def main():
    wiring = CurveWiring()
    print((await Pair(wiring).meet()).connection.hex())
    wiring.close()

asyncio.run(main())
"""


def test_nobody_can_guess_what_another_connection_is_called() -> None:
    names = {outcome_of(NAMES) for _ in range(3)}
    assert len(names) == 3
    assert {name[:2] for name in names} == {"00"}


async def test_two_listeners_of_one_process_call_their_connections_differently() -> None:
    wiring = CurveWiring()
    first = await Pair(wiring, "first").meet()
    second = await Pair(wiring, "second").meet()
    assert first != second
    wiring.close()
