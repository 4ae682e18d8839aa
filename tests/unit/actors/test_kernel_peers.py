"""Who is at the other end of each connection, and what he may do."""

from __future__ import annotations

import pytest

from actors.kernel.peers import PeerInfo, Peers
from protocol.errors import NotAllowed
from protocol.messages.actor import Hello
from protocol.messages.base import Role
from protocol.ports import Remote

SECRET = b"a-secret-of-32-bytes"


def hello(name: str = "storage", epoch: str = "b-1", secret: bytes = SECRET) -> Hello:
    return Hello(name=name, epoch=epoch, secret=secret)


def test_a_stranger_may_do_what_his_socket_allows() -> None:
    assert Peers(SECRET).role(b"1") is Role.OPERATE
    assert Peers(SECRET, strangers=Role.OBSERVE).role(b"1") is Role.OBSERVE
    assert Peers(SECRET).info(b"1") is None


def test_the_secret_proves_an_actor_and_its_name() -> None:
    peers = Peers(SECRET)
    assert peers.hello(b"1", hello()) == PeerInfo("storage", "b-1")
    assert peers.role(b"1") is Role.INTERNAL
    assert peers.info(b"1") == PeerInfo("storage", "b-1")


def test_the_proof_is_of_one_connection_alone() -> None:
    peers = Peers(SECRET)
    peers.hello(b"1", hello())
    assert peers.role(b"2") is Role.OPERATE
    assert peers.info(b"2") is None


@pytest.mark.parametrize("secret", [b"", b"of another boot", SECRET + b"!", SECRET[:-1]])
def test_a_wrong_secret_is_refused_and_proves_nothing(secret: bytes) -> None:
    peers = Peers(SECRET)
    with pytest.raises(NotAllowed):
        peers.hello(b"1", hello(secret=secret))
    assert peers.role(b"1") is Role.OPERATE


def test_a_wrong_secret_takes_back_what_an_earlier_right_one_proved() -> None:
    peers = Peers(SECRET)
    peers.hello(b"1", hello())
    with pytest.raises(NotAllowed):
        peers.hello(b"1", hello(secret=b"wrong"))
    assert peers.role(b"1") is Role.OPERATE
    assert peers.info(b"1") is None


def test_a_refusal_does_not_tell_the_secret() -> None:
    with pytest.raises(NotAllowed) as caught:
        Peers(SECRET).hello(b"1", hello(secret=b"a guess"))
    assert SECRET.decode() not in str(caught.value.to_body())
    assert "secret=" not in repr(hello())


def test_all_connections_of_a_dead_incarnation_are_forgotten_and_named() -> None:
    peers = Peers(SECRET)
    peers.hello(b"1", hello(epoch="b-1"))
    peers.hello(b"2", hello(epoch="b-1"))
    peers.hello(b"3", hello(epoch="b-2"))
    assert sorted(peers.forget("b-1")) == [b"1", b"2"]
    assert [peers.role(peer) for peer in (b"1", b"2", b"3")] == [
        Role.OPERATE, Role.OPERATE, Role.INTERNAL,
    ]  # fmt: skip
    assert peers.forget("b-1") == []


def test_a_connection_from_afar_may_do_what_its_key_may_now() -> None:
    roles = {"k": Role.ASK}
    peers = Peers(SECRET, role_of_key=roles.get)
    peer = Remote(b"1", "k")
    assert peers.role(peer) is Role.ASK
    assert peers.role(Remote(b"1", "another")) is None
    roles["k"] = Role.OBSERVE
    assert peers.role(peer) is Role.OBSERVE
    peers.check(peer)
    del roles["k"]
    assert peers.role(peer) is None
    with pytest.raises(NotAllowed, match="revoked"):
        peers.check(peer)
    peers.check(b"1")


def test_a_connection_from_afar_never_becomes_an_actor() -> None:
    peers = Peers(SECRET, role_of_key={"k": Role.OPERATE}.get)
    with pytest.raises(NotAllowed, match="one machine"):
        peers.hello(Remote(b"1", "k"), hello())
    assert peers.role(Remote(b"1", "k")) is Role.OPERATE
