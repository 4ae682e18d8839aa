"""Who is read next, and who writes in which row."""

from __future__ import annotations

from actors.engine.backends.transformers_torch.batch import (
    Batch,
    rows_to_compute,
    tokens_to_look_at,
)


def batch(*requests: str, rows: int = 2) -> Batch[str]:
    made: Batch[str] = Batch(rows)
    for request in requests:
        made.add(request)
    return made


def turns(some: Batch[str], count: int) -> list[str | None]:
    had = []
    for _ in range(count):
        had.append(some.to_read)
        if had[-1] is not None:
            some.had_turn(had[-1])
    return had


def test_rows_are_given_in_the_order_of_coming_the_lowest_first() -> None:
    three = batch("a", "b", "c")
    assert three.place() == ["a", "b"]
    assert [three.row("a"), three.row("b")] == [0, 1]
    assert three.place() == []
    three.remove("a")
    assert three.place() == ["c"]
    assert three.row("c") == 0


def test_prompts_are_read_in_turn_so_that_nobody_waits_for_all_of_a_long_one() -> None:
    two = batch("long", "short")
    two.place()
    assert turns(two, 3) == ["long", "short", "long"]
    two.read("short")
    assert turns(two, 2) == ["long", "long"]


def test_who_has_been_read_writes_and_the_oldest_is_the_first() -> None:
    two = batch("a", "b")
    two.place()
    two.read("b")
    two.read("a")
    assert two.writing == ["b", "a"]
    assert two.to_read is None


def test_who_is_gone_is_gone_wherever_it_was() -> None:
    three = batch("reading", "writing", "waiting")
    three.place()
    three.read("writing")
    for request in ("reading", "writing", "waiting", "waiting"):
        three.remove(request)
    assert len(three) == 0
    assert three.all() == []
    assert three.to_read is None


def test_a_row_that_is_free_again_is_used_again() -> None:
    one = batch("a", "b", rows=1)
    one.place()
    one.remove("a")
    assert one.place() == ["b"]
    assert one.row("b") == 0


def test_as_many_rows_are_computed_whoever_runs_beside() -> None:
    assert [rows_to_compute(highest, 4) for highest in range(4)] == [4, 4, 4, 4]
    assert [rows_to_compute(highest, 64) for highest in (0, 7, 8, 63)] == [8, 8, 16, 64]
    assert rows_to_compute(9, 10) == 10


def test_keys_are_looked_at_by_the_block_up_to_the_context() -> None:
    assert [tokens_to_look_at(n, 1000) for n in (1, 64, 65, 999)] == [64, 64, 128, 1000]
