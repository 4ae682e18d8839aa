"""What every source of assets promises, run on every implementation. No network.

A new source gets a `Place` of its own in `PLACES`; the tests stay as they are.
"""

from __future__ import annotations

import io
import os
import select
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from actors.storage.sources import SOURCE_KINDS, Order, Progress, PypiSource, PypiSpec, Source
from actors.storage.sources import SourceSpec as Spec
from protocol.clock import ManualClock
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, MissingDependency

ASSET = bytes(range(256)) * 5000


class Place(Protocol):
    """Somewhere a source can fetch `ASSET` from, in every condition such a place can be in."""

    clock: ManualClock

    def source(self) -> Source[Any]: ...
    def good(self) -> Spec: ...
    def absent(self) -> Spec: ...
    def nameless(self) -> Spec:
        """The place has something, but not the file in it that the spec names."""
        ...

    def longer(self) -> Spec:
        """A file that unpacks to far more than the asset's size."""
        ...

    def shorter(self) -> Spec: ...
    def damaged(self) -> Spec: ...
    def hanging(self) -> Spec:
        """The place takes the call and never answers."""
        ...

    def reached(self) -> bool:
        """Whether the hanging place was called."""
        ...

    def source_without_its_tool(self) -> Source[Any]: ...


class WheelFolder:
    """pip with a folder of hand-made wheels in place of an index."""

    def __init__(self, folder: Path, env: pytest.MonkeyPatch, listener: socket.socket) -> None:
        self.clock = ManualClock()
        self._folder, self._env, self._listener = folder, env, listener
        env.setenv("PIP_NO_INDEX", "1")
        env.setenv("PIP_FIND_LINKS", str(folder))
        env.setenv("PIP_CONFIG_FILE", os.devnull)
        env.setenv("NO_PROXY", "*")

    def source(self) -> Source[Any]:
        return PypiSource(stall_timeout_s=60, clock=self.clock)

    def source_without_its_tool(self) -> Source[Any]:
        # -S leaves out site-packages, and with them pip.
        return PypiSource(python=(psutil.Process().exe(), "-S"))

    def good(self) -> Spec:
        return self._wheel(ASSET)

    def absent(self) -> Spec:
        return self._spec(1)

    def nameless(self) -> Spec:
        spec = self._wheel(ASSET)
        return spec.model_copy(update={"member": "tiny/other.bin"})

    def longer(self) -> Spec:
        return self._wheel(bytes(len(ASSET) * 50))

    def shorter(self) -> Spec:
        return self._wheel(ASSET[:-1])

    def damaged(self) -> Spec:
        spec = self._wheel(ASSET)
        wheel = next(self._folder.glob("*.whl"))
        raw = bytearray(wheel.read_bytes())
        raw[200] ^= 0x40
        wheel.write_bytes(raw)
        return spec

    def hanging(self) -> Spec:
        host, port = self._listener.getsockname()
        self._env.setenv("PIP_FIND_LINKS", f"http://{host}:{port}/")
        return self._spec(1)

    def reached(self) -> bool:
        return bool(select.select([self._listener], [], [], 0)[0])

    def _wheel(self, content: bytes) -> PypiSpec:
        wheel = self._folder / "tiny_model-1.0-py3-none-any.whl"
        about = "tiny_model-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("tiny/tiny.bin", content)
            made.writestr(
                f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0"
            )
            made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
            made.writestr(f"{about}/RECORD", "")
        return self._spec(wheel.stat().st_size)

    def _spec(self, size: int) -> PypiSpec:
        return PypiSpec(requirement="tiny-model==1.0", member="tiny/tiny.bin", wheel_size=size)


PLACES: dict[str, Callable[[Path, pytest.MonkeyPatch, socket.socket], Place]] = {
    "pypi": WheelFolder,
}


@pytest.fixture(params=sorted(PLACES))
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield PLACES[request.param](folder, monkeypatch, listener)


class Delivery:
    """One fetch and all that came of it."""

    def __init__(self, scratch: Path) -> None:
        self.into = io.BytesIO()
        self.progress: list[Progress] = []
        self.scratch = scratch
        self.cancelled: Callable[[], bool] = lambda: False

    def order(self) -> Order:
        self.scratch.mkdir()
        return Order(
            *("tiny", len(ASSET), self.into, self.scratch),
            report=self.progress.append,
            cancelled=lambda: self.cancelled(),
        )


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(tmp_path / "scratch")


