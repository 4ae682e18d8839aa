"""The ways to a server: by TLS, and through proxies of the environment. Real sockets."""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.storage.sources.connecting import Found
from actors.storage.sources.web import Web
from protocol.errors import AssetUnavailable, Cancelled, MissingDependency
from tests.support import faults
from tests.support.certificates import server_tls
from tests.support.faulty_server import FaultyServer
from tests.support.proxies import forget_proxies

CONTENT = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def secure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """Trusted, as an authority of the house is."""
    context, public = server_tls(folder, "models.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with FaultyServer(folder, tls=context) as server:
        yield server


def all_of(url: str, web: Web | None = None) -> bytes:
    return b"".join((web or Web()).get(url, total=len(CONTENT)))


def test_tls_carries_all_of_it_and_its_connection_is_used_again(secure: FaultyServer) -> None:
    web = Web()
    for _ in range(3):
        assert all_of(secure.url("a.bin"), web) == CONTENT
    assert secure.connections == 1


def test_a_cancellation_is_seen_inside_tls(secure: FaultyServer) -> None:
    secure.inject("*", faults.stall(after=70_000))
    came: list[bytes] = []
    with pytest.raises(Cancelled):
        came.extend(
            Web().get(secure.url("a.bin"), total=len(CONTENT), cancelled=lambda: secure.sent() > 0)
        )


def test_a_record_of_tls_that_comes_in_two_halves_is_put_together(secure: FaultyServer) -> None:
    """A look in the middle of a record must not lose what came of it."""
    looks = threading.Semaphore(0)

    def look() -> bool:
        looks.release()
        return False

    with socket.create_server(("127.0.0.1", 0)) as between:
        thread = threading.Thread(target=relay_in_halves, args=(between, secure.port, looks))
        thread.start()
        web, url = Web(), f"https://127.0.0.1:{between.getsockname()[1]}/a.bin"
        assert b"".join(web.get(url, total=len(CONTENT), cancelled=look)) == CONTENT
        web.close()
        thread.join()


def relay_in_halves(between: socket.socket, port: int, looks: threading.Semaphore) -> None:
    """Between a client and a server; of the server's first records, the second half comes when the
    client has looked up twice since the first."""
    with between.accept()[0] as client, socket.create_connection(("127.0.0.1", port)) as server:
        halved = 0
        while True:
            for speaker in select.select([client, server], [], [])[0]:
                said = speaker.recv(1 << 14)
                if not said:
                    return
                if speaker is client:
                    server.sendall(said)
                    continue
                client.sendall(said[: len(said) // 2])
                if halved < 8:
                    halved += 1
                    while looks.acquire(blocking=False):
                        pass
                    looks.acquire()
                    looks.acquire()
                client.sendall(said[len(said) // 2 :])


def test_a_certificate_that_nobody_vouches_for_is_refused(folder: Path) -> None:
    context, _ = server_tls(folder)
    with (
        FaultyServer(folder, tls=context) as server,
        pytest.raises(AssetUnavailable, match=r"not trusted: self.signed.*SSL_CERT_FILE"),
    ):
        all_of(server.url("a.bin"))


def test_a_certificate_of_another_name_is_refused(secure: FaultyServer) -> None:
    def resolve(host: str, port: int) -> list[Found]:
        return [(socket.AF_INET, ("127.0.0.1", port))]

    web = Web(resolve=resolve)
    assert all_of(secure.url("a.bin", host="models.example"), web) == CONTENT
    with pytest.raises(AssetUnavailable, match="not trusted: Hostname mismatch"):
        all_of(secure.url("a.bin", host="others.example"), web)


def test_tls_to_a_server_that_speaks_none_says_so(folder: Path) -> None:
    with (
        FaultyServer(folder) as server,
        pytest.raises(AssetUnavailable, match="speaks no TLS"),
    ):
        all_of(server.url("a.bin").replace("http:", "https:"))


def test_no_tls_to_a_server_that_wants_it_is_unavailable(secure: FaultyServer) -> None:
    with pytest.raises(AssetUnavailable, match="no answer"):
        all_of(secure.url("a.bin").replace("https:", "http:"))


def test_a_proxy_of_the_environment_is_asked_and_resolves_the_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(folder) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        assert all_of("http://models.example/a.bin") == CONTENT
        assert proxy.asked[0].url == "http://models.example/a.bin"


def test_a_proxy_without_a_scheme_is_one_too_and_its_password_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(folder) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"m%2Fe:p%40ss@127.0.0.1:{proxy.port}")
        assert all_of("http://models.example/a.bin") == CONTENT
        known = base64.b64encode(b"m/e:p@ss").decode()
        assert proxy.asked[0].headers["proxy-authorization"] == f"Basic {known}"


def test_no_proxy_is_asked_for_this_machine_nor_for_what_is_excepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int) -> list[Found]:
        return [(socket.AF_INET, ("127.0.0.1", port))]

    with FaultyServer(folder) as proxy, FaultyServer(folder) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("NO_PROXY", "house.example")
        web = Web(resolve=resolve)
        for host in ("127.0.0.1", "localhost", "models.house.example"):
            assert all_of(server.url("a.bin", host=host), web) == CONTENT
        assert proxy.requests() == 0


def test_tls_goes_through_a_proxys_tunnel(
    secure: FaultyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(folder) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        url = secure.url("a.bin", host="models.example")
        assert all_of(url) == CONTENT
        assert [asked.path for asked in proxy.asked] == ["models.example"]


def test_a_cancellation_is_seen_inside_a_tunnel(
    secure: FaultyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure.inject("*", faults.silence())
    url = secure.url("a.bin", host="models.example")
    with FaultyServer(folder) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        with pytest.raises(Cancelled):
            list(Web().get(url, cancelled=lambda: secure.requests() > 0))


def test_a_proxy_that_refuses_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(folder) as proxy:
        proxy.inject("*", faults.status(407))
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        with pytest.raises(AssetUnavailable, match="wants a name and a password"):
            all_of("http://models.example/a.bin")
        with pytest.raises(AssetUnavailable, match=r"proxy on the way to .* refuses: 407"):
            all_of("https://models.example/a.bin")


def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    with pytest.raises(AssetUnavailable, match=f"the proxy 127.0.0.1:{port} cannot be reached"):
        all_of("http://models.example/a.bin")


@pytest.mark.parametrize(
    "proxy", ["gopher://me:secret@proxy", "http://me:secret@", "http://me:secret#@proxy:1"]
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(AssetUnavailable, match="proxy that the environment names") as caught:
        all_of("http://models.example/a.bin")
    assert "secret" not in caught.value.message


def test_a_socks_proxy_without_its_library_is_a_missing_dependency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"httpx\[socks\]"):
        all_of("http://models.example/a.bin")


def test_tls_inside_tls_is_refused_with_a_remedy(
    secure: FaultyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, public = server_tls(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with FaultyServer(folder, tls=context) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        with pytest.raises(AssetUnavailable, match="TLS inside TLS is not supported"):
            all_of(secure.url("a.bin", host="models.example"))
