"""The store of files: what is saved is replaced in one step, read as it was, gone in its time."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from actors.storage.stored.quota import Quota
from actors.storage.stored.store import BATCH
from protocol.errors import AssetUnavailable, InvalidRequest, NotFound, QuotaExceeded
from tests.support.stored import OWNER, Bench, checksum

DATA = random.Random(1).randbytes(10_000)


@pytest.fixture
def it(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "deep" / "files")


def test_what_was_saved_is_read_to_the_byte(it: Bench) -> None:
    saved = it.save("traces/1.jsonl", DATA)
    assert (saved.size, saved.checksum, saved.saved_at) == (10_000, checksum(DATA), 1_000_000.0)
    assert it.read("traces/1.jsonl") == DATA
    assert it.staged() == []


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 1000])
def test_an_empty_and_a_tiny_file_are_files_too(it: Bench, data: bytes) -> None:
    it.save("a", data)
    assert it.read("a") == data


def test_its_content_lies_on_disk_as_it_was_saved(it: Bench) -> None:
    it.save("traces/1.jsonl", DATA)
    (name,) = it.on_disk()
    assert name.startswith("traces+1.jsonl@")
    assert (it.folder / OWNER / name).read_bytes() == DATA


def test_it_is_there_after_a_restart_with_all_that_is_known_of_it(it: Bench) -> None:
    saved = it.save("a", DATA, ttl_s=500)
    it.restart()
    assert it.store.find(OWNER, "a") == saved
    assert it.read("a") == DATA
    assert it.used() == (10_000, 1, 0)


def test_a_file_that_is_saved_again_is_replaced(it: Bench) -> None:
    it.save("a", b"old")
    it.times.wall -= 1000
    new = it.save("a", DATA)
    assert it.read("a") == DATA
    assert it.on_disk() == [new.disk_name]
    it.restart()
    assert it.read("a") == DATA


def test_who_reads_a_file_that_is_replaced_reads_the_old_one_to_its_end(it: Bench) -> None:
    it.save("a", DATA)
    reader = it.store.open(OWNER, "a")
    found = it.store.step(reader, 100)
    it.save("a", b"new")
    assert found == (0, DATA[:100])
    assert it.read_on(reader, 100) == DATA[100:]
    assert it.events == []


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 10), (5000, 100), (9_990, 10), (9_990, 1000), (10_000, 5), (3, 0)]
)
def test_a_range_is_that_part_of_it(it: Bench, offset: int, size: int) -> None:
    it.save("a", DATA)
    assert it.read("a", offset, size) == DATA[offset : offset + size]
    assert it.read("a", offset) == DATA[offset:]


def test_a_range_behind_the_end_is_refused_with_the_size(it: Bench) -> None:
    it.save("a", DATA)
    with pytest.raises(InvalidRequest, match="has 10000 bytes"):
        it.store.open(OWNER, "a", 10_001)


def test_a_range_of_another_content_than_before_is_refused(it: Bench) -> None:
    before = it.save("a", b"old")
    it.save("a", b"new")
    with pytest.raises(NotFound, match="was replaced"):
        it.store.open(OWNER, "a", checksum=before.checksum)


def test_a_name_that_means_nothing_is_not_found(it: Bench) -> None:
    with pytest.raises(NotFound, match="telemetry keeps no file 'b'"):
        it.store.open(OWNER, "b")
    with pytest.raises(InvalidRequest):
        it.store.open(OWNER, "../b")


def test_owners_do_not_see_each_others_names(it: Bench) -> None:
    it.save("a", b"mine")
    it.save("a", b"yours", owner="jobs")
    assert it.read("a") == b"mine"
    assert it.read("a", owner="jobs") == b"yours"
    assert it.store.owners == ["jobs", OWNER]


# --- going ----------------------------------------------------------------------------------


def test_what_was_deleted_is_gone_also_after_a_restart(it: Bench) -> None:
    it.save("a", DATA)
    assert it.store.delete(OWNER, "a")
    assert not it.store.delete(OWNER, "a")
    it.restart()
    assert it.store.page(OWNER) == ([], False)
    assert it.used() == (0, 0, 0)


def test_what_has_expired_is_gone_at_once_and_from_the_disk_when_it_is_collected(
    it: Bench,
) -> None:
    it.save("a", DATA, ttl_s=60)
    it.save("b", DATA, ttl_s=61)
    it.times.wall += 60
    with pytest.raises(NotFound):
        it.read("a")
    assert [file.name for file in it.store.page(OWNER)[0]] == ["b"]
    assert len(it.on_disk()) == 2
    assert it.store.collect() == 1
    assert len(it.on_disk()) == 1
    assert it.used() == (10_000, 1, 0)


def test_more_than_one_batch_is_collected(it: Bench) -> None:
    for number in range(BATCH + 3):
        it.save(f"n{number}", b"", ttl_s=1)
    it.times.wall += 2
    assert it.store.collect() == BATCH + 3
    assert it.on_disk() == []


def test_a_file_is_kept_longer_by_saving_it_again(it: Bench) -> None:
    it.save("a", b"1", ttl_s=10)
    it.save("a", b"1")
    it.times.wall += 1000
    assert it.store.collect() == 0
    assert it.read("a") == b"1"


def test_an_older_revision_that_a_crash_left_is_removed_at_the_start(it: Bench) -> None:
    old = it.save("a", b"old")
    kept = it.path("a").read_bytes()
    it.save("a", b"new")
    (it.folder / OWNER / old.disk_name).write_bytes(kept)
    it.restart()
    assert it.read("a") == b"new"
    assert len(it.on_disk()) == 1
    it.store.delete(OWNER, "a")
    it.restart()
    assert it.store.find(OWNER, "a") is None


# --- quotas ---------------------------------------------------------------------------------


def test_an_owner_at_its_quota_may_replace_but_not_add(it: Bench) -> None:
    it.quota = Quota(bytes=100, files=2)
    it.save("a", b"x" * 60)
    it.save("b", b"x" * 40)
    with pytest.raises(QuotaExceeded) as caught:
        it.save("a", b"x" * 61)
    assert caught.value.details["needed"] == 1
    with pytest.raises(QuotaExceeded, match="2 of the 2 files"):
        it.save("c", b"")
    it.save("a", b"x" * 59)
    it.save("b", b"x" * 41)
    assert it.used() == (100, 2, 0)
    assert it.staged() == []


def test_what_has_expired_makes_room_before_anybody_is_refused(it: Bench) -> None:
    it.quota = Quota(bytes=100, files=5)
    it.save("a", b"x" * 90, ttl_s=10)
    it.times.wall += 11
    it.save("b", b"x" * 90)
    assert it.used() == (90, 1, 0)


def test_a_quota_is_of_one_owner_and_leaves_the_others_alone(it: Bench) -> None:
    it.quota = Quota(bytes=100, files=5)
    it.save("a", b"x" * 100)
    it.save("a", b"x" * 100, owner="jobs")


# --- several at once ------------------------------------------------------------------------


def test_threads_that_save_the_same_name_leave_one_of_their_contents(it: Bench) -> None:
    contents = [bytes([number]) * (5000 + number) for number in range(8)]

    def save(content: bytes) -> None:
        for _ in range(10):
            it.save("a", content)

    threads = [threading.Thread(target=save, args=(one,)) for one in contents[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert it.read("a") in contents
    assert len(it.on_disk()) == 1
    assert it.used()[1:] == (1, 0)
    assert it.staged() == []


def test_two_processes_do_not_have_one_folder(it: Bench) -> None:
    with pytest.raises(AssetUnavailable, match="another process has the stored files"):
        Bench(it.folder)
    it.store.close()
    Bench(it.folder).save("a", b"1")