def test_every_registered_source_runs_this_suite() -> None:
    assert PLACES.keys() == SOURCE_KINDS.keys()


def test_the_assets_bytes_arrive_and_the_progress_reaches_their_number(
    place: Place, delivery: Delivery
) -> None:
    place.source().fetch(place.good(), delivery.order())
    assert delivery.into.getvalue() == ASSET
    last = delivery.progress[-1]
    assert last.done_bytes == last.total_bytes == len(ASSET)


def test_progress_never_shrinks_within_a_stage_and_never_passes_its_total(
    place: Place, delivery: Delivery
) -> None:
    place.source().fetch(place.good(), delivery.order())
    for stage in ("downloading", "unpacking"):
        done = [p.done_bytes for p in delivery.progress if p.stage == stage]
        assert done == sorted(done)
    assert all(p.done_bytes <= p.total_bytes for p in delivery.progress)


def test_a_second_fetch_with_an_empty_sink_delivers_again(place: Place, tmp_path: Path) -> None:
    source, spec = place.source(), place.good()
    for name in ("first", "second"):
        delivery = Delivery(tmp_path / name)
        source.fetch(spec, delivery.order())
        assert delivery.into.getvalue() == ASSET


def test_what_is_not_there_is_unavailable_and_the_error_says_what_to_do(
    place: Place, delivery: Delivery
) -> None:
    with pytest.raises(AssetUnavailable, match="check the network"):
        place.source().fetch(place.absent(), delivery.order())
    assert delivery.into.getvalue() == b""


@pytest.mark.parametrize("condition", ["nameless", "longer", "shorter", "damaged"])
def test_what_cannot_be_the_asset_is_corrupt_and_never_more_than_its_size(
    place: Place, delivery: Delivery, condition: str
) -> None:
    spec: Spec = getattr(place, condition)()
    with pytest.raises(AssetCorrupt):
        place.source().fetch(spec, delivery.order())
    assert len(delivery.into.getvalue()) <= len(ASSET)


def test_cancelling_ends_the_fetch_and_every_process_it_started(
    place: Place, delivery: Delivery
) -> None:
    started: set[psutil.Process] = set()

    def once_reached() -> bool:
        started.update(psutil.Process().children(recursive=True))
        return place.reached()

    delivery.cancelled = once_reached
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Cancelled):
        place.source().fetch(place.hanging(), delivery.order())
    assert started - before
    _, alive = psutil.wait_procs(started - before, timeout=5)
    # A grandchild may wait, dead, for whoever inherited it to take note.
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_place_that_never_answers_is_given_up_after_the_stall_timeout(
    place: Place, delivery: Delivery
) -> None:
    def let_time_pass_once_reached() -> bool:
        if place.reached():
            place.clock.advance(61)
        return False

    delivery.cancelled = let_time_pass_once_reached
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(AssetUnavailable, match="for 60 s"):
        place.source().fetch(place.hanging(), delivery.order())
    assert set(psutil.Process().children(recursive=True)) <= before


def test_an_exception_of_the_watcher_leaves_no_process_behind(
    place: Place, delivery: Delivery
) -> None:
    def broken() -> bool:
        if place.reached():
            raise ZeroDivisionError
        return False

    delivery.cancelled = broken
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ZeroDivisionError):
        place.source().fetch(place.hanging(), delivery.order())
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_missing_tool_is_a_missing_dependency_that_says_how_to_install_it(
    place: Place, delivery: Delivery
) -> None:
    with pytest.raises(MissingDependency, match=r"pip install \"noyau\[storage\]\""):
        place.source_without_its_tool().fetch(place.good(), delivery.order())


def test_the_space_needed_is_at_least_the_assets(place: Place) -> None:
    assert place.source().space_needed(place.good(), len(ASSET)) >= len(ASSET)


def test_no_copy_stays_in_the_users_cache(
    place: Place, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place.source().fetch(place.good(), delivery.order())
    assert not (tmp_path / "cache").exists()
