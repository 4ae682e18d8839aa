"""The account of every request."""

from __future__ import annotations

import pytest

from noyau.chaos.ledger import Ledger


def test_sent_is_answered_and_typed_errors() -> None:
    books = Ledger()
    books.answered(books.sent(1, "query", 0, stream=True), 1)
    books.failed(books.sent(1, "ping", 1), "actor_died", 2)
    books.failed(books.sent(2, "ping", 1), "overloaded", 2)
    found = books.count()
    assert (found.sent, found.answered, found.typed_errors, found.unaccounted) == (3, 1, 2, 0)
    assert found.errors == {"actor_died": 1, "overloaded": 1}
    assert found.streams_without_end == 0


def test_what_is_open_when_the_books_are_closed_is_unaccounted_for() -> None:
    books = Ledger()
    books.sent(1, "ping", 0)
    books.sent(1, "query", 0, stream=True)
    found = books.count()
    assert (found.unaccounted, found.streams_without_end) == (2, 1)


def test_what_may_not_happen_stays_open_and_is_told() -> None:
    books = Ledger()
    books.odd(books.sent(1, "query", 0, stream=True), "no end 1 s after its deadline")
    found = books.count()
    assert found.unaccounted == 1
    assert found.oddities == ["query: no end 1 s after its deadline"]


def test_a_request_ends_once() -> None:
    books = Ledger()
    entry = books.sent(1, "ping", 0)
    books.answered(entry, 1)
    with pytest.raises(ValueError, match="request 0 ended twice"):
        books.failed(entry, "actor_died", 2)


def test_the_share_is_that_of_what_clients_wanted_not_of_their_requests() -> None:
    books = Ledger()
    wanted = books.begin(1)
    for _ in range(3):
        books.failed(books.sent(1, "ping", 0), "actor_died", 1)
    books.answered(books.sent(1, "ping", 2), 3)
    wanted.answered = True
    assert books.count().answered_share == 1.0
    books.begin(1).code = "deadline_exceeded"
    assert books.count().answered_share == 0.5


@pytest.mark.parametrize("code", ["", "overloaded", "cancelled"])
def test_what_was_refused_under_load_or_cut_short_is_no_promise(code: str) -> None:
    books = Ledger()
    books.begin(1).answered = True
    books.begin(2).code = code
    assert books.count().answered_share == 1.0


def test_without_any_request_nothing_is_missing() -> None:
    found = Ledger().count()
    assert (found.sent, found.answered_share) == (0, 1.0)
