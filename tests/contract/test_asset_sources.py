"""What every source of assets promises, run on every implementation. No network.

A new source gets a place of its own in tests/support/asset_places.py; the tests stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from actors.storage.sources import (
    PIECE_BYTES,
    SOURCE_KINDS,
    NoRanges,
    Order,
    Progress,
    Source,
    SourceSpec,
)
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, MissingDependency
from tests.support.asset_places import ASSET, PLACES, Place, opened
from tests.support.waiting import until

HANGING = sorted(name for name, kind in PLACES.items() if kind.hangs)
TOOLED = sorted(name for name, kind in PLACES.items() if kind.needs_a_tool)
RANGED = sorted(name for name, kind in SOURCE_KINDS.items() if kind.make().ranged)
WRONG = [(name, wrong) for name, kind in sorted(PLACES.items()) for wrong in kind.wrong]

STRETCHES = [
    *((0, 1), (0, 256), (1, 1000), (12_345, PIECE_BYTES + 1)),
    *((len(ASSET) - 1, 1), (0, len(ASSET) - 1), (1, len(ASSET) - 1), (0, len(ASSET))),
]


@pytest.fixture(params=sorted(PLACES))
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    with opened(request.param, folder, monkeypatch) as there:
        yield there


class Delivery:
    """One order, and all that came of it."""

    def __init__(self, scratch: Path) -> None:
        self.pieces: list[bytes] = []
        self.progress: list[Progress] = []
        self.scratch = scratch
        self.cancelled: Callable[[], bool] = lambda: False
        self.children = set(psutil.Process().children(recursive=True))
        """Those that there were before."""
        scratch.mkdir()
        self.order = Order(
            *("tiny", len(ASSET), scratch), report=self.progress.append,
            cancelled=lambda: self.cancelled(),
        )  # fmt: skip

    def read(
        self, place: Place, spec: SourceSpec, offset: int = 0, size: int = len(ASSET)
    ) -> bytes:
        for piece in place.source().read(spec, offset, size, self.order):
            self.pieces.append(piece)
        return self.came

    @property
    def came(self) -> bytes:
        return b"".join(self.pieces)

    def check_no_child_is_left(self) -> None:
        assert set(psutil.Process().children(recursive=True)) <= self.children


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(tmp_path / "scratch")


def test_every_registered_source_runs_this_suite() -> None:
    assert PLACES.keys() == SOURCE_KINDS.keys()


def test_the_assets_bytes_arrive_in_pieces_of_bounded_size(
    place: Place, delivery: Delivery
) -> None:
    assert delivery.read(place, place.good()) == ASSET
    assert all(0 < len(piece) <= PIECE_BYTES for piece in delivery.pieces)
    assert len(delivery.pieces) > 1


@pytest.mark.parametrize("place", RANGED, indirect=True)
@pytest.mark.parametrize(("offset", "size"), STRETCHES)
def test_any_stretch_of_the_asset_can_be_had_by_itself(
    place: Place, delivery: Delivery, offset: int, size: int
) -> None:
    assert delivery.read(place, place.good(), offset, size) == ASSET[offset : offset + size]


@pytest.mark.parametrize("place", sorted(SOURCE_KINDS.keys() - set(RANGED)), indirect=True)
@pytest.mark.parametrize(("offset", "size"), STRETCHES[:-1])
def test_a_source_without_ranges_says_so_before_it_does_anything(
    place: Place, delivery: Delivery, offset: int, size: int
) -> None:
    with pytest.raises(NoRanges):
        delivery.read(place, place.good(), offset, size)
    assert list(delivery.scratch.iterdir()) == []


@pytest.mark.parametrize("place", RANGED, indirect=True)
def test_one_source_serves_several_threads_with_one_order(place: Place, delivery: Delivery) -> None:
    source, spec, came = place.source(), place.good(), [b""] * 8
    share = len(ASSET) // len(came)

    def read(number: int) -> None:
        came[number] = b"".join(source.read(spec, number * share, share, delivery.order))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(came))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(came) == ASSET


def test_progress_never_shrinks_within_a_stage_and_never_passes_its_total(
    place: Place, delivery: Delivery
) -> None:
    delivery.read(place, place.good())
    for stage in ("downloading", "unpacking"):
        done = [p.done_bytes for p in delivery.progress if p.stage == stage]
        assert done == sorted(done)
    assert all(p.done_bytes <= p.total_bytes for p in delivery.progress)


def test_a_second_reading_with_an_empty_scratch_folder_delivers_again(
    place: Place, tmp_path: Path
) -> None:
    source, spec = place.source(), place.good()
    for name in ("first", "second"):
        order = Delivery(tmp_path / name).order
        assert b"".join(source.read(spec, 0, len(ASSET), order)) == ASSET


def test_what_is_not_there_is_unavailable_and_the_error_names_the_place(
    place: Place, delivery: Delivery
) -> None:
    spec = place.absent()
    with pytest.raises(AssetUnavailable) as caught:
        delivery.read(place, spec)
    assert spec.where().removeprefix("the wheel of ") in caught.value.message
    assert delivery.pieces == []


@pytest.mark.parametrize(("place", "condition"), WRONG, indirect=["place"])
def test_what_cannot_be_the_asset_is_corrupt_and_never_more_than_its_size(
    place: Place, delivery: Delivery, condition: str
) -> None:
    spec: SourceSpec = getattr(place, condition)()
    with pytest.raises(AssetCorrupt):
        delivery.read(place, spec)
    assert len(delivery.came) <= len(ASSET)
    delivery.check_no_child_is_left()


def test_who_stops_early_gets_everything_closed(place: Place, delivery: Delivery) -> None:
    source, spec = place.source(), place.good()
    before = psutil.Process().num_fds()
    reading = source.read(spec, 0, len(ASSET), delivery.order)
    assert ASSET.startswith(next(reading))
    reading.close()
    delivery.check_no_child_is_left()
    # The other end of a connection is in this process too, and follows.
    until(lambda: psutil.Process().num_fds() <= before)


def test_cancelling_between_two_pieces_ends_the_reading(place: Place, delivery: Delivery) -> None:
    delivery.cancelled = lambda: len(delivery.pieces) > 0
    with pytest.raises(Cancelled):
        delivery.read(place, place.good())
    assert ASSET.startswith(delivery.came)
    assert len(delivery.came) < len(ASSET)
    delivery.check_no_child_is_left()


def test_what_is_cancelled_before_it_begins_brings_nothing(
    place: Place, delivery: Delivery
) -> None:
    delivery.cancelled = lambda: True
    with pytest.raises(Cancelled):
        delivery.read(place, place.good())
    assert delivery.pieces == []


@pytest.mark.parametrize("place", HANGING, indirect=True)
def test_cancelling_is_seen_while_nothing_comes(place: Place, delivery: Delivery) -> None:
    delivery.cancelled = place.reached
    with pytest.raises(Cancelled):
        delivery.read(place, place.hanging())
    delivery.check_no_child_is_left()


@pytest.mark.parametrize("place", ["pypi"], indirect=True)
def test_cancelling_ends_every_process_that_was_started(place: Place, delivery: Delivery) -> None:
    started: set[psutil.Process] = set()

    def once_reached() -> bool:
        started.update(psutil.Process().children(recursive=True))
        return place.reached()

    delivery.cancelled = once_reached
    with pytest.raises(Cancelled):
        delivery.read(place, place.hanging())
    assert started - delivery.children
    _, alive = psutil.wait_procs(started - delivery.children, timeout=5)
    # A grandchild may wait, dead, for whoever inherited it to take note.
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("place", HANGING, indirect=True)
def test_a_place_that_never_answers_is_given_up_after_the_stall_timeout(
    place: Place, delivery: Delivery
) -> None:
    def let_time_pass_once_reached() -> bool:
        if place.reached():
            place.clock.advance(61)
        return False

    delivery.cancelled = let_time_pass_once_reached
    with pytest.raises(AssetUnavailable, match="for 60 s"):
        delivery.read(place, place.hanging())
    delivery.check_no_child_is_left()


@pytest.mark.parametrize("place", HANGING, indirect=True)
def test_an_exception_of_the_watcher_comes_out_and_leaves_nothing_behind(
    place: Place, delivery: Delivery
) -> None:
    def broken() -> bool:
        if place.reached():
            raise ZeroDivisionError
        return False

    delivery.cancelled = broken
    with pytest.raises(ZeroDivisionError):
        delivery.read(place, place.hanging())
    delivery.check_no_child_is_left()


@pytest.mark.parametrize("place", TOOLED, indirect=True)
def test_a_missing_tool_is_a_missing_dependency_that_says_how_to_install_it(
    place: Place, delivery: Delivery
) -> None:
    source: Source[SourceSpec] = place.source_without_its_tool()
    with pytest.raises(MissingDependency, match=r"pip install \"noyau\[storage\]\""):
        list(source.read(place.good(), 0, len(ASSET), delivery.order))


def test_no_more_lies_in_the_scratch_folder_than_was_said(place: Place, delivery: Delivery) -> None:
    source, spec = place.source(), place.good()
    for _ in source.read(spec, 0, len(ASSET), delivery.order):
        files = [path for path in delivery.scratch.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= source.space_needed(spec, len(ASSET))


def test_no_copy_stays_in_the_users_cache(
    place: Place, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    delivery.read(place, place.good())
    assert not (tmp_path / "cache").exists()
