"""A spool keeps what cannot be saved now, tries with growing pauses, and counts what it loses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.spool import MOST_FATAL, TELL_EVERY_S, Entry, Losses, Spool, SpoolBounds
from protocol.backoff import Backoff
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    AssetUnavailable,
    DeadlineExceeded,
    DiskFull,
    FrameTooLarge,
    InternalError,
    InvalidRequest,
    NotAllowed,
    NoyauError,
    Overloaded,
    Poisoned,
    QuotaExceeded,
)

AWAY = ActorUnavailable("storage is starting")
DIED = ActorDied("storage died", actor="storage", epoch="b-1")


def entry(name: str, size: int = 10) -> Entry:
    return Entry(name, b"x" * size)


def spool(entries: int = 3, bytes_: int = 100) -> Spool:
    """Whose pauses are as long as they may be: 1, 2, 4, 4 … seconds."""
    return Spool(SpoolBounds(entries, bytes_), Backoff(first_s=1, factor=2, max_s=4), lambda: 1.0)


def filled(*names: str, size: int = 10) -> Spool:
    made = spool()
    for name in names:
        made.put(entry(name, size))
    return made


def drained(it: Spool) -> list[str]:
    """The names of all that wait, in the order in which they are saved."""
    found = []
    while it.due() is not None:
        found.append(it.begin().name)
        it.saved()
    return found


def test_what_is_put_is_due_at_once_and_saved_in_its_order() -> None:
    it = filled("a", "b", "c")
    assert it.due() == float("-inf")
    assert drained(it) == ["a", "b", "c"]
    assert (it.due(), len(it), it.bytes, it.losses) == (None, 0, 0, Losses())


def test_one_at_a_time_is_in_hand() -> None:
    it = filled("a", "b")
    it.begin()
    assert it.due() is None
    assert (len(it), it.bytes) == (2, 20)


def test_what_failed_is_tried_again_first_after_pauses_that_grow() -> None:
    it = filled("a", "b")
    for now, pause in ((100.0, 1), (200.0, 2), (300.0, 4), (400.0, 4)):
        assert it.begin().name == "a"
        it.failed(AWAY, now)
        assert it.due() == now + pause
    assert drained(it) == ["a", "b"]


def test_after_a_success_the_pauses_begin_anew() -> None:
    it = filled("a", "b")
    for _ in range(3):
        it.begin()
        it.failed(AWAY, 0.0)
    it.begin()
    it.saved()
    assert it.due() == float("-inf")
    it.begin()
    it.failed(AWAY, 100.0)
    assert it.due() == 101.0


@pytest.mark.parametrize(("wanted", "pause"), [(3.0, 3.0), (0.1, 1.0), (1000.0, 4.0), ("x", 1.0)])
def test_a_time_to_come_back_is_heeded_up_to_the_longest_pause(
    wanted: object, pause: float
) -> None:
    it = filled("a")
    it.begin()
    it.failed(Overloaded("full", retry_after_s=wanted), 100.0)
    assert it.due() == 100.0 + pause


# --- what is lost ---------------------------------------------------------------------------


def test_a_full_spool_gives_up_its_oldest_entries_and_counts_them() -> None:
    it = filled("a", "b", "c", "d", "e")
    assert it.losses == Losses(overflowed=2, bytes=20)
    assert drained(it) == ["c", "d", "e"]


def test_a_spool_is_full_by_its_bytes_too() -> None:
    it = filled("a", "b", size=45)
    it.put(entry("c", 56))
    assert it.losses.overflowed == 2
    assert it.bytes == 56
    assert drained(it) == ["c"]


def test_an_entry_that_never_fits_is_lost_alone() -> None:
    it = filled("a", "b")
    it.put(entry("huge", 101))
    assert (it.losses.overflowed, it.losses.bytes) == (1, 101)
    assert drained(it) == ["a", "b"]


def test_what_is_in_hand_is_not_given_up_for_others() -> None:
    it = filled("a", "b", "c")
    it.begin()
    it.put(entry("d"))
    assert it.losses.overflowed == 1
    it.put(entry("huge", 95))
    assert it.losses.overflowed == 2
    it.saved()
    assert drained(it) == ["c", "d"]


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("no name"), NotAllowed("no"), FrameTooLarge("too large"), Poisoned("deaths")],
    ids=lambda error: error.code,
)
def test_what_will_never_do_is_lost_and_the_next_is_tried_at_once(error: NoyauError) -> None:
    it = filled("a", "b")
    it.begin()
    it.failed(error, 100.0)
    assert it.losses == Losses(refused=1, bytes=10, reason=f"{error.code}: {error.message}")
    assert it.due() == float("-inf")
    assert drained(it) == ["b"]


@pytest.mark.parametrize(
    "error",
    [
        AWAY, DeadlineExceeded("late"), AssetUnavailable("read-only"), DiskFull("full"),
        QuotaExceeded("over"), Overloaded("full"), ActorDied("there is no connection to it"),
    ],
    ids=lambda error: error.code,
)  # fmt: skip
def test_what_may_pass_is_tried_for_as_long_as_it_takes(error: NoyauError) -> None:
    it = filled("a")
    for _ in range(100):
        it.begin()
        it.failed(error, 0.0)
    assert drained(it) == ["a"]
    assert it.losses.entries == 0


@pytest.mark.parametrize("error", [DIED, InternalError("a defect")], ids=lambda error: error.code)
def test_an_entry_that_storage_dies_of_again_and_again_is_given_up(error: NoyauError) -> None:
    it = filled("a", "b")
    for _ in range(MOST_FATAL - 1):
        it.begin()
        it.failed(error, 0.0)
    assert it.losses.entries == 0
    it.begin()
    it.failed(error, 0.0)
    assert it.losses.refused == 1
    for _ in range(MOST_FATAL - 1):
        assert it.begin().name == "b"
        it.failed(error, 0.0)
    assert drained(it) == ["b"]


def test_deaths_that_an_entry_before_it_met_do_not_count_against_the_next() -> None:
    it = filled("a", "b", "c")
    for _ in range(MOST_FATAL - 1):
        it.begin()
        it.failed(DIED, 0.0)
    it.put(entry("d"))
    assert it.begin().name == "b"
    it.failed(DIED, 0.0)
    assert drained(it) == ["b", "c", "d"]


# --- what is told ---------------------------------------------------------------------------


def test_losses_are_told_once_and_not_too_often() -> None:
    it = filled("a", "b", "c")
    assert it.tell(100.0) is None
    it.put(entry("d"))
    assert it.tell(100.0) == Losses(overflowed=1, bytes=10)
    it.put(entry("e"))
    it.put(entry("f"))
    assert it.tell(100.0 + TELL_EVERY_S - 1) is None
    assert it.tell(100.0 + TELL_EVERY_S) == Losses(overflowed=2, bytes=20)
    assert it.tell(1e9) is None


def test_what_waits_at_the_end_is_lost_with_the_reason_and_told_at_once() -> None:
    it = filled("a", "b", "c", "d")
    it.tell(100.0)
    it.give_up("the end")
    assert (len(it), it.bytes, it.due()) == (0, 0, None)
    assert it.tell(100.0) == Losses(overflowed=3, bytes=30, reason="the end")
    it.give_up("the end again")
    assert it.losses.overflowed == 4


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 60)),
        st.tuples(st.sampled_from(["saved", "away", "refused", "died"]), st.just(0)),
    ),
    max_size=60,
)


@given(ACTS)
def test_every_entry_is_saved_or_lost_once_in_order_and_within_the_bounds(
    acts: list[tuple[str, int]],
) -> None:
    it, put, saved = spool(), 0, list[int]()
    for what, size in acts:
        if what == "put":
            it.put(entry(str(put), size))
            put += 1
        elif it.due() is not None:
            name = int(it.begin().name)
            if what == "saved":
                it.saved()
                saved.append(name)
            else:
                errors = {"away": AWAY, "refused": InvalidRequest("no"), "died": DIED}
                it.failed(errors[what], 0.0)
        assert len(it) <= 3
        assert it.bytes <= 100
        assert put == len(saved) + it.losses.entries + len(it)
    saved += [int(name) for name in drained(it)]
    assert saved == sorted(set(saved))
    assert put == len(saved) + it.losses.entries
    assert it.bytes == 0
