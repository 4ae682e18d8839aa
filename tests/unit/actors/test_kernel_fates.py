"""What becomes of requests and messages while something is got wrong on purpose."""

from __future__ import annotations

import pytest

from actors.kernel.fates import Fates
from protocol.envelope import Kind

REPLY, CHUNK, END, ERROR = (k.value for k in (Kind.REPLY, Kind.CHUNK, Kind.END, Kind.ERROR))


def test_without_a_fault_all_is_sent_at_once_and_nothing_fails() -> None:
    fates = Fates()
    assert fates.due(REPLY, 5.0) == 5.0
    assert not fates.fails(5.0)


def test_as_many_requests_fail_as_were_ordered() -> None:
    fates = Fates()
    fates.fail(2, until=10.0)
    assert [fates.fails(1.0) for _ in range(4)] == [True, True, False, False]


def test_requests_that_come_too_late_do_not_fail_any_more() -> None:
    fates = Fates()
    fates.fail(2, until=10.0)
    assert not fates.fails(10.1)


@pytest.mark.parametrize(("kind", "lost"), [(REPLY, True), (CHUNK, True), (END, False),
                                            (ERROR, False)])  # fmt: skip
def test_replies_and_parts_of_streams_are_lost_until_the_time_is_over(
    kind: int, lost: bool
) -> None:
    fates = Fates()
    fates.drop(1.0, until=30.0)
    assert fates.due(CHUNK, 9.0) is None
    assert (fates.due(kind, 9.9) is None) is lost
    assert fates.due(kind, 10.0) == 10.0


def test_the_time_in_which_all_is_lost_begins_with_the_first_that_is() -> None:
    fates = Fates()
    fates.drop(0.1, until=30.0)
    # Ends and errors are never lost, and begin nothing.
    assert fates.due(END, 5.0) == 5.0
    assert fates.due(CHUNK, 29.9) is None
    assert fates.due(CHUNK, 29.95) is None
    assert fates.due(CHUNK, 30.1) == 30.1


def test_of_one_that_sends_nothing_in_time_nothing_is_lost() -> None:
    fates = Fates()
    fates.drop(1.0, until=30.0)
    assert fates.due(REPLY, 30.0) == 30.0


def test_a_new_order_to_lose_begins_anew() -> None:
    fates = Fates()
    fates.drop(1.0, until=30.0)
    assert fates.due(REPLY, 1.0) is None
    fates.drop(1.0, until=40.0)
    assert fates.due(REPLY, 20.0) is None
    assert fates.due(REPLY, 21.0) == 21.0


def test_what_is_late_keeps_its_order_and_is_not_overtaken_when_the_fault_is_over() -> None:
    fates = Fates()
    fates.delay(0.5, until=10.0)
    assert fates.due(CHUNK, 9.8) == pytest.approx(10.3)
    assert fates.due(CHUNK, 10.1) == pytest.approx(10.3)
    assert fates.due(END, 10.4) == pytest.approx(10.4)


def test_a_delay_that_becomes_shorter_overtakes_nothing_either() -> None:
    fates = Fates()
    fates.delay(2.0, until=10.0)
    assert fates.due(CHUNK, 1.0) == 3.0
    fates.delay(0.1, until=10.0)
    assert fates.due(CHUNK, 1.5) == 3.0


def test_all_of_it_can_be_ended() -> None:
    fates = Fates()
    fates.fail(9, until=10.0)
    fates.drop(5.0, until=10.0)
    assert fates.due(REPLY, 0.5) is None
    fates.delay(1.0, until=10.0)
    fates.end()
    assert not fates.fails(1.0)
    assert fates.due(REPLY, 1.0) == 1.0
