"""The web server that other tests have things go wrong with: it must itself be right."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.faulty_server import FaultyServer
from tests.support.waiting import until

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultyServer(tmp_path, seed=7) as running:
        yield running


@pytest.fixture
def connection(server: FaultyServer) -> Iterator[http.client.HTTPConnection]:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.sock = sock
        yield client


def get(
    client: http.client.HTTPConnection, path: str = "/a.bin", stretch: str = ""
) -> tuple[int, bytes]:
    client.request("GET", path, headers={"Range": f"bytes={stretch}"} if stretch else {})
    answer = client.getresponse()
    return answer.status, answer.read()


def test_a_connection_serves_one_request_after_the_other(
    server: FaultyServer, connection: http.client.HTTPConnection
) -> None:
    assert [get(connection) for _ in range(3)] == [(200, CONTENT)] * 3
    assert (server.connections, server.requests("a.bin")) == (1, 3)
    assert server.sent() == 3 * len(CONTENT)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("10-19", 10, 20), ("100-", 100, 10240), ("-7", 10233, 10240),
     ("10000-99999", 10000, 10240)],
)  # fmt: skip
def test_ranges_are_those_of_http(
    server: FaultyServer, connection: http.client.HTTPConnection, asked: str, start: int, stop: int
) -> None:
    assert get(connection, stretch=asked) == (206, CONTENT[start:stop])
    assert server.ranges("a.*") == [(start, stop)]
    assert server.sent("a.*") == stop - start


def test_what_is_not_in_the_folder_is_not_there(
    server: FaultyServer, connection: http.client.HTTPConnection, tmp_path: Path
) -> None:
    (tmp_path.parent / "outside.bin").write_bytes(b"secret")
    assert get(connection, "/b.bin")[0] == 404
    assert get(connection, "/../outside.bin")[0] == 404
    assert get(connection, stretch="99999-")[0] == 416


def test_a_fault_comes_as_often_as_was_said(
    server: FaultyServer, connection: http.client.HTTPConnection
) -> None:
    server.inject("*.bin", faults.status(503), times=2)
    assert [get(connection)[0] for _ in range(4)] == [503, 503, 200, 200]


def test_a_fault_at_a_byte_leaves_the_other_stretches_alone(
    server: FaultyServer, connection: http.client.HTTPConnection
) -> None:
    server.inject("*", faults.corrupt(150), at=150)
    assert get(connection, stretch="0-99")[1] == CONTENT[:100]
    wrong = get(connection, stretch="100-199")[1]
    assert [n for n in range(100) if wrong[n] != CONTENT[100 + n]] == [50]


def test_the_same_requests_draw_the_same_faults_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    seen: list[dict[int, int]] = []
    for order in (range(40), reversed(range(40))):
        with FaultyServer(tmp_path, seed=3) as server:
            server.inject("*", faults.status(500), share=0.5)
            client = http.client.HTTPConnection("127.0.0.1", server.port)
            seen.append({at: get(client, stretch=f"{at}-{at}")[0] for at in order})
            client.close()
    assert seen[0] == seen[1]
    assert set(seen[0].values()) == {206, 500}


def test_a_healed_server_has_no_faults_and_counts_from_zero(
    server: FaultyServer, connection: http.client.HTTPConnection
) -> None:
    server.inject("*", faults.status(500))
    get(connection)
    server.heal()
    server.forget()
    assert get(connection) == (200, CONTENT)
    assert server.requests() == 1


def test_leaving_ends_an_answer_that_stalls(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultyServer(tmp_path) as server:
        server.inject("*", faults.stall(after=10))
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("GET", "/a.bin")
        answer = client.getresponse()
        assert answer.read(10) == CONTENT[:10]
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    client.close()


def test_leaving_ends_a_connection_that_nobody_speaks_on(tmp_path: Path) -> None:
    server = FaultyServer(tmp_path).__enter__()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        until(lambda: server.connections == 1)
        server.close()
        assert idle.recv(1) == b""
