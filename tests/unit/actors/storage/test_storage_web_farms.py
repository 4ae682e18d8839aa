"""A farm of servers behind one name, each of which has a name of its own for the same version; and
a file that really changes while it is fetched."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.storage.fetching import Failed, Fetched, Fetcher
from actors.storage.outcomes import SourceTriedAgain, StoreEvent
from actors.storage.partial import PartialFile
from actors.storage.plan import Stretch
from actors.storage.sources import HttpSource, HttpSpec, Order
from actors.storage.sources.web import Web
from protocol.clock import ManualClock
from tests.support import faults
from tests.support.faults import Reply
from tests.support.faulty_server import FaultyServer
from tests.support.sources import asset_of

CHUNK = 64 << 10
DATA = random.Random(8).randbytes(24 * CHUNK)
NEWER = random.Random(9).randbytes(24 * CHUNK)


class Fetching:
    """Of one file from one server. The clock moves when it is waited."""

    def __init__(self, root: Path, server: FaultyServer) -> None:
        self.root, self.spec = root, HttpSpec(url=server.url("a.bin"))
        self.events: list[StoreEvent] = []
        self.clock = ManualClock()
        self.file = root / "staged"
        self.web = Web()

    def fetch(self, chunk_bytes: int) -> Fetched | Failed:
        """In stretches of one chunk, as of a file of many gigabytes."""
        asset = asset_of(DATA, chunk_bytes=chunk_bytes)
        asset = asset.model_copy(update={"sources": (self.spec,)})
        fetcher = Fetcher(
            {"http": HttpSource(lambda: self.web)}, clock=self.clock, observe=self.events.append,
            pause=self._pause, connections=1,
        )  # fmt: skip
        order = Order("a", len(DATA), self.root, lambda _: None, lambda: False)
        with PartialFile(self.file) as file:
            return fetcher.fetch(
                asset, asset.chunks, [Stretch((chunk,)) for chunk in asset.chunks], file, order
            )

    def _pause(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def again(self) -> list[str]:
        """Why it was tried again."""
        return [event.reason for event in self.events if isinstance(event, SourceTriedAgain)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.bin").write_bytes(DATA)
    with FaultyServer(folder) as server:
        yield server


@pytest.fixture
def it(tmp_path: Path, server: FaultyServer) -> Iterator[Fetching]:
    it = Fetching(tmp_path, server)
    yield it
    it.web.close()


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
def test_servers_of_one_farm_that_name_the_version_differently_are_waited_for_by_nobody(
    it: Fetching, server: FaultyServer, name: str
) -> None:
    numbers = itertools.count()
    server.inject("*", lambda reply: faults.header(name, f'"{next(numbers)}"')(reply))
    fetched = it.fetch(CHUNK)
    assert isinstance(fetched, Fetched)
    assert it.file.read_bytes() == DATA
    assert (it.again(), it.clock.now()) == ([], 0.0)
    assert len(server.asked) == len(DATA) // CHUNK


def test_what_goes_on_in_the_middle_of_a_chunk_is_of_the_version_that_it_began_with(
    it: Fetching, server: FaultyServer
) -> None:
    names = iter(['"one"', '"other"'])

    def first_cut_then_another(reply: Reply) -> None:
        faults.header("ETag", next(names, '"one"'))(reply)
        if reply.headers["ETag"] == '"one"' and not server.asked[1:]:
            faults.cut(after=100_000)(reply)

    server.inject("*", first_cut_then_another)
    assert isinstance(it.fetch(len(DATA)), Fetched)
    assert it.file.read_bytes() == DATA
    assert ["was cut" in reason for reason in it.again()] == [True, False]
    assert "changed while it was fetched (its ETag" in it.again()[1]


def test_a_file_that_changes_in_the_middle_gives_no_wrong_chunk(
    it: Fetching, server: FaultyServer, tmp_path: Path
) -> None:
    def replaced(reply: Reply) -> None:
        if len(server.asked) == 5:
            (tmp_path / "new").write_bytes(NEWER)
            os.replace(tmp_path / "new", tmp_path / "served" / "a.bin")

    server.inject("*", replaced)
    failed = it.fetch(CHUNK)
    assert isinstance(failed, Failed)
    assert "not what the manifest promises" in str(failed.reasons[-1])
    assert it.file.read_bytes()[: 4 * CHUNK] == DATA[: 4 * CHUNK]
