"""What a client of a chaos run does with an error: it is careful, and knows what it wishes for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from noyau.chaos import load
from noyau.chaos.ledger import Ledger
from noyau.chaos.load import Load
from protocol.backoff import Backoff
from protocol.client import Client
from protocol.errors import (
    ActorUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    NoyauError,
    OutcomeUnknown,
)


class Failing:
    """A client whose first requests end in an error; the one after them stops the load."""

    def __init__(self, error: NoyauError, times: int) -> None:
        self._error, self._times = error, times
        self.asked = 0
        self.load = Load(Ledger(), "test", ("one",), seed=1)

    async def ask(self, message: Any, **more: Any) -> None:
        self.asked += 1
        if self.asked > self._times:
            self.load.stop.set()
            return
        raise self._error

    async def run(self) -> Ledger:
        await self.load.run(1, cast(Client, self))
        return self.load.ledger


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "AGAIN", Backoff(first_s=0.0, factor=1.0, max_s=0.0))


@pytest.mark.parametrize(
    "error", [ActorUnavailable("gone"), DeadlineExceeded("late"), OutcomeUnknown("done, or not")]
)
async def test_what_may_be_done_again_is_asked_again_and_answered_in_the_end(
    error: NoyauError,
) -> None:
    client = Failing(error, times=2)
    ledger = await client.run()
    assert client.asked == 3
    account = ledger.count()
    assert (account.tasks, account.tasks_answered) == (1, 1)
    assert account.errors == {error.code: 2}


async def test_what_was_wrong_to_ask_is_not_asked_again() -> None:
    client = Failing(InvalidRequest("no"), times=1)
    ledger = await client.run()
    account = ledger.count()
    assert (account.tasks, account.tasks_answered) == (2, 1)
