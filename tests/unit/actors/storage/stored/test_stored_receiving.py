"""Uploads in parts: each part counts once, the last one publishes, and what comes to nothing leaves
nothing."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.storage.stored.outcomes import UploadsExpired
from actors.storage.stored.quota import Quota
from protocol.errors import DiskFull, InvalidRequest, NotFound, Overloaded, QuotaExceeded
from tests.support.stored import BOUNDS, OWNER, Bench, checksum

DATA = random.Random(2).randbytes(3000)


@pytest.fixture
def it(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_parts_become_a_file_with_the_last_one_and_not_before(it: Bench) -> None:
    assert it.part("u", "a", 0, DATA[:1000]).received == 1000
    assert it.part("u", "a", 1000, DATA[1000:2000]).received == 2000
    assert it.store.find(OWNER, "a") is None
    saved = it.part("u", "a", 2000, DATA[2000:], whole=DATA)
    assert saved.received == 3000
    assert saved.file == it.store.find(OWNER, "a")
    assert it.read("a") == DATA
    assert it.staged() == []


def test_the_old_file_is_whole_until_the_new_one_is(it: Bench) -> None:
    it.save("a", b"old")
    it.part("u", "a", 0, DATA[:1000])
    assert it.read("a") == b"old"
    it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    assert it.read("a") == DATA


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
@settings(max_examples=30)
def test_parts_sent_again_in_any_order_of_lost_answers_make_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, again: list[int]
) -> None:
    """Each number is an earlier part that is sent once more between two new ones."""
    it = Bench(tmp_path_factory.mktemp("stored"))
    size = 300
    for number, earlier in enumerate(again):
        it.part("u", "a", number * size, DATA[number * size : (number + 1) * size])
        back = max(0, number - earlier)
        repeated = it.part("u", "a", back * size, DATA[back * size : (back + 1) * size])
        assert repeated.received == min(len(DATA), (number + 1) * size)
        if (number + 1) * size >= len(DATA):
            break
    length = min(len(DATA), len(again) * size)
    for _ in range(2):
        it.part("u", "a", length, b"", whole=DATA[:length])
    assert it.read("a") == DATA[:length]
    it.store.close()


def test_the_last_part_sent_again_is_answered_the_same(it: Bench) -> None:
    it.part("u", "a", 0, DATA[:1000])
    first = it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    assert it.part("u", "a", 1000, DATA[1000:], whole=DATA) == first
    assert it.part("u", "a", 0, DATA[:1000]) == first
    it.save("a", b"newer")
    assert it.part("u", "a", 1000, DATA[1000:], whole=DATA) == first
    assert it.read("a") == b"newer"


def test_the_last_part_sent_again_to_the_next_process_finds_the_file(it: Bench) -> None:
    it.part("u", "a", 0, DATA[:1000])
    first = it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    it.restart()
    assert it.part("u", "a", 1000, DATA[1000:], whole=DATA) == first


def test_an_upload_is_not_known_to_the_next_process_and_its_sender_is_told(it: Bench) -> None:
    it.part("u", "a", 0, DATA[:1000])
    it.restart()
    with pytest.raises(NotFound, match="send the file again from its beginning") as caught:
        it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    assert caught.value.details == {"upload": "u"}
    assert it.staged() == []
    assert it.used() == (0, 0, 0)


def test_a_part_that_came_before_with_other_bytes_is_refused_and_changes_nothing(
    it: Bench,
) -> None:
    it.part("u", "a", 0, DATA[:1000])
    with pytest.raises(InvalidRequest, match="with other bytes"):
        it.part("u", "a", 0, DATA[1:1001])
    it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    assert it.read("a") == DATA


def test_an_upload_that_is_saved_is_not_begun_again_under_its_id(it: Bench) -> None:
    it.part("u", "a", 0, DATA, whole=DATA)
    with pytest.raises(InvalidRequest, match="draw a new id"):
        it.part("u", "b", 0, DATA)
    with pytest.raises(InvalidRequest, match="draw a new id"):
        it.part("u", "a", 0, b"other", whole=b"other")


def test_content_that_is_not_what_its_checksum_says_is_not_saved(it: Bench) -> None:
    it.save("a", b"old")
    it.part("u", "a", 0, DATA[:1000])
    with pytest.raises(InvalidRequest, match="and was to have") as caught:
        it.part("u", "a", 1000, DATA[1000:], whole=b"something else")
    assert caught.value.details["checksum"] == checksum(DATA)
    assert it.read("a") == b"old"
    assert it.staged() == []
    with pytest.raises(NotFound):
        it.part("u", "a", 1000, DATA[1000:], whole=DATA)


def test_a_first_part_that_does_not_fit_leaves_no_upload_and_nothing_reserved(it: Bench) -> None:
    with pytest.raises(InvalidRequest, match="was to have 10 bytes"):
        it.part("u", "a", 0, DATA[:20], size=10)
    assert it.used() == (0, 0, 0)
    assert it.staged() == []


# --- quotas and bounds ----------------------------------------------------------------------


def test_an_upload_counts_with_the_size_that_was_told_until_it_ends(it: Bench) -> None:
    it.quota = Quota(bytes=3500, files=10)
    it.part("u", "a", 0, DATA[:1000], size=3000)
    assert it.used() == (0, 0, 3000)
    with pytest.raises(QuotaExceeded, match="reserved by open uploads"):
        it.save("b", b"x" * 501)
    it.save("b", b"x" * 500)
    it.part("u", "a", 1000, DATA[1000:], whole=DATA)
    assert it.used() == (3500, 2, 0)


def test_an_upload_of_unknown_size_counts_with_what_has_come_and_is_stopped_at_the_quota(
    it: Bench,
) -> None:
    it.quota = Quota(bytes=2500, files=10)
    it.part("u", "a", 0, DATA[:1000])
    it.part("u", "a", 1000, DATA[1000:2000])
    with pytest.raises(QuotaExceeded):
        it.part("u", "a", 2000, DATA[2000:], whole=DATA)
    assert it.used() == (0, 0, 2000)
    it.quota = Quota(bytes=3000, files=10)
    it.part("u", "a", 2000, DATA[2000:], whole=DATA)
    assert it.read("a") == DATA


def test_only_so_many_uploads_of_an_owner_are_open(it: Bench) -> None:
    for number in range(BOUNDS.most_open):
        it.part(f"u{number}", f"n{number}", 0, b"x")
    with pytest.raises(Overloaded) as caught:
        it.part("one more", "a", 0, b"x")
    assert caught.value.details["retry_after_s"] > 0
    it.receiver.abandon(OWNER, "u0")
    it.part("one more", "a", 0, b"x")


def test_more_than_is_free_on_the_disk_is_refused_before_the_first_byte(it: Bench) -> None:
    it.quota = Quota(bytes=1 << 60, files=10)
    with pytest.raises(DiskFull, match="are needed"):
        it.part("u", "a", 0, b"x", size=1 << 55)
    assert it.staged() == []
    assert it.used() == (0, 0, 0)


# --- what comes to nothing ------------------------------------------------------------------


def test_an_upload_that_nobody_goes_on_with_expires_and_what_it_reserved_is_free(
    it: Bench,
) -> None:
    it.part("u", "a", 0, DATA[:1000], size=3000)
    it.part("v", "b", 0, DATA[:1000])
    it.times.mono += BOUNDS.timeout_s - 1
    it.part("v", "b", 1000, DATA[1000:2000])
    it.receiver.expire()
    assert it.used() == (0, 0, 5000)
    it.times.mono += 1
    it.receiver.expire()
    assert it.used() == (0, 0, 2000)
    assert it.events == [UploadsExpired(OWNER, 1)]
    assert len(it.staged()) == 1
    with pytest.raises(NotFound):
        it.part("u", "a", 1000, DATA[1000:], whole=DATA)


def test_an_abandoned_upload_leaves_nothing_and_may_be_abandoned_twice(it: Bench) -> None:
    it.part("u", "a", 0, DATA[:1000])
    it.receiver.abandon("jobs", "u")
    assert len(it.staged()) == 1
    for _ in range(2):
        it.receiver.abandon(OWNER, "u")
    assert it.staged() == []
    assert it.used() == (0, 0, 0)


def test_a_part_that_is_being_written_does_not_expire(it: Bench) -> None:
    inside, go_on = threading.Event(), threading.Event()
    plain = it.write

    def slow(descriptor: int, data: memoryview) -> int:
        inside.set()
        assert go_on.wait(20)
        return plain(descriptor, data)

    it.write = slow
    thread = threading.Thread(target=it.part, args=("u", "a", 0, DATA, DATA))
    thread.start()
    assert inside.wait(20)
    it.times.mono += BOUNDS.timeout_s
    it.receiver.expire()
    go_on.set()
    thread.join()
    assert it.read("a") == DATA
    assert it.events == []
