"""Who is told that nothing more of what it asked is read."""

from __future__ import annotations

from actors.kernel.farewells import MOST, Farewells


def test_whoever_asked_is_told_once() -> None:
    farewells = Farewells()
    for peer in (b"a", b"b", b"a"):
        farewells.asks(peer)
    assert farewells.due == [b"a", b"b"]


def test_whoever_lacks_an_answer_is_told_nothing_whatever_it_asks_next() -> None:
    farewells = Farewells()
    farewells.asks(b"a")
    farewells.lacks(b"a")
    farewells.lacks(b"b")
    for peer in (b"a", b"b", b"c"):
        farewells.asks(peer)
    assert farewells.due == [b"c"]


def test_those_that_asked_last_are_remembered() -> None:
    farewells = Farewells()
    for number in range(MOST + 2):
        farewells.asks(b"%d" % number)
    assert farewells.due == [b"%d" % number for number in range(2, MOST + 2)]
