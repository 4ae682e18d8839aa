"""Install, resume, repair and update of one file: what is here is used, what is missing is fetched,
and nothing is anywhere before it is right."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.storage.digests import digest_of
from actors.storage.manifest import Asset, Manifest, Patch
from actors.storage.outcomes import Installed, Repaired, SourceFailed, SourceTriedAgain, StoreEvent
from actors.storage.patches import make_patch
from actors.storage.sources import FileSpec, Progress
from actors.storage.store import AssetStore
from protocol.clock import ManualClock
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled
from tests.support.sources import CountedSource, asset_of, cut_at, flip_at

CHUNK = 4096
DATA = random.Random(7).randbytes(40 * CHUNK + 100)


class Bench:
    """A store whose one kind of source is files."""

    def __init__(self, folder: Path, *assets: Asset, ranged: bool = True) -> None:
        self.folder = folder
        self.source = CountedSource(ranged=ranged)
        self.events: list[StoreEvent] = []
        self.clock = ManualClock()
        self.waits: list[float] = []
        self.store = self.store_of(*assets)

    def store_of(self, *assets: Asset) -> AssetStore:
        return AssetStore(
            self.folder, Manifest(version="1", assets=assets), boot_id="boot",
            sources={"file": self.source}, observe=self.events.append,
            clock=self.clock, pause=self._pause,
        )  # fmt: skip

    def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def told(self, kind: type[StoreEvent]) -> list[StoreEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def origin(tmp_path: Path) -> FileSpec:
    """Where the right bytes lie."""
    path = tmp_path / "origin.bin"
    path.write_bytes(DATA)
    return FileSpec(path=str(path))


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, origin: FileSpec) -> MakeBench:
    def make(
        *sources: FileSpec, chunk_bytes: int = CHUNK, ranged: bool = True, data: bytes = DATA
    ) -> Bench:
        asset = asset_of(data, *(sources or (origin,)), chunk_bytes=chunk_bytes)
        return Bench(tmp_path / "assets", asset, ranged=ranged)

    return make


def spoil(path: Path, *offsets: int) -> None:
    """Flip a bit of each of these bytes."""
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            [byte] = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("chunk_bytes", [0, CHUNK])
@pytest.mark.parametrize("ranged", [True, False])
def test_an_install_has_the_bytes_and_tells_how_many_came(
    bench: MakeBench, chunk_bytes: int, ranged: bool
) -> None:
    it, progress = bench(chunk_bytes=chunk_bytes, ranged=ranged), list[Progress]()
    assert it.store.install("tiny", progress.append).path.read_bytes() == DATA
    assert it.source.bytes == len(DATA)
    [event] = it.events
    assert isinstance(event, Installed)
    assert event.fetched_bytes == len(DATA)
    done = [each.done_bytes for each in progress if each.stage == "downloading"]
    assert done == sorted(done)
    assert done[-1] == len(DATA)


@pytest.mark.parametrize("chunk_bytes", [0, CHUNK])
def test_a_cut_connection_is_taken_up_where_it_broke_off(
    bench: MakeBench, chunk_bytes: int
) -> None:
    it = bench(chunk_bytes=chunk_bytes)
    # The file's pieces are large: the cut is between two of them only where the file is.
    it.source.fault = cut_at(0, times=2)
    it.store.install("tiny")
    assert [event.delay_s for event in it.told(SourceTriedAgain)] == [  # type: ignore[union-attr]
        pytest.approx(2, rel=0.3), pytest.approx(4, rel=0.3)
    ]  # fmt: skip
    assert it.source.bytes == len(DATA)


def test_after_four_cuts_without_progress_the_next_source_is_asked(
    bench: MakeBench, tmp_path: Path, origin: FileSpec
) -> None:
    other = tmp_path / "mirror.bin"
    other.write_bytes(DATA)
    it = bench(FileSpec(path=str(other)), origin)
    it.source.fault = cut_at(0, times=4)
    it.store.install("tiny")
    assert sum(it.waits) == pytest.approx(14, rel=0.3)
    assert len(it.told(SourceFailed)) == 1
    assert it.source.reads[-1][0] == origin.path


def test_what_an_earlier_run_fetched_is_not_fetched_again(bench: MakeBench) -> None:
    it = bench()
    partial = it.store.layout.partial(it.store.manifest.asset("tiny"))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA[: 10 * CHUNK + 5])
    spoil(partial, 3 * CHUNK)
    assert it.store.install("tiny").path.read_bytes() == DATA
    assert it.source.bytes == len(DATA) - 9 * CHUNK


def test_a_file_without_chunks_goes_on_from_its_last_byte(bench: MakeBench) -> None:
    it = bench(chunk_bytes=0)
    partial = it.store.layout.partial(it.store.manifest.asset("tiny"))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA[:1000])
    assert it.store.install("tiny").path.read_bytes() == DATA
    assert it.source.reads == [(it.source.reads[0][0], 1000, len(DATA) - 1000)]


def test_a_beginning_that_turns_out_wrong_costs_one_more_reading(bench: MakeBench) -> None:
    it = bench(chunk_bytes=0)
    partial = it.store.layout.partial(it.store.manifest.asset("tiny"))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1000))
    assert it.store.install("tiny").path.read_bytes() == DATA
    assert [offset for _, offset, _ in it.source.reads] == [1000, 0]
    assert it.told(SourceFailed) == []


def test_a_poisoned_chunk_sends_to_the_next_source_and_the_right_ones_stay(
    bench: MakeBench, tmp_path: Path, origin: FileSpec
) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(DATA)
    spoil(bad, 20 * CHUNK)
    it = bench(FileSpec(path=str(bad)), origin)
    assert it.store.install("tiny").path.read_bytes() == DATA
    [event] = it.told(SourceFailed)
    assert isinstance(event, SourceFailed)
    assert isinstance(event.error, AssetCorrupt)
    assert f"from {20 * CHUNK} on are not what the manifest promises" in event.error.message
    [(_, offset, size)] = [each for each in it.source.reads if each[0] == origin.path]
    assert (offset, size) == (20 * CHUNK, len(DATA) - 20 * CHUNK)


def test_when_every_source_is_poisoned_nothing_is_published_and_what_was_right_stays(
    bench: MakeBench,
) -> None:
    it = bench()
    it.source.fault = flip_at(20 * CHUNK)
    with pytest.raises(AssetCorrupt, match="not what the manifest promises"):
        it.store.install("tiny")
    assert not it.store.path_of("tiny").exists()
    it.source.fault, before = None, it.source.bytes
    it.store.install("tiny")
    assert it.source.bytes - before == len(DATA) - 20 * CHUNK


def test_one_flipped_bit_is_found_and_repaired_with_one_chunks_bytes_in_100_of_100(
    bench: MakeBench,
) -> None:
    it = bench()
    path = it.store.install("tiny").path
    for where in random.Random(3).sample(range(len(DATA)), 100):
        before = it.source.bytes
        spoil(path, where)
        assert it.store.locate("tiny", trust_cache=False) is None
        assert it.store.install("tiny").path.read_bytes() == DATA
        event = it.events[-1]
        assert isinstance(event, Repaired)
        assert event.chunks == 1
        one_chunk = min(CHUNK, len(DATA) - where // CHUNK * CHUNK)
        assert it.source.bytes - before == event.fetched_bytes == one_chunk


def test_a_repair_from_a_source_without_parts_takes_only_what_is_damaged_and_says_so(
    bench: MakeBench,
) -> None:
    it = bench(ranged=False)
    path = it.store.install("tiny").path
    spoil(path, 5)
    assert it.store.locate("tiny", trust_cache=False) is None
    assert it.store.install("tiny").path.read_bytes() == DATA
    [event] = it.told(Repaired)
    assert isinstance(event, Repaired)
    assert (event.chunks, event.whole, event.fetched_bytes) == (1, True, len(DATA))
    assert "gives no parts of a file" in str(event)


def test_a_file_whose_manifest_names_no_chunks_is_repaired_by_pieces_too(
    tmp_path: Path,
) -> None:
    data = random.Random(3).randbytes(5 << 20)
    origin = tmp_path / "origin.bin"
    origin.write_bytes(data)
    it = Bench(tmp_path / "assets", asset_of(data, FileSpec(path=str(origin))))
    path = it.store.install("tiny").path
    before = it.source.bytes
    spoil(path, 3 << 20, (3 << 20) + 7)
    assert it.store.locate("tiny", trust_cache=False) is None
    assert it.store.install("tiny").path.read_bytes() == data
    assert it.source.bytes - before == 1 << 20


def test_a_truncated_file_is_completed(bench: MakeBench) -> None:
    it = bench()
    path = it.store.install("tiny").path
    before = it.source.bytes
    path.write_bytes(DATA[: 30 * CHUNK + 7])
    assert it.store.install("tiny").path.read_bytes() == DATA
    assert it.source.bytes - before == len(DATA) - 30 * CHUNK


def test_the_damaged_file_goes_once_it_is_repaired_and_another_file_stays(bench: MakeBench) -> None:
    it = bench()
    path = it.store.install("tiny").path
    aside = it.store.layout.quarantined(it.store.manifest.asset("tiny"))
    spoil(path, 5)
    it.store.locate("tiny", trust_cache=False)
    it.store.install("tiny")
    assert not aside.exists()
    path.write_bytes(b"the user's own, put here by mistake")
    it.store.install("tiny")
    assert aside.read_bytes() == b"the user's own, put here by mistake"


def test_chunks_that_another_asset_has_are_copied(tmp_path: Path, origin: FileSpec) -> None:
    newer = DATA[: 20 * CHUNK] + random.Random(8).randbytes(CHUNK) + DATA[21 * CHUNK :]
    place = tmp_path / "newer.bin"
    place.write_bytes(newer)
    it = Bench(
        tmp_path / "assets",
        asset_of(DATA, origin, chunk_bytes=CHUNK),
        asset_of(newer, FileSpec(path=str(place)), name="newer", chunk_bytes=CHUNK),
    )
    it.store.install("tiny")
    before = it.source.bytes
    assert it.store.install("newer").path.read_bytes() == newer
    assert it.source.bytes - before == CHUNK


def test_bytes_that_occur_twice_are_fetched_once(tmp_path: Path) -> None:
    data = bytes(CHUNK) * 30 + DATA[:CHUNK]
    place = tmp_path / "zeros.bin"
    place.write_bytes(data)
    it = Bench(tmp_path / "assets", asset_of(data, FileSpec(path=str(place)), chunk_bytes=CHUNK))
    assert it.store.install("tiny").path.read_bytes() == data
    assert it.source.bytes == 2 * CHUNK


def test_a_local_file_that_changes_while_it_is_copied_costs_no_more_than_its_chunks(
    bench: MakeBench,
) -> None:
    it = bench()
    path = it.store.install("tiny").path
    asset = it.store.manifest.asset("tiny")
    aside = it.store.layout.quarantined(asset)
    spoil(path, 0)
    it.store.locate("tiny", trust_cache=False)
    before = it.source.bytes

    def spoil_another(piece: bytes, offset: int) -> bytes:
        # By now it was looked at and copied: the copy is what counts.
        spoil(it.store.layout.partial(asset), 9 * CHUNK)
        it.source.fault = None
        return piece

    it.source.fault = spoil_another
    assert it.store.install("tiny").path.read_bytes() == DATA
    assert it.source.bytes - before == 2 * CHUNK
    assert not aside.exists()


def test_chunks_and_hash_that_contradict_each_other_are_the_manifests_fault(
    tmp_path: Path, origin: FileSpec
) -> None:
    right = asset_of(DATA, origin, chunk_bytes=CHUNK)
    asset = right.model_copy(update={"hash": f"sha256-{'0' * 64}"})
    it = Bench(tmp_path / "assets", asset)
    with pytest.raises(AssetCorrupt, match="contradict each other"):
        it.store.install("tiny")
    assert not it.store.path_of("tiny").exists()


def test_cancelling_keeps_what_came(bench: MakeBench) -> None:
    it = bench()
    stop = [False]

    def stop_at_once(piece: bytes, offset: int) -> bytes:
        stop[0] = True
        return piece

    it.source.fault = stop_at_once
    with pytest.raises(Cancelled):
        it.store.install("tiny", cancelled=lambda: stop[0])
    before, it.source.fault = it.source.bytes, None
    it.store.install("tiny")
    assert it.source.bytes - before < len(DATA)


def test_a_source_that_lacks_the_file_is_not_asked_twice(bench: MakeBench, tmp_path: Path) -> None:
    it = bench(FileSpec(path=str(tmp_path / "none.bin")))
    with pytest.raises(AssetUnavailable, match="cannot be read: No such file"):
        it.store.install("tiny")
    assert len(it.source.reads) == 1
    assert it.waits == []


def patched_bench(tmp_path: Path, patch: bytes, **more: object) -> Bench:
    """The first version is here; the second is scattered with changes, and there is a patch."""
    newer = bytearray(DATA)
    for at in range(0, len(newer), CHUNK):
        newer[at] ^= 1
    origin, place = tmp_path / "newer.bin", tmp_path / "patch.zst"
    origin.write_bytes(newer)
    old = tmp_path / "old.bin"
    old.write_bytes(DATA)
    if not patch:
        with place.open("wb") as file:
            make_patch(old, origin, file)
    else:
        place.write_bytes(patch)
    described = Patch(
        method="zstd", from_hash=digest_of(DATA, "sha256"), size=place.stat().st_size,
        hash=digest_of(place.read_bytes(), "sha256"), sources=(FileSpec(path=str(place)),),
    )  # fmt: skip
    it = Bench(tmp_path / "assets", asset_of(DATA, FileSpec(path=str(old)), chunk_bytes=CHUNK))
    it.store.install("tiny")
    it.store.versions.keep(it.store.manifest.asset("tiny"))
    it.store.manifest = Manifest(version="2", assets=(
        asset_of(bytes(newer), FileSpec(path=str(origin)), chunk_bytes=CHUNK, patches=(described,)),
    ))  # fmt: skip
    return it


def test_a_patch_is_fetched_where_it_is_less_than_the_chunks(tmp_path: Path) -> None:
    it = patched_bench(tmp_path, b"")
    before = it.source.bytes
    it.store.install("tiny")
    assert it.source.bytes - before < len(DATA) // 10
    assert it.told(SourceFailed) == []


def test_a_patch_that_does_not_work_costs_no_more_than_itself(tmp_path: Path) -> None:
    it = patched_bench(tmp_path, b"no patch at all")
    newer = it.store.manifest.asset("tiny")
    assert digest_of(it.store.install("tiny").path.read_bytes(), "sha256") == newer.hash
    [event] = it.told(SourceFailed)
    assert isinstance(event, SourceFailed)
    assert event.kind == "patch"
