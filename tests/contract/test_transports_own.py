"""What each transport does in its own way: zmq with its sockets and batches, the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from protocol.batch import join, split
from protocol.blobs import MOST_BLOBS, Loaded
from protocol.drained import HARD_LIMIT_BYTES
from protocol.errors import ActorDied, Overloaded, RunFolderUnusable
from protocol.loopback import Loopback
from protocol.ports import Peer
from protocol.sockets import ZmqLink, ZmqListener
from protocol.transport import ZmqTransport
from tests.support.scripts import run_python
from tests.support.sides import BURST_S, Pair, Side, numbered, round_trip
from tests.support.wirings import BOUND_S, ZmqWiring

# --- what only one of them can do ----------------------------------------------------------


async def test_of_a_burst_the_first_frame_goes_alone_and_the_others_share_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wiring = ZmqWiring()
    sent = Pair(wiring)
    peer = await sent.meet()
    await round_trip(wiring)
    messages: list[bytes] = []
    assert isinstance(sent.link, ZmqLink)
    real = sent.link._send

    def send(message: bytes, flags: int) -> None:
        messages.append(message)
        real(message, flags)

    monkeypatch.setattr(sent.link, "_send", send)
    burst = numbered(10)
    for frame in burst:
        sent.link.send(frame)
    await sent.server.has(11)
    assert sent.server.frames[1:] == burst
    assert sent.server.peers == [peer] * 11
    assert [split(message) for message in messages] == [burst[:1], burst[1:]]
    wiring.close()


async def test_a_frame_sent_alone_does_not_wait_for_the_end_of_the_turn() -> None:
    wiring = ZmqWiring()
    pair = Pair(wiring)
    await pair.meet()
    await round_trip(wiring)
    pair.link.send(b"now")
    assert isinstance(pair.listener, ZmqListener)
    # This holds the event loop up: no turn of it has passed when the frame is there.
    assert pair.listener.socket.poll(int(1000 * BOUND_S))
    wiring.close()


async def test_a_callback_that_raises_within_a_batch_hides_none_of_its_other_frames() -> None:
    wiring = ZmqWiring()
    heard: list[bytes] = []

    def listen(peer: Peer, frame: bytes) -> None:
        heard.append(frame)
        if frame == b"1":
            raise RuntimeError("a defect")
        if frame == b"3":
            listener.send(peer, b"back")

    listener = wiring.transport().listen(wiring.endpoint("here"), listen)
    client = Side()
    link = wiring.transport().connect(wiring.endpoint("here"), client.on_frame, client.on_lost)
    link.send(join(numbered(4)))
    await client.has(1)
    assert heard == numbered(4)
    assert [str(complaint["exception"]) for complaint in wiring.complaints] == ["a defect"]
    wiring.close()


async def test_a_side_that_closes_itself_within_a_batch_hears_none_of_the_rest() -> None:
    wiring = ZmqWiring()
    heard: list[bytes] = []

    def listen(peer: Peer, frame: bytes) -> None:
        heard.append(frame)
        listener.close()

    listener = wiring.transport().listen(wiring.endpoint("here"), listen)
    client = Side()
    link = wiring.transport().connect(wiring.endpoint("here"), client.on_frame, client.on_lost)
    link.send(join(numbered(4)))
    await client.is_cut_off()
    assert heard == numbered(1)
    wiring.close()


async def test_who_went_away_while_frames_waited_is_told_to_the_next_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wiring = ZmqWiring()
    pair = Pair(wiring)
    peer = await pair.meet()
    await round_trip(wiring)

    def gone(peer: Peer, message: bytes) -> bool:
        raise ActorDied("the peer is gone")

    pair.listener.send(peer, b"first, alone")
    monkeypatch.setattr(pair.listener, "_send_now", gone)
    pair.listener.send(peer, b"waits for the end of the turn, and then nobody is there")
    await asyncio.sleep(0)
    monkeypatch.undo()
    with pytest.raises(ActorDied):
        pair.listener.send(peer, b"anybody?")
    # Once told is enough: whoever comes back under that name is a peer like any other.
    pair.listener.send(peer, b"again")
    await pair.client.has(2)
    assert pair.client.frames == [b"first, alone", b"again"]
    wiring.close()


async def test_zmq_says_where_it_cannot_listen() -> None:
    wiring = ZmqWiring()
    transport = wiring.transport()
    with pytest.raises(RunFolderUnusable, match="cannot listen on ipc://"):
        transport.listen(wiring.endpoint("missing/folder"), Side().on_peer_frame)
    with pytest.raises(RunFolderUnusable, match="cannot listen on ipc://"):
        transport.listen(wiring.endpoint("x" * 108), Side().on_peer_frame)
    wiring.close()


async def test_zmq_links_to_a_file_that_is_no_socket_are_lost() -> None:
    wiring = ZmqWiring()
    Path(wiring.folder, "file").touch()
    side = Side()
    wiring.transport().connect(wiring.endpoint("file"), side.on_frame, side.on_lost)
    await side.is_cut_off()
    wiring.close()


async def test_zmq_messages_of_too_many_parts_are_told_as_one_that_is_no_envelope() -> None:
    wiring = ZmqWiring()
    server = Side()
    wiring.transport().listen(wiring.endpoint("here"), server.on_peer_frame)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.DEALER) as stranger:
        stranger.connect(wiring.endpoint("here"))
        stranger.send_multipart([b"one", *[b"two"] * MOST_BLOBS])
        stranger.send_multipart([b"one", *[b"two"] * (MOST_BLOBS + 1)])
        stranger.send_multipart([b"one", bytes(HARD_LIMIT_BYTES), b"1"])
        stranger.send(b"good")
        await server.has(4)
    context.term()
    assert server.frames == [b"one", b"", b"", b"good"]
    assert [len(frame.blobs) for frame in server.frames if isinstance(frame, Loaded)] == [16]
    wiring.close()


def wait_for_news(socket: zmq.Socket[bytes]) -> None:
    """Wait, with the event loop standing still, until something has come in for the socket."""
    readable, _, _ = select.select([int(socket.getsockopt(zmq.FD))], [], [], BOUND_S)
    assert readable


async def test_zmq_listeners_hear_what_came_in_before_a_send_that_failed() -> None:
    wiring = ZmqWiring()
    pair = Pair(wiring)
    gone = await pair.meet()
    side = Side()
    other = pair.connect(side)
    other.send(b"other")
    await pair.server.has(2)
    pair.link.close()

    async def until_refused() -> None:
        while True:
            pair.listener.send(gone, b"are you there?")
            await round_trip(wiring)

    with pytest.raises(ActorDied):
        await asyncio.wait_for(until_refused(), BOUND_S)
    await round_trip(wiring)
    other.send(b"news")
    assert isinstance(pair.listener, ZmqListener)
    wait_for_news(pair.listener.socket)
    # The send takes the socket's wake-up for itself.
    with pytest.raises(ActorDied):
        pair.listener.send(gone, b"still there?")
    await pair.server.until(lambda: pair.server.frames[-1] == b"news")
    wiring.close()


async def test_zmq_links_that_close_themselves_while_being_lost_are_not_told_of_it() -> None:
    wiring = ZmqWiring()
    pair = Pair(wiring)
    heard: list[bytes] = []

    def close(frame: bytes) -> None:
        heard.append(frame)
        link.close()

    side = Side()
    link = pair.connecting.connect(pair.endpoint, close, side.on_lost)
    link.send(b"hello")
    await pair.server.has(1)
    for frame in numbered(3):
        pair.listener.send(pair.server.peers[0], frame)
    pair.listener.close()
    assert isinstance(link, ZmqLink)
    wait_for_news(link._monitor.socket)
    # Before the loop comes round to the frames: the loss is seen first.
    link._monitor.look_now()
    await round_trip(wiring)
    assert heard == [b"0"]
    assert side.lost == []
    wiring.close()


def refused(send: Callable[[bytes], None], frame: bytes) -> bool:
    """Send until one is refused: what is held back in a burst is not."""
    try:
        for _ in range(100_000):
            send(frame)
    except Overloaded:
        return True
    return False


async def test_zmq_links_hear_what_came_in_before_a_send_that_failed() -> None:
    wiring = ZmqWiring()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.ROUTER) as never_reading:
        never_reading.bind(wiring.endpoint("here"))
        side = Side()
        link = wiring.transport().connect(wiring.endpoint("here"), side.on_frame, side.on_lost)
        link.send(b"hello")
        peer, _ = never_reading.recv_multipart()

        async def until_full() -> None:
            # Full for good: also what zmq and the system hold on the way.
            in_vain = 0
            while in_vain < 5:
                in_vain += 1
                with contextlib.suppress(Overloaded):
                    while True:
                        link.send(b"x" * 1000)
                        in_vain = 0
                await round_trip(wiring)

        await asyncio.wait_for(until_full(), BURST_S)
        never_reading.send_multipart([peer, b"news"])
        assert isinstance(link, ZmqLink)
        wait_for_news(link.socket)
        assert refused(link.send, b"x")
        await side.has(1)
        assert side.frames == [b"news"]
    context.destroy(linger=0)
    wiring.close()


CLOSE_WHILE_DYING = """
import asyncio, sys
from protocol.transport import ZmqTransport

