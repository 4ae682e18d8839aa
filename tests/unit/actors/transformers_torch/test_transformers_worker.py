"""The steps of all requests together, with a model that is a row of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors.engine.backends import Prefill, Task
from actors.engine.backends.transformers_torch.choosing import Draws, Numbers
from actors.engine.backends.transformers_torch.requests import (
    Chosen,
    End,
    Item,
    Request,
    Steps,
    Want,
)
from actors.engine.backends.transformers_torch.worker import Worker
from protocol.errors import EngineFailed, EngineGarbage, EngineOutOfMemory, NoyauError
from protocol.messages.engine import ChatMessage, Sampling

BROKEN: list[Steps] = []
"""Those whose device computes nothing more."""
END = 99
CHUNK = 4


class Counting(Steps):
    """Says the number that follows the last one; what it is told to get wrong, it does."""

    ends = frozenset({END})

    def __init__(self) -> None:
        self.written: list[dict[int, tuple[int, int]]] = []
        self.reads: list[tuple[int, list[int], int]] = []
        self.forgotten: list[int] = []
        self.released = 0
        self.raises: list[Exception] = []
        """In the next steps of writing."""
        self.read_raises: list[Exception] = []
        self.garbage: set[int] = set()
        """Behind these tokens come no numbers."""

    def read(self, row: int, tokens: Sequence[int], start: int) -> Any:
        if self.read_raises:
            raise self.read_raises.pop()
        self.reads.append((row, list(tokens), start))
        return [tokens[-1]]

    def write(self, last: dict[int, tuple[int, int]]) -> Any:
        if self.raises:
            raise self.raises.pop()
        self.written.append(last)
        return [token for token, _ in last.values()]

    def choose(self, logits: Any, wants: Sequence[Want]) -> list[Chosen | NoyauError]:
        assert len(logits) == len(wants)
        return [
            EngineGarbage("NaN") if last in self.garbage else Chosen(last + 1, None)
            for last in logits
        ]

    def forget(self, row: int) -> None:
        self.forgotten.append(row)

    def release(self) -> None:
        self.released += 1

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def is_broken(self, error: Exception) -> bool:
        return isinstance(error, SystemError)


def asked(*prompt: int, left: int = 100, guide: Any = None) -> Request:
    task = Task([ChatMessage(role="user", content="?")], Sampling(temperature=0))
    return Request(task, prompt, left, Draws(0, 0), guide)


def worker(steps: Steps, *requests: Request, rows: int = 4) -> Worker:
    made = Worker(steps, rows, CHUNK, lambda _: BROKEN.append(steps))
    for request in requests:
        made.add(request)
    return made


def items(request: Request) -> list[Item]:
    came = []
    while not request.items.empty():
        came.append(request.items.get())
    return came


def tokens(came: list[Item]) -> list[int]:
    return [item.token for item in came if isinstance(item, Chosen)]


def run(made: Worker, steps: int) -> None:
    for _ in range(steps):
        made.step()


def test_a_prompt_is_read_chunk_by_chunk_then_the_answer_is_written_to_its_end() -> None:
    steps, one = Counting(), asked(90, 91, 92, 93, 94, 95)
    run(worker(steps, one), 6)
    came = items(one)
    assert steps.reads == [(0, [90, 91, 92, 93], 0), (0, [94, 95], 4)]
    assert came[:2] == [Prefill(4, 6), Prefill(6, 6)]
    assert tokens(came) == [96, 97, 98, END]
    assert came[-1] == End("stop")
    assert steps.written == [{0: (96, 6)}, {0: (97, 7)}, {0: (98, 8)}]


def test_an_answer_gets_no_more_tokens_than_it_may() -> None:
    one = asked(1, left=2)
    run(worker(Counting(), one), 3)
    came = items(one)
    assert tokens(came) == [2, 3]
    assert came[-1] == End("length")


def test_answers_are_written_together_whoever_came_when() -> None:
    steps, first, second = Counting(), asked(1), asked(50)
    made = worker(steps, first)
    run(made, 2)
    made.add(second)
    run(made, 2)
    assert tokens(items(first)) == [2, 3, 4, 5, 6]
    assert tokens(items(second)) == [51, 52, 53]
    assert steps.written[-1] == {0: (5, 4), 1: (52, 2)}


def test_short_prompts_are_read_in_one_step_as_long_as_they_make_no_more_than_a_chunk() -> None:
    steps = Counting()
    made = worker(steps, asked(1, 2), asked(11, 12), asked(21, 22, 23), asked(31, 32, 33, 34, 35))
    made.step()
    assert [row for row, _, _ in steps.reads] == [0, 1]
    made.step()
    assert [row for row, _, _ in steps.reads] == [0, 1, 2]
    made.step()
    assert steps.reads[-1] == (3, [31, 32, 33, 34], 0)
    made.step()
    assert steps.reads[-1] == (3, [35], 4)


def test_who_finds_no_row_is_told_that_it_waits() -> None:
    first, second = asked(1, left=2), asked(50)
    made = worker(Counting(), first, second, rows=1)
    made.step()
    assert items(second) == [Prefill(0, 1, waits=True)]
    run(made, 1)
    assert tokens(items(second)) == [51, 52]


def test_a_row_is_wiped_before_somebody_else_gets_it() -> None:
    steps = Counting()
    made = worker(steps, asked(1, left=1), asked(2, left=1), rows=1)
    run(made, 2)
    assert steps.forgotten == [0, 0]


@pytest.mark.parametrize("how", ["cancelled", "gone"])
def test_who_is_not_wanted_any_more_ends_with_the_next_step(how: str) -> None:
    first, second = asked(1), asked(50)
    made = worker(Counting(), first, second)
    run(made, 2)
    (first.task.cancelled if how == "cancelled" else first.gone).set()
    items(first)
    items(second)
    made.step()
    assert items(first) == [End("cancelled")]
    assert tokens(items(second))


def test_a_cancel_while_the_prompt_is_read_is_seen_between_chunks() -> None:
    steps, one = Counting(), asked(*range(20))
    made = worker(steps, one)
    made.step()
    one.task.cancelled.set()
    made.step()
    assert len(steps.reads) == 1
    assert items(one)[-1] == End("cancelled")


def test_numbers_that_are_none_end_the_one_answer_that_has_them() -> None:
    steps, good, bad = Counting(), asked(1), asked(50)
    steps.garbage = {52}
    run(worker(steps, good, bad), 5)
    assert isinstance(items(bad)[-1], EngineGarbage)
    assert tokens(items(good)) == [2, 3, 4, 5, 6, 7]


def test_without_memory_the_youngest_ends_and_the_others_go_on() -> None:
    steps, old, young = Counting(), asked(1), asked(50)
    made = worker(steps, old, young)
    run(made, 3)
    steps.raises = [MemoryError()]
    made.step()
    assert isinstance(items(young)[-1], EngineOutOfMemory)
    assert steps.released == 1
    run(made, 2)
    assert tokens(items(old)) == [2, 3, 4, 5, 6, 7]


def test_without_memory_for_a_prompt_that_one_ends() -> None:
    steps, old, young = Counting(), asked(1), asked(50)
    made = worker(steps, old)
    run(made, 1)
    made.add(young)
    steps.read_raises = [MemoryError()]
    run(made, 1)
    assert isinstance(items(young)[-1], EngineOutOfMemory)
    assert tokens(items(old)) == [2, 3, 4]


def test_another_failure_ends_all_that_it_was_for_and_the_next_request_is_answered() -> None:
    steps, first, second, third = Counting(), asked(1), asked(50), asked(70)
    made = worker(steps, first, second)
    run(made, 3)
    steps.raises = [RuntimeError("device-side assert")]
    made.step()
    for one in (first, second):
        last = items(one)[-1]
        assert isinstance(last, EngineFailed)
        assert "device-side assert" in str(last)
    made.add(third)
    run(made, 1)
    assert tokens(items(third)) == [71, 72]


class Three:
    """A format that is fulfilled by three tokens, or broken at one."""

    def __init__(self, broken_at: int = 0) -> None:
        self.taken: list[int] = []
        self._broken_at = broken_at

    def allowed(self) -> Numbers | None:
        return np.ones(100, dtype=bool)

    def take(self, token: int) -> None:
        self.taken.append(token)
        if len(self.taken) == self._broken_at:
            raise EngineFailed("llguidance failed")

    @property
    def over(self) -> bool:
        return len(self.taken) == 3


def test_an_answer_ends_where_its_format_is_fulfilled() -> None:
    guide = Three()
    one = asked(1, guide=guide)
    run(worker(Counting(), one), 3)
    came = items(one)
    assert tokens(came) == guide.taken == [2, 3, 4]
    assert came[-1] == End("stop")


def test_a_format_that_breaks_ends_its_own_answer_alone() -> None:
    broken, fine = asked(1, guide=Three(broken_at=2)), asked(50)
    run(worker(Counting(), broken, fine), 4)
    assert isinstance(items(broken)[-1], EngineFailed)
    assert tokens(items(fine)) == [51, 52, 53, 54, 55]


def test_who_is_still_there_when_the_model_is_unloaded_is_told() -> None:
    one, late = asked(1), asked(2)
    made = worker(Counting(), one)
    made.step()
    made.stop()
    made.run()
    made.add(late)
    assert isinstance(items(one)[-1], EngineFailed)
    assert isinstance(items(late)[-1], EngineFailed)


@pytest.mark.parametrize("where", ["raises", "read_raises"])
def test_a_device_that_is_broken_ends_all_answers_and_the_process(where: str) -> None:
    steps, one, other = Counting(), asked(1), asked(*range(2, 40))
    made = worker(steps, one, other)
    run(made, 1)
    getattr(steps, where).append(SystemError("device-side assert"))
    run(made, 1)
    for request in (one, other):
        error = items(request)[-1]
        assert isinstance(error, EngineFailed)
        assert "for this process: SystemError('device-side assert')" in error.message
    assert BROKEN.count(steps) == 1


def test_any_other_failure_is_no_broken_device() -> None:
    steps, one = Counting(), asked(1)
    made = worker(steps, one)
    steps.raises.append(RuntimeError("no"))
    run(made, 2)
    assert isinstance(items(one)[-1], EngineFailed)
    assert steps not in BROKEN
