"""Ids are UUIDv7: of their moment, in order, and never made twice, also not by a forked child."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from protocol.envelope import ID_BYTES, NO_ID, Envelope, IdSource, Kind, Priority, new_id


def milliseconds(one: bytes) -> int:
    return int.from_bytes(one[:6], "big")


def test_an_id_carries_the_version_and_variant_of_uuid7() -> None:
    for _ in range(1000):
        made = uuid.UUID(bytes=new_id())
        assert made.version == 7
        assert made.variant == uuid.RFC_4122


def test_an_id_carries_the_moment_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = milliseconds(new_id())
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_of_one_millisecond_stand_in_the_order_they_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.envelope.time_ns", lambda: 1_700_000_000_123_456_789)
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert {milliseconds(one) for one in made} == {1_700_000_000_123}


def test_an_id_of_a_later_millisecond_stands_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000_000_000_000
    monkeypatch.setattr("protocol.envelope.time_ns", lambda: now)
    made = []
    for _ in range(1000):
        made.append(new_id())
        now += 1_000_000
    assert made == sorted(made)


def test_ids_of_one_source_are_all_different() -> None:
    source = IdSource()
    made = [source() for _ in range(100_000)]
    assert len(set(made)) == len(made)
    assert {len(one) for one in made} == {ID_BYTES}
    assert NO_ID not in made


def test_two_sources_make_different_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.envelope.time_ns", lambda: 1_700_000_000_000_000_000)
    first, second = IdSource(), IdSource()
    made = [source() for source in (first, second) for _ in range(1000)]
    assert len(set(made)) == len(made)


def test_a_forked_child_makes_ids_with_random_bits_of_its_own() -> None:
    reading, writing = os.pipe()
    before = new_id()
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run here.
        os.write(writing, new_id())
        os._exit(0)
    os.close(writing)
    after = new_id()
    theirs = os.read(reading, ID_BYTES)
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == ID_BYTES

    def counted(one: bytes) -> int:
        return int.from_bytes(one[8:], "big")

    # Without its own random bits the child's next id would be exactly the parent's next one.
    assert counted(after) == counted(before) + 1
    assert abs(counted(theirs) - counted(after)) > 1000


def test_numbers_on_the_wire_keep_their_meaning() -> None:
    assert {kind.name: kind.value for kind in Kind} == {
        "REQUEST": 1, "REPLY": 2, "CHUNK": 3, "END": 4, "ERROR": 5,
        "CANCEL": 6, "CREDIT": 7, "EVENT": 8, "HEARTBEAT": 9,
    }  # fmt: skip
    assert [one.name for one in sorted(Priority)] == ["CRITICAL", "HIGH", "NORMAL", "LOW"]
    assert Envelope.__struct_fields__ == (
        "id", "kind", "operation", "source", "epoch", "target", "correlation",
        "sequence", "deadline_ms", "priority", "idempotency_key", "traceparent", "body",
    )  # fmt: skip