async def main(folder):
    listening, connecting = ZmqTransport(), ZmqTransport()
    for number in range(300):
        heard = asyncio.Event()
        listener = listening.listen(f"ipc://{folder}/{number}", lambda peer, frame: heard.set())
        links = [
            connecting.connect(listener.endpoint, lambda frame: None, lambda reason: None)
            for _ in range(4)
        ]
        links[0].send(b"hello")
        await heard.wait()
        listener.close()
        for _ in range(number % 7):
            await asyncio.sleep(0)
        for link in links:
            link.close()
    connecting.close()
    listening.close()

asyncio.run(main(sys.argv[1]))
"""


def test_zmq_links_closed_at_the_moment_their_listener_dies_do_not_hang_the_process() -> None:
    # In a process of its own: a hang inside zmq holds the interpreter's lock, so that no time
    # limit of this process could end it.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="n") as folder:
        subprocess.run(
            [sys.executable, "-c", CLOSE_WHILE_DYING, folder],
            cwd=Path(__file__).parents[2],
            timeout=BURST_S,
            check=True,
        )


FORGOTTEN = """
import asyncio, gc, sys
from protocol.transport import ZmqTransport

async def forget(endpoint):
    transport = ZmqTransport()
    heard = asyncio.Event()
    listener = transport.listen(endpoint, lambda peer, frame: heard.set())
    link = transport.connect(endpoint, print, print)
    link.send(b"hello")
    await heard.wait()

