"""Flow by credit: chunks in order and counted, and never more than the reader's window ahead."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.conversation import INITIAL_CREDIT, Inflow, Outflow
from protocol.errors import IllegalTransition, StreamBroken


def test_chunks_are_taken_in_order() -> None:
    flow = Inflow(4)
    for number in range(4):
        flow.accept(number)
    flow.check(4)


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_a_chunk_repeated_or_left_out_breaks_the_stream(number: int) -> None:
    flow = Inflow(8)
    flow.accept(0)
    flow.accept(1)
    with pytest.raises(StreamBroken) as caught:
        flow.accept(number)
    assert caught.value.details == {"expected": 2, "got": number}
    flow.accept(2)


def test_a_chunk_without_credit_is_illegal() -> None:
    flow = Inflow(1)
    flow.accept(0)
    with pytest.raises(IllegalTransition, match="chunk 1 came on a credit of 1"):
        flow.accept(1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_end_that_counts_differently_breaks_the_stream(count: int) -> None:
    flow = Inflow(8)
    flow.accept(0)
    flow.accept(1)
    with pytest.raises(StreamBroken) as caught:
        flow.check(count)
    assert caught.value.details == {"expected": count, "got": 2}


def test_credit_is_renewed_when_half_of_the_window_is_used() -> None:
    flow = Inflow(8)
    assert [flow.renew(consumed) for consumed in range(9)] == [
        None, None, None, None, 12, None, None, None, 16,
    ]  # fmt: skip


def test_a_writer_stops_when_its_credit_is_used_up() -> None:
    flow = Outflow(2)
    assert [flow.number(), flow.number()] == [0, 1]
    assert not flow.open
    with pytest.raises(IllegalTransition, match="no credit for chunk 2"):
        flow.number()
    flow.credit(3)
    assert flow.open
    assert flow.number() == 2


def test_older_credit_changes_nothing() -> None:
    flow = Outflow(4)
    flow.credit(10)
    flow.credit(4)
    flow.credit(0)
    assert flow.granted == 10


def test_the_first_credit_is_enough_for_a_renewal() -> None:
    assert Inflow(INITIAL_CREDIT).renew(INITIAL_CREDIT) is not None


class Stream:
    """Both ends of a stream. Chunks arrive; what becomes of each credit, the test says."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.writer = Outflow(window)
        self.reader = Inflow(window)
        self.consumed = 0
        self.credits: list[int] = []

    def write_all_that_may_be_written(self, most: int) -> None:
        while self.writer.open and self.writer.next < most:
            self.reader.accept(self.writer.number())
            assert self.writer.next <= self.consumed + self.window

    def read_one(self) -> None:
        self.consumed += 1
        granted = self.reader.renew(self.consumed)
        if granted is not None:
            self.credits.append(granted)


@given(st.integers(1, 100), st.lists(st.sampled_from(["write", "read", "credit", "repeat"])))
def test_a_writer_is_never_more_than_the_window_ahead(window: int, steps: list[str]) -> None:
    stream = Stream(window)
    taken: list[int] = []
    for step in steps:
        if step == "write":
            stream.write_all_that_may_be_written(1000)
        elif step == "read" and stream.consumed < stream.reader.next:
            stream.read_one()
        elif step == "credit" and stream.credits:
            taken.append(stream.credits.pop(0))
            stream.writer.credit(taken[-1])
        elif step == "repeat" and taken:
            stream.writer.credit(taken[0])
        assert stream.consumed <= stream.reader.next <= stream.consumed + window


@given(
    st.integers(2, 100),
    st.integers(0, 500),
    st.lists(st.sampled_from(["arrives", "twice", "lost"]), min_size=1, max_size=20),
)
def test_a_credit_lost_or_repeated_stops_no_stream(
    window: int, total: int, fates: list[str]
) -> None:
    stream = Stream(window)
    lost = False
    fate = itertools.cycle(fates)
    while stream.consumed < total:
        before = stream.consumed
        stream.write_all_that_may_be_written(total)
        while stream.consumed < stream.reader.next:
            stream.read_one()
        for granted in stream.credits:
            what = next(fate)
            # The next credit makes good for a lost one; that two in a row are lost, no
            # transport does: it would have lost the connection.
            lost = what == "lost" and not lost
            for _ in range(0 if lost else 2 if what == "twice" else 1):
                stream.writer.credit(granted)
        stream.credits.clear()
        assert stream.consumed > before, "the stream stands still"
    stream.reader.check(total)
