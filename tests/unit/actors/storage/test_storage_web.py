"""The web, and servers that lie about what they send. Real sockets, on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.storage.sources import HttpSource, HttpSpec, NoRanges, NotThere, Order, Versions
from actors.storage.sources.web import Web
from protocol.errors import AssetCorrupt, AssetError, AssetUnavailable
from tests.support import faults
from tests.support.faults import Fault, Reply
from tests.support.faulty_server import FaultyServer
from tests.support.waiting import until

CONTENT = bytes(range(256)) * 2000
TOTAL = len(CONTENT)
PART: dict[str, Any] = {"offset": 1000, "size": 70_000, "total": TOTAL}
ALL: dict[str, Any] = {"total": TOTAL}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with FaultyServer(tmp_path) as running:
        yield running


@pytest.fixture
def web() -> Iterator[Web]:
    opened = Web()
    yield opened
    opened.close()


def get(web: Web, server: FaultyServer, path: str = "a.bin", **asked: Any) -> bytes:
    return b"".join(web.get(server.url(path), **asked))


def failed(web: Web, server: FaultyServer, **asked: Any) -> tuple[AssetError, bytes]:
    """The error, and what was handed over before it."""
    came: list[bytes] = []
    with pytest.raises(AssetError) as caught:
        came.extend(web.get(server.url("a.bin"), **asked))
    return caught.value, b"".join(came)


def test_a_stretch_is_asked_for_as_a_range_and_nothing_else_is_sent(
    server: FaultyServer, web: Web
) -> None:
    assert get(web, server, **PART) == CONTENT[1000:71_000]
    assert server.asked[0].headers["range"] == "bytes=1000-70999"
    assert server.sent() == 70_000


def test_the_whole_is_asked_for_without_a_range(server: FaultyServer, web: Web) -> None:
    server.inject("*", faults.no_ranges())
    assert get(web, server, offset=0, size=TOTAL, total=TOTAL) == CONTENT
    assert "range" not in server.asked[0].headers


@pytest.mark.parametrize("change", [faults.chunked(), faults.no_length()])
def test_a_length_need_not_be_told(server: FaultyServer, web: Web, change: Fault) -> None:
    server.inject("*", change)
    assert get(web, server, **ALL) == CONTENT
    assert get(web, server, **PART) == CONTENT[1000:71_000]
    assert get(web, server) == CONTENT


def test_a_connection_is_used_again_for_the_next_request(server: FaultyServer, web: Web) -> None:
    for _ in range(20):
        assert get(web, server, **PART) == CONTENT[1000:71_000]
    assert (server.connections, server.requests()) == (1, 20)


def test_several_threads_share_the_connections(server: FaultyServer, web: Web) -> None:
    share, came = TOTAL // 8, [b""] * 8

    def read(number: int) -> None:
        came[number] = get(web, server, offset=number * share, size=share, total=TOTAL)

    for _ in range(5):
        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert b"".join(came) == CONTENT
    assert server.connections <= 8


def test_an_idle_connection_that_the_server_closed_costs_no_failure(
    server: FaultyServer, web: Web
) -> None:
    for _ in range(20):
        assert get(web, server, **PART) == CONTENT[1000:71_000]
        server.drop_connections()


def test_what_a_server_sends_behind_its_answer_is_not_taken_for_the_next_one(
    server: FaultyServer, web: Web
) -> None:
    server.inject("*", faults.longer(by=500), faults.wrong_length(by=-500), times=1)
    assert get(web, server, **PART) == CONTENT[1000:71_000]
    assert get(web, server, **PART) == CONTENT[1000:71_000]


def test_a_server_is_not_told_who_asks(server: FaultyServer, web: Web) -> None:
    server.inject("*", faults.header("Set-Cookie", "known=you; Path=/"))
    get(web, server)
    get(web, server)
    sent = set(server.asked[1].headers)
    assert sent == {"host", "accept", "accept-encoding", "user-agent"}
    assert server.asked[1].headers["accept-encoding"] == "identity"


def answers_206(reply: Reply) -> None:
    reply.status = 206


LIES = [
    ("no ranges", faults.no_ranges(), PART, NoRanges, "answers with the whole"),
    ("the stretch before", faults.wrong_range(by=-1), PART, AssetCorrupt, "999 to 70998, and 1000"),
    ("a stretch far off", faults.wrong_range(by=9999), PART, AssetCorrupt, "were asked for"),
    ("no Content-Range", faults.header("Content-Range", None), PART, AssetCorrupt, "that is none"),
    ("another total", faults.header("Content-Range", f"bytes 1000-70999/{TOTAL + 1}"), PART,
     AssetCorrupt, f"has {TOTAL + 1} bytes"),
    ("several parts", faults.multipart(), PART, AssetCorrupt, "several parts"),
    ("compressed", faults.gzipped(), PART, AssetCorrupt, "encoded"),
    ("compressed whole", faults.gzipped(), ALL, AssetCorrupt, "encoded"),
    ("a part for the whole", answers_206, ALL, AssetCorrupt, "all was asked for"),
    ("a longer part", faults.longer(by=1), PART, AssetCorrupt, "more than the 70000"),
    ("a longer file", faults.longer(by=1), ALL, AssetCorrupt, f"has {TOTAL + 1} bytes"),
    ("a shorter file", faults.truncated(by=1), ALL, AssetCorrupt, f"has {TOTAL - 1} bytes"),
    ("a shorter part", faults.truncated(by=7), PART, AssetUnavailable, "after 69993 of 70000"),
    ("cut", faults.cut(after=500), PART, AssetUnavailable, "after 500 of 70000"),
    ("cut at once", faults.cut(after=0), ALL, AssetUnavailable, f"after 0 of {TOTAL}"),
    ("promised too much of a part", faults.wrong_length(by=10), PART, AssetCorrupt, "more than"),
    ("promised too much", faults.wrong_length(by=10), ALL, AssetCorrupt, "has 512010"),
    ("status 404", faults.status(404), PART, NotThere, "no such file"),
    ("status 403", faults.status(403), PART, NotThere, "refuses"),
    ("status 410", faults.status(410), PART, NotThere, "no longer"),
    ("status 401", faults.status(401), PART, NotThere, "who asks"),
    ("status 416", faults.status(416), PART, NotThere, "shorter"),
    ("status 418", faults.status(418), PART, NotThere, "418"),
    ("status 408", faults.status(408), PART, AssetUnavailable, "408"),
    ("status 429", faults.status(429), PART, AssetUnavailable, "429"),
    ("status 500", faults.status(500), PART, AssetUnavailable, "500"),
    ("status 204", faults.status(204), PART, AssetUnavailable, "brings no file"),
    ("status 304", faults.status(304), PART, AssetUnavailable, "brings no file"),
    ("redirect to nowhere", faults.status(302), PART, AssetUnavailable, "brings no file"),
    ("no HTTP", faults.raw(b"220 ftp.example ready\r\n"), PART, AssetUnavailable, "no answer"),
    ("nothing", faults.raw(b""), PART, AssetUnavailable, "no answer"),
    ("an endless head", faults.header("X-Filler", "x" * 300_000), PART, AssetUnavailable,
     "no answer"),
    ("two lengths", faults.header("Content-Length", "5, 6"), ALL, AssetUnavailable, "no answer"),
    ("a chunk of no size", faults.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), ALL,
     AssetUnavailable, "cut after 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "asked", "kind", "said"),
    [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES],
)  # fmt: skip
def test_a_server_that_lies_or_refuses_is_one_error_and_nothing_wrong_is_handed_over(
    server: FaultyServer, web: Web, fault: Fault, asked: dict[str, int], kind: type[AssetError],
    said: str,
) -> None:  # fmt: skip
    server.inject("*", fault)
    error, came = failed(web, server, **asked)
    assert type(error) is kind
    assert said in error.message
    assert server.url("a.bin") in error.message
    right = CONTENT[asked["offset"] : asked["offset"] + asked["size"]] if asked is PART else CONTENT
    assert right.startswith(came)


@pytest.mark.parametrize("asked", [PART, ALL], ids=["part", "whole"])
@pytest.mark.parametrize("change", [faults.longer(by=100_000), faults.endless()])
def test_never_more_is_handed_over_than_was_asked_for(
    server: FaultyServer, web: Web, asked: dict[str, int], change: Fault
) -> None:
    server.inject("*", change, faults.chunked())
    error, came = failed(web, server, **asked)
    assert type(error) is AssetCorrupt
    assert "sends more than" in error.message
    assert len(came) <= asked.get("size", TOTAL)


def test_an_answer_of_unknown_length_is_bounded(server: FaultyServer, web: Web) -> None:
    server.inject("*", faults.endless())
    error, came = failed(web, server, most=100_000)
    assert type(error) is AssetCorrupt
    assert len(came) <= 100_000
    server.heal()
    assert "sends more than the 1000" in failed(web, server, most=1000)[0].message
    assert get(web, server, most=TOTAL) == CONTENT


@pytest.mark.parametrize(
    ("code", "said", "asked_s"),
    [(503, "7", 7.0), (429, "0", 0.0), (503, "99999999", 3600.0), (503, "soon", None),
     (429, "Fri, 31 Dec 1999 23:59:59 GMT", 0.0), (500, None, None)],
)  # fmt: skip
def test_when_to_come_back_is_passed_on_and_bounded(
    server: FaultyServer, web: Web, code: int, said: str | None, asked_s: float | None
) -> None:
    server.inject("*", faults.status(code, retry_after=said))
    error, _ = failed(web, server, **PART)
    assert type(error) is AssetUnavailable
    assert error.details.get("retry_after_s") == asked_s


def replace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "new").write_bytes(content)
    os.utime(tmp_path / "new", (1, 1))
    (tmp_path / "new").replace(tmp_path / "a.bin")


def test_a_file_that_changes_between_two_stretches_is_told(
    server: FaultyServer, web: Web, tmp_path: Path
) -> None:
    versions = Versions()
    get(web, server, **PART, versions=versions)
    get(web, server, **PART, versions=versions)
    replace(tmp_path, CONTENT[::-1])
    error, came = failed(web, server, **PART, versions=versions)
    assert type(error) is AssetUnavailable
    assert "changed while it was fetched" in error.message
    assert error.details["changed"] is True
    assert came == b""
    assert get(web, server, **PART, versions=Versions()) == CONTENT[::-1][1000:71_000]


@pytest.mark.parametrize("missing", ["ETag", "Last-Modified"])
def test_one_name_of_the_version_is_enough_and_one_left_out_says_nothing(
    server: FaultyServer, web: Web, tmp_path: Path, missing: str
) -> None:
    versions = Versions()
    get(web, server, **PART, versions=versions)
    server.inject("*", faults.header(missing, None))
    get(web, server, **PART, versions=versions)
    replace(tmp_path, CONTENT[::-1])
    assert failed(web, server, **PART, versions=versions)[0].details["changed"] is True


def test_two_servers_may_call_the_same_version_by_different_names(
    server: FaultyServer, web: Web, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.bin").write_bytes(CONTENT)
    os.utime(other / "a.bin", (1, 1))
    versions = Versions()
    with FaultyServer(other) as mirror:
        for place in (server, mirror, server):
            assert get(web, place, **PART, versions=versions) == CONTENT[1000:71_000]


def test_an_orders_stretches_are_all_of_one_version(server: FaultyServer, tmp_path: Path) -> None:
    source, spec = HttpSource(), HttpSpec(url=server.url("a.bin"))
    order = Order("a", TOTAL, tmp_path, lambda _: None, lambda: False)
    list(source.read(spec, 0, 100, order))
    replace(tmp_path, CONTENT[::-1])
    with pytest.raises(AssetUnavailable, match="changed"):
        list(source.read(spec, 100, 100, order))
    again = Order("a", TOTAL, tmp_path, lambda _: None, lambda: False)
    assert b"".join(source.read(spec, 100, 100, again)) == CONTENT[::-1][100:200]


def test_closing_in_the_middle_closes_the_connection(server: FaultyServer, web: Web) -> None:
    server.inject("*", faults.stall(after=200_000), times=1)
    reading = web.get(server.url("a.bin"), **ALL)
    next(reading)
    reading.close()
    # The server's thread reads until we have gone; the next request has a connection of its own.
    assert get(web, server, **PART) == CONTENT[1000:71_000]
    until(lambda: server.connections == 2)


def test_a_url_that_cannot_be_asked_is_not_there(web: Web) -> None:
    for url in ("ftp://example.org/a", "https://me:pw@example.org/a", "https:///a", "nothing"):
        with pytest.raises(NotThere, match="cannot be asked"):
            list(web.get(url))


@pytest.mark.parametrize("asked", [{"offset": 1}, {"size": 1}, {"offset": -1, "size": 5},
                                   {"offset": 0, "size": 0}])  # fmt: skip
def test_a_stretch_that_is_none_is_a_mistake_of_the_caller(web: Web, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no stretch"):
        list(web.get("http://127.0.0.1:1/a", **asked))


RIGHT = (
    b'HTTP/1.1 206 OK\r\nContent-Length: 10\r\nETag: "x"\r\nLocation: /b\r\n'
    b"Content-Range: bytes 10-19/1024\r\n\r\n0123456789"
)
PARTS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 206 P\r\n", b"HTTP/1.1 302 x\r\n", b"HTTP/1.1 101 S\r\n"),
    *(b"HTTP/1.1 100 C\r\n\r\n", b"Location: //[\xff\r\n", b"Content-Length: 10\r\n", b"\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Range: bytes 10-19/1024\r\n", b"X: y\r\n z\r\n"),
    *(b'ETag: "\xff"\r\n', b"Retry-After: \xff\r\n", b"a\r\n0123456789\r\n", b"0\r\n\r\n"),
    *(b"ffffffffffff\r\n", b": v\r\n", b"0123456789"),
]
FLIPS = st.lists(st.tuples(st.integers(0, len(RIGHT) - 1), st.integers(0, 255)), max_size=4)


def flipped(flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(RIGHT)
    for at, value in flips:
        changed[at] = value
    return bytes(changed)


@given(st.one_of(FLIPS.map(flipped), st.lists(st.sampled_from(PARTS)).map(b"".join)))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_whatever_bytes_a_server_sends_they_are_an_answer_or_one_typed_error(
    server: FaultyServer, web: Web, sent: bytes
) -> None:
    server.heal()
    server.inject("*", faults.raw(sent))
    try:
        came = get(web, server, offset=10, size=10, total=1024, versions=Versions())
    except AssetError:
        return
    assert len(came) == 10
