"""Where a server may send us on to. Real sockets, on two addresses of this machine: for these tests
127.0.0.1 counts as one of the internet, 127.0.0.2 as one of a private network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.storage.sources import NotThere
from actors.storage.sources.addresses import Depth
from actors.storage.sources.connecting import Found
from actors.storage.sources.urls import RedirectRefused
from actors.storage.sources.web import Web
from protocol.errors import AssetUnavailable
from tests.support import faults
from tests.support.certificates import server_tls
from tests.support.faulty_server import FaultyServer
from tests.support.proxies import forget_proxies

CONTENT = bytes(range(256)) * 100
PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"
NAMES = {"public.example": PUBLIC, "mirror.example": PUBLIC, "house.example": PRIVATE}


def depth_here(address: str) -> Depth:
    return {PUBLIC: Depth.PUBLIC, PRIVATE: Depth.PRIVATE}.get(address, Depth.LOCAL)


def resolve(host: str, port: int) -> list[Found]:
    return [(socket.AF_INET, (NAMES.get(host, host), port))]


def a_web(**options: Any) -> Web:
    return Web(**({"resolve": resolve, "depth_of": depth_here} | options))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def public(folder: Path) -> Iterator[FaultyServer]:
    with FaultyServer(folder, host=PUBLIC) as server:
        yield server


@pytest.fixture
def private(folder: Path) -> Iterator[FaultyServer]:
    with FaultyServer(folder, host=PRIVATE) as server:
        yield server


def from_public(public: FaultyServer, web: Web | None = None, path: str = "start") -> bytes:
    return b"".join((web or a_web()).get(public.url(path, "public.example"), total=len(CONTENT)))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed_and_the_range_goes_along(
    public: FaultyServer, code: int
) -> None:
    public.inject("start", faults.redirect("sub/../a.bin?signed=1#part", code))
    web = a_web()
    came = web.get(public.url("start", "public.example"), offset=10, size=5, total=len(CONTENT))
    assert b"".join(came) == CONTENT[10:15]
    assert public.asked[1].url == "/a.bin?signed=1"
    assert public.asked[1].headers["range"] == "bytes=10-14"
    assert public.connections == 1


def test_another_host_of_the_internet_may_be_where_it_is(
    public: FaultyServer, folder: Path
) -> None:
    with FaultyServer(folder, host=PUBLIC) as mirror:
        public.inject("start", faults.redirect(mirror.url("a.bin", "mirror.example")))
        assert from_public(public) == CONTENT
        assert mirror.requests() == 1


def test_five_redirects_are_followed_and_no_more(public: FaultyServer) -> None:
    for number in range(1, 7):
        public.inject(f"hop{number}", faults.redirect(f"/hop{number - 1}"))
    public.inject("hop0", faults.redirect("/a.bin"))
    assert from_public(public, path="hop4") == CONTENT
    with pytest.raises(RedirectRefused, match="more than 5 redirects"):
        from_public(public, path="hop5")


def test_a_redirect_to_itself_ends(public: FaultyServer) -> None:
    public.inject("start", faults.redirect("/start"))
    with pytest.raises(RedirectRefused, match="more than 5 redirects"):
        from_public(public)
    assert public.requests() == 6


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file:///etc/passwd", "from http to file"),
        ("ftp://mirror.example/a.bin", "from http to ftp"),
        ("javascript:alert(1)", "from http to javascript"),
        ("http://me:secret@mirror.example/a.bin", "name or password"),
        ("http://mirror.example:99999/a.bin", "out of range"),
        ("http://mirror.example:0/a.bin", "no port 0"),
        ("http://[::1/a.bin", "it is no URL"),
        ("http://mirror.example\\@10.0.0.1/a.bin", "name or password"),
        ("http://127.0.0.1/a.bin", "127.0.0.1 is an address of this machine"),
        ("http://127.1/a.bin", "127.1 is an address of this machine"),
        ("http://2130706433/a.bin", "2130706433 is an address of this machine"),
        ("http://localhost/a.bin", "localhost is an address of this machine"),
        ("http://[::ffff:10.0.0.1]/a.bin", "10.0.0.1 is an address of a private network"),
        ("http://10.0.0.1/a.bin", "10.0.0.1 is an address of a private network"),
        ("http://169.254.169.254/latest", "169.254.169.254 is an address of this machine or link"),
    ],
)
def test_a_redirect_to_where_no_server_may_send_us_is_refused_and_names_both_urls(
    public: FaultyServer, target: str, why: str
) -> None:
    public.inject("start", faults.redirect(target))
    with pytest.raises(RedirectRefused, match="is refused") as caught:
        from_public(public)
    assert isinstance(caught.value, NotThere)
    said = caught.value.message
    assert why.replace("10.0.0.1", "") in said.replace("10.0.0.1", "")
    assert public.url("start", "public.example") in said
    assert caught.value.details["target"].split(":")[0] == target.split(":")[0]
    assert "secret" not in said
    private = "an address of" in said
    assert ("set allow_private_redirects" in said) is private
    assert caught.value.details["setting"] == ("allow_private_redirects" if private else "")


def test_a_name_that_leads_inside_is_refused_before_anything_is_connected_to(
    public: FaultyServer, private: FaultyServer
) -> None:
    public.inject("start", faults.redirect(private.url("a.bin", "house.example")))
    with pytest.raises(RedirectRefused, match=f"{PRIVATE} is an address of a private network"):
        from_public(public)
    assert private.connections == 0


def test_of_several_addresses_those_inside_are_passed_over(
    public: FaultyServer, private: FaultyServer, folder: Path
) -> None:
    def both(host: str, port: int) -> list[Found]:
        found: list[Found] = [(socket.AF_INET, (PUBLIC, port))]
        return [(socket.AF_INET, (PRIVATE, private.port)), *found] if host == "two" else found

    with FaultyServer(folder, host=PUBLIC) as mirror:
        public.inject("start", faults.redirect(mirror.url("a.bin", "two")))
        assert from_public(public, a_web(resolve=both)) == CONTENT
    assert private.connections == 0


def test_a_name_that_is_rebound_to_an_address_inside_is_refused(
    public: FaultyServer, private: FaultyServer
) -> None:
    """The name was one of the internet when it was asked first."""
    answers = [PUBLIC, PUBLIC, PRIVATE]
    port_of = {PUBLIC: public.port, PRIVATE: private.port}

    def rebound(host: str, port: int) -> list[Found]:
        address = answers.pop(0)
        return [(socket.AF_INET, (address, port_of[address]))]

    def go_away(reply: faults.Reply) -> None:
        reply.closes = True

    web = a_web(resolve=rebound)
    public.inject("start", faults.redirect("/a.bin"), go_away)
    assert from_public(public, web) == CONTENT
    public.drop_connections()
    answers.insert(0, PUBLIC)
    with pytest.raises(RedirectRefused):
        from_public(public, web)
    assert private.connections == 0


def test_a_connection_that_is_open_already_is_no_way_inside(
    public: FaultyServer, private: FaultyServer
) -> None:
    web, inside = a_web(), private.url("a.bin", "house.example")
    assert b"".join(web.get(inside, total=len(CONTENT))) == CONTENT
    public.inject("start", faults.redirect(inside))
    came: list[bytes] = []
    with pytest.raises(RedirectRefused, match="of a private network"):
        came.extend(web.get(public.url("start", "public.example"), total=len(CONTENT)))
    assert came == []
    assert private.connections == 1


def test_the_setting_allows_it(public: FaultyServer, private: FaultyServer) -> None:
    public.inject("start", faults.redirect(private.url("a.bin")))
    assert from_public(public, a_web(allow_private_redirects=True)) == CONTENT


def test_a_server_of_the_house_may_send_us_on_within_it_but_not_to_this_machine(
    public: FaultyServer, private: FaultyServer, folder: Path
) -> None:
    web, start = a_web(), private.url("start", "house.example")
    private.inject("start", faults.redirect("http://house.example:1/x"), times=1)
    with pytest.raises(AssetUnavailable, match=r"house\.example:1 cannot be reached"):
        list(web.get(start))
    private.inject("start", faults.redirect(f"http://{PUBLIC}:{public.port}/a.bin"), times=1)
    with pytest.raises(RedirectRefused, match="of this machine"):
        list(web.get(start))
    private.inject("start", faults.redirect(public.url("a.bin", "public.example")), times=1)
    assert b"".join(web.get(start)) == CONTENT


def test_this_machine_may_send_us_anywhere(folder: Path) -> None:
    with FaultyServer(folder) as server:
        server.inject("start", faults.redirect(server.url("a.bin")))
        assert b"".join(Web().get(server.url("start"), total=len(CONTENT))) == CONTENT


def test_https_may_follow_http_and_never_the_other_way(
    public: FaultyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = server_tls(folder, *NAMES)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FaultyServer(folder, tls=context) as secure:
        public.inject("start", faults.redirect(secure.url("a.bin", "mirror.example")))
        assert from_public(public) == CONTENT
        secure.inject("start", faults.redirect(public.url("a.bin", "public.example")))
        with pytest.raises(RedirectRefused, match="from https to http"):
            list(a_web().get(secure.url("start", "mirror.example")))


def test_behind_a_proxy_names_of_addresses_inside_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(folder) as proxy, FaultyServer(folder) as inside:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        proxy.inject("start", faults.redirect(inside.url("a.bin")), times=1)
        with pytest.raises(RedirectRefused, match="of this machine"):
            list(Web().get("http://models.example/start"))
        proxy.inject("start", faults.redirect("http://192.168.0.1/a.bin"), times=1)
        with pytest.raises(RedirectRefused, match="of a private network"):
            list(Web().get("http://models.example/start"))
        proxy.inject("start", faults.redirect("http://mirror.example/a.bin"), times=1)
        assert b"".join(Web().get("http://models.example/start")) == CONTENT
        assert inside.connections == 0


def test_what_gives_access_in_a_url_stands_in_no_error(public: FaultyServer) -> None:
    public.inject("start", faults.redirect("/gone.bin?signature=secret"))
    with pytest.raises(NotThere) as caught:
        from_public(public)
    assert "secret" not in caught.value.message
    assert "/gone.bin?…" in caught.value.message
    assert "where http://public.example" in caught.value.message