for number in range(20):
    asyncio.run(forget(f"ipc://{sys.argv[1]}/{number}"))
    gc.collect()
print("done")
"""


def test_zmq_transports_that_nobody_closed_do_not_hang_the_process(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="n") as folder:
        assert run_python(FORGOTTEN, folder).endswith("done\n")


async def test_zmq_transports_of_one_loop_are_told_apart() -> None:
    wiring = ZmqWiring()
    first, second = wiring.transport(), wiring.transport()
    assert isinstance(first, ZmqTransport)
    pair = Pair(wiring)
    first.close()
    second.close()
    await pair.meet()
    wiring.close()


async def test_loopback_refuses_a_second_listener() -> None:
    network = Loopback()
    network.listen("memory://here", Side().on_peer_frame)
    with pytest.raises(RunFolderUnusable, match="somebody does already"):
        network.listen("memory://here", Side().on_peer_frame)


async def test_loopback_listeners_closed_again_leave_their_successor_alone() -> None:
    network = Loopback()
    first = network.listen("memory://here", Side().on_peer_frame)
    first.close()
    server, client = Side(), Side()
    network.listen("memory://here", server.on_peer_frame)
    link = network.connect("memory://here", client.on_frame, client.on_lost)
    first.close()
    link.send(b"x")
    await server.has(1)
    assert client.lost == []


# --- another user ---------------------------------------------------------------------------

NOBODY = 65534
AS_SOMEBODY = """
import os, sys, zmq
os.setuid(int(sys.argv[1]))
with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(sys.argv[2])
    socket.send(b"hello")
    print("answered" if socket.poll(int(sys.argv[3])) else "not answered")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("user", "within_ms", "outcome"), [(0, 20_000, "answered"), (NOBODY, 1_000, "not answered")]
)
async def test_another_user_is_not_let_in_even_where_the_folder_is_open(
    user: int, within_ms: int, outcome: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="ny", dir="/tmp") as made:
        socket = Path(made) / "open"
        transport = ZmqTransport()
        listener = transport.listen(f"ipc://{socket}", lambda p, frame: listener.send(p, frame))
        Path(made).chmod(0o755)
        socket.chmod(0o777)
        words = [sys.executable, "-c", AS_SOMEBODY, str(user), listener.endpoint, str(within_ms)]
        done = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        out, _ = await done.communicate()
        assert out.decode().strip() == outcome
        transport.close()
