"""Servers that keep one waiting, in every state that a request can be in. Real sockets.

Time-outs are moved by a manual clock: it goes on whenever the one who waits looks up.
"""

from __future__ import annotations

import errno
import math
import queue
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.storage.sources.connecting import Found
from actors.storage.sources.patience import Patience
from actors.storage.sources.watch import Watch, patiently
from actors.storage.sources.web import Web
from protocol.clock import ManualClock
from protocol.errors import AssetUnavailable, Cancelled
from tests.support import faults
from tests.support.faulty_server import FaultyServer
from tests.support.proxies import forget_proxies
from tests.support.waiting import until

CONTENT = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


class Waited:
    """Somewhere that keeps one waiting."""

    def __init__(self, url: str, reached: Callable[[], object], **web: Any) -> None:
        self.url = url
        self.reached = reached
        """Whether it is waited for."""
        self.web_options = web

    def web(self, **options: Any) -> Web:
        return Web(**(self.web_options | options))


@contextmanager
def a_name_that_nobody_answers_for(folder: Path) -> Iterator[Waited]:
    asked, ended = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> list[Found]:
        asked.set()
        ended.wait()
        return []

    yield Waited("http://slow.example/a.bin", asked.is_set, resolve=resolve)
    ended.set()


@contextmanager
def a_host_that_takes_no_connection(folder: Path) -> Iterator[Waited]:
    """Its queue is full, and what comes then is dropped, as by a firewall."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            waiting.append(stack.enter_context(socket.socket()))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        looked = threading.Event()

        def resolve(host: str, port: int) -> list[Found]:
            looked.set()
            return [(socket.AF_INET, ("127.0.0.1", port))]

        yield Waited(f"http://full.example:{port}/a.bin", looked.is_set, resolve=resolve)


@contextmanager
def a_server_that_never_agrees_on_tls(folder: Path) -> Iterator[Waited]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        taken: list[socket.socket] = []

        def reached() -> bool:
            try:
                taken.append(listener.accept()[0])
            except BlockingIOError:
                return bool(taken)
            return True

        yield Waited(f"https://127.0.0.1:{listener.getsockname()[1]}/a.bin", reached)
        for connection in taken:
            connection.close()


@contextmanager
def with_fault(folder: Path, *change: faults.Fault) -> Iterator[Waited]:
    (folder / "a.bin").write_bytes(CONTENT)
    with FaultyServer(folder) as server:
        server.inject("*", *change)
        yield Waited(server.url("a.bin"), server.requests)


@contextmanager
def a_server_that_says_nothing(folder: Path) -> Iterator[Waited]:
    with with_fault(folder, faults.silence()) as waited:
        yield waited


@contextmanager
def a_head_that_comes_in_drops(folder: Path) -> Iterator[Waited]:
    change = (faults.header("X-Filler", "x" * 5000), faults.slow_head(every_s=0.02))
    with with_fault(folder, *change) as waited:
        yield waited


@contextmanager
def a_body_that_stops_in_the_middle(folder: Path) -> Iterator[Waited]:
    with with_fault(folder, faults.stall(after=1000)) as waited:
        yield waited


@contextmanager
def announcements_without_end(folder: Path) -> Iterator[Waited]:
    """One 100 Continue after the other: there is always something to read, and never an answer."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def announce() -> None:
            with listener.accept()[0] as connection:
                try:
                    while not ended.wait(0.01):
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=announce)
        thread.start()
        yield Waited(f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin", lambda: True)
        ended.set()
        thread.join()


CONNECTING = [
    a_name_that_nobody_answers_for, a_host_that_takes_no_connection,
    a_server_that_never_agrees_on_tls,
]  # fmt: skip
CONNECTED = [
    a_server_that_says_nothing, a_head_that_comes_in_drops, a_body_that_stops_in_the_middle,
    announcements_without_end,
]  # fmt: skip
Kind = Callable[[Path], Any]


def named(kind: Kind) -> str:
    return kind.__name__


def all_of(web: Web, url: str, cancelled: Callable[[], bool]) -> bytes:
    return b"".join(web.get(url, total=len(CONTENT), cancelled=cancelled))


@pytest.mark.parametrize("kind", CONNECTING + CONNECTED, ids=named)
def test_a_cancellation_is_seen_whatever_is_waited_for(kind: Kind, tmp_path: Path) -> None:
    with kind(tmp_path) as waited, pytest.raises(Cancelled, match=r"a\.bin was cancelled"):
        all_of(waited.web(), waited.url, lambda: bool(waited.reached()))


class Waits:
    """How long this thread would wait: what it says of that, whenever it begins to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._thread = threading.get_ident()
        receive, agree, poll, begin = (
            socket.socket.recv, ssl.SSLSocket.do_handshake, select.poll, self._begin
        )  # fmt: skip

        class Answers(queue.SimpleQueue[Any]):
            def get(self, block: bool = True, timeout: float | None = None) -> Any:
                begin(timeout)
                return super().get(block, timeout)

        class Poll:
            def __init__(self) -> None:
                self._poll = poll()
                self.register = self._poll.register

            def poll(self, timeout_ms: float) -> Any:
                begin(timeout_ms / 1000)
                return self._poll.poll(timeout_ms)

        def recv(sock: socket.socket, count: int) -> bytes:
            begin(sock.gettimeout())
            return receive(sock, count)

        def do_handshake(sock: ssl.SSLSocket) -> None:
            begin(sock.gettimeout())
            agree(sock)

        monkeypatch.setattr(queue, "SimpleQueue", Answers)
        monkeypatch.setattr(select, "poll", Poll)
        monkeypatch.setattr(socket.socket, "recv", recv)
        monkeypatch.setattr(ssl.SSLSocket, "do_handshake", do_handshake)

    def _begin(self, seconds: float | None) -> None:
        if threading.get_ident() == self._thread:
            self.seconds += math.inf if seconds is None else seconds


@pytest.mark.parametrize("kind", CONNECTING + CONNECTED, ids=named)
def test_who_waits_looks_up_four_times_a_second(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(tmp_path) as waited:
        waits, gaps = Waits(monkeypatch), list[float]()

        def look() -> bool:
            gaps.append(waits.seconds)
            waits.seconds = 0.0
            return len(gaps) > 6

        with pytest.raises(Cancelled):
            all_of(waited.web(), waited.url, look)
    assert 0 < max(gaps) < 0.25


@pytest.mark.parametrize(
    ("kind", "said"),
    [(kind, "within 15 s") for kind in CONNECTING] + [(kind, "for 30 s") for kind in CONNECTED],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_is_given_up_after_its_time_out(kind: Kind, said: str, tmp_path: Path) -> None:
    clock = ManualClock()
    with kind(tmp_path) as waited:

        def let_time_pass_once_reached() -> bool:
            if waited.reached():
                clock.advance(5)
            return False

        with pytest.raises(AssetUnavailable, match=said) as caught:
            all_of(waited.web(clock=clock), waited.url, let_time_pass_once_reached)
    assert type(caught.value) is AssetUnavailable


def test_a_server_that_drips_is_given_up_though_it_never_stalls(tmp_path: Path) -> None:
    clock = ManualClock()

    def let_time_pass() -> bool:
        clock.advance(1)
        return False

    came: list[bytes] = []
    with with_fault(tmp_path, faults.drip(every_s=0.001)) as waited:
        web = waited.web(clock=clock, minimum_bytes_per_s=1000, rate_window_s=20)
        with pytest.raises(AssetUnavailable, match="less than minimum_bytes_per_s"):
            came.extend(web.get(waited.url, total=len(CONTENT), cancelled=let_time_pass))
    assert came
    assert CONTENT.startswith(b"".join(came))


def test_a_slow_reader_makes_no_server_slow(tmp_path: Path) -> None:
    clock, came = ManualClock(), b""
    with with_fault(tmp_path) as waited:
        for piece in waited.web(clock=clock).get(waited.url, total=len(CONTENT)):
            clock.advance(1000)
            came += piece
    assert came == CONTENT


def test_a_connection_that_the_kernel_gives_up_is_broken_and_not_waited_for() -> None:
    watch = Watch("u", lambda: False, ManualClock(), Patience(10, 0, 30), 15, 10)

    def receive() -> bytes:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    with watch.waiting(), pytest.raises(TimeoutError, match="Connection timed out"):
        patiently(receive)


def test_waiting_for_the_head_and_for_the_body_is_one_waiting() -> None:
    clock = ManualClock()
    watch = Watch("u", lambda: False, clock, Patience(10, 0, 30), 15, 10)
    for _ in range(9):
        with watch.waiting():
            clock.advance(1)
            watch.look_at_server()
    with watch.waiting():
        clock.advance(1)
        with pytest.raises(AssetUnavailable, match="nothing for 10 s"):
            watch.look_at_server()


def test_a_server_that_stalls_is_given_up_by_the_real_clock_too(tmp_path: Path) -> None:
    with (
        with_fault(tmp_path, faults.stall(after=1000)) as waited,
        pytest.raises(AssetUnavailable, match=r"for 0\.3 s"),
    ):
        all_of(waited.web(stall_timeout_s=0.3), waited.url, lambda: False)


def test_an_address_that_swallows_everything_leaves_time_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    clock, tried, connect = ManualClock(), list[int](), socket.socket.connect_ex

    def connect_ex(sock: socket.socket, address: tuple[str, int]) -> int:
        tried.append(address[1])
        return connect(sock, address)

    with FaultyServer(tmp_path) as server, a_host_that_takes_no_connection(tmp_path) as full:
        full_port = int(full.url.split(":")[2].split("/")[0])

        def resolve(host: str, port: int) -> list[Found]:
            return [(socket.AF_INET, ("127.0.0.1", at)) for at in (full_port, server.port)]

        def let_time_pass_at_the_first() -> bool:
            clock.advance(1 if tried == [full_port] else 0)
            return False

        monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
        web = Web(resolve=resolve, clock=clock, stall_timeout_s=1000)
        assert all_of(web, "http://two.example/a.bin", let_time_pass_at_the_first) == CONTENT
        # Half of the 15 s for each of two.
        assert 7 < clock.now() < 14


def test_a_cancelled_request_leaves_the_server_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultyServer(tmp_path) as server:
        server.inject("*", faults.silence())
        with pytest.raises(Cancelled):
            all_of(Web(), server.url("a.bin"), lambda: server.requests() > 0)
        until(lambda: not server.is_busy)


def test_looking_up_a_name_that_there_is_not_says_so() -> None:
    def resolve(host: str, port: int) -> list[Found]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(AssetUnavailable, match=r"name none\.example cannot be looked up: Name"):
        list(Web(resolve=resolve).get("https://none.example/a"))


def test_a_host_where_nobody_listens_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(AssetUnavailable, match=f"127.0.0.1:{port} cannot be reached: Connection"):
        list(Web().get(f"http://127.0.0.1:{port}/a"))
