"""Gets the missing stretches of one file from its sources, in their order, into the partial file.

    source ─ takes ranges? ─ yes ─► several connections, a stretch each ──┐
                             no ──► the whole file passes by, once ───────┤ each chunk checked
                                                                          ▼
    cut, stalled, overloaded: again after a while ── given up, poisoned, not there: next source

Behind the last source the first one is asked again, as long as each round brought something right.
What did stays, whichever source it came from and however this ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from actors.storage.bandwidth import Bandwidth
from actors.storage.delivery import SOURCE_ERRORS, SourceError
from actors.storage.manifest import Asset, Chunk
from actors.storage.outcomes import Observe, SourceFailed, SourceTriedAgain
from actors.storage.partial import ChunkWriter, PartialFile
from actors.storage.plan import Stretch
from actors.storage.retrying import Retries
from actors.storage.sources import NoRanges, Order, Progress, Source, SourceSpec, Stage, Versions
from protocol.clock import Clock
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled

CONNECTIONS: Final = 4
"""To one source. More gain little where the line is the bound, and a server may mind."""
WAIT_STEP_S: Final = 0.1
"""A pause looks this often whether it was cancelled."""


@dataclass(slots=True)
class Fetched:
    """What a fetch took."""

    bytes: int = 0
    """That were handed over by sources, also those that passed by unused."""
    wanted_bytes: int = 0
    sources: list[str] = field(default_factory=list)
    """Those that gave anything, in the order in which they did."""
    whole: bool = False
    """Whether a file passed by as a whole for the sake of some of its chunks."""

    def add(self, other: Fetched) -> None:
        """Count another fetch for the same file."""
        self.bytes += other.bytes
        self.wanted_bytes += other.wanted_bytes
        self.sources += [each for each in other.sources if each not in self.sources]
        self.whole |= other.whole


@dataclass(slots=True)
class Failed:
    """The fetch got no further: why each of the sources did not do."""

    reasons: list[SourceError] = field(default_factory=list)


class Fetcher:
    """Knows the sources, and how hard to try.

    Args:
        sources: by kind.
        pause: waits the given seconds; a test's hand on the wheel.
    """

    def __init__(
        self,
        sources: Mapping[str, Source[Any]],
        *,
        clock: Clock,
        observe: Observe,
        pause: Callable[[float], None],
        bandwidth: Bandwidth | None = None,
        connections: int = CONNECTIONS,
        retries: Callable[[], Retries] = Retries,
    ) -> None:
        self.sources = sources
        self.clock = clock
        self.observe = observe
        self.pause = pause
        self.bandwidth = bandwidth or Bandwidth()
        self.connections = connections
        self.retries = retries

    def fetch(
        self,
        asset: Asset,
        chunks: Sequence[Chunk],
        stretches: Sequence[Stretch],
        file: PartialFile,
        order: Order,
        stage: Stage = "downloading",
    ) -> Fetched | Failed:
        """Have all ``stretches`` of ``chunks``, which are the whole file's, in ``file``.

        Raises ``Cancelled`` and ``OSError``; whatever was right by then stays in the file.
        """
        run = _Run(self, asset, chunks, stretches, file, order, stage)
        while True:
            failed, before = Failed(), run.right
            for spec in asset.sources:
                error = run.from_source(spec)
                if error is None:
                    return run.fetched
                failed.reasons.append(error)
                self.observe(SourceFailed(asset.name, spec.kind, error))
            if run.right == before:
                # Nobody had anything right: asking all of them again would go on for ever.
                return failed

    def pause_until(self, moment: float, cancelled: Callable[[], bool]) -> None:
        """Wait, in small steps, until it is so late, in seconds of the clock, or cancelled."""
        while not cancelled() and (left := moment - self.clock.now()) > 0:
            self.pause(min(WAIT_STEP_S, left))


class _Run:
    """One fetch."""

    def __init__(
        self,
        fetcher: Fetcher,
        asset: Asset,
        chunks: Sequence[Chunk],
        stretches: Sequence[Stretch],
        file: PartialFile,
        order: Order,
        stage: Stage,
    ) -> None:
        self.by = fetcher
        self.asset = asset
        self.chunks = chunks
        self.file = file
        self.order = order
        self._stage = stage
        self.lock = threading.Lock()
        self.left = deque(stretches)
        self.fetched = Fetched()
        self._total = sum(stretch.size for stretch in stretches)
        self._all_chunks = sum(len(stretch.chunks) for stretch in stretches)
        self._done = 0
        self._done_chunks = 0
        self.right = 0
        """Chunks that came, and are what they should be."""

    def from_source(self, spec: SourceSpec) -> SourceError | None:
        """Get what is left from one source; returns why it did not do, if it did not."""
        source = self.by.sources[spec.kind]
        phase = _Phase(self, source, spec)
        if source.ranged:
            error = phase.run(phase.in_ranges, min(self.by.connections, len(self.left)))
            if not isinstance(error, NoRanges):
                return error
            phase = _Phase(self, source, spec)
        return phase.run(phase.whole, 1)

    def take(self) -> Stretch | None:
        """The next stretch to get."""
        with self.lock:
            return self.left.popleft() if self.left else None

    def give_back(self, stretch: Stretch, position: int) -> None:
        """What is missing of a stretch from ``position`` on is still to be had."""
        rest = tuple(each for each in stretch.chunks if each.offset + each.size > position)
        if rest:
            with self.lock:
                self.left.appendleft(Stretch(rest))

    def came(self, spec: SourceSpec, size: int, wanted: int, chunks: int) -> None:
        """Count, and tell."""
        with self.lock:
            self.fetched.bytes += size
            self.fetched.wanted_bytes += wanted
            self.right += chunks
            if not self.fetched.sources or self.fetched.sources[-1] != spec.where():
                self.fetched.sources.append(spec.where())
            self._done = min(self._total, self._done + wanted)
            self._done_chunks = min(self._all_chunks, self._done_chunks + chunks)
            # Under the lock, so that what is told never shrinks.
            self.order.report(
                Progress(
                    self.asset.name, self._stage, self._done, self._total,
                    self._done_chunks, self._all_chunks,
                )
            )  # fmt: skip


class _Phase:
    """One source's part of a run."""

    def __init__(self, run: _Run, source: Source[Any], spec: SourceSpec) -> None:
        self._run = run
        self._source = source
        self._spec = spec
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        outer = run.order
        self._order = Order(outer.asset, outer.size, outer.scratch, outer.report, self._stopped)

    def _stopped(self) -> bool:
        return self._over.is_set() or self._run.order.cancelled()

    def run(self, work: Callable[[], None], threads: int) -> SourceError | None:
        """Do the work in so many threads; returns why this source does not do, if so."""
        if threads <= 1:
            self._guarded(work)
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
                for _ in range(threads):
                    pool.submit(self._guarded, work)
        if self._run.order.cancelled():
            raise Cancelled(f"fetching {self._run.asset.name} was cancelled")
        if self._error is None or isinstance(self._error, SOURCE_ERRORS):
            return self._error
        raise self._error

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to who waits, whatever it is
            with self._lock:
                # The others end because this one did.
                if self._error is None and not (
                    isinstance(error, Cancelled) and self._over.is_set()
                ):
                    self._error = error
            self._over.set()

    def in_ranges(self) -> None:
        """Get stretch after stretch."""
        while not self._over.is_set() and (stretch := self._run.take()) is not None:
            wanted = {chunk.offset for chunk in stretch.chunks}
            writer = ChunkWriter(self._run.file, stretch.chunks, wanted)
            try:
                self._stretch(writer, sole=self._run.chunks == stretch.chunks)
            finally:
                self._run.give_back(stretch, writer.position)

    def _stretch(self, writer: ChunkWriter, *, sole: bool) -> None:
        """``sole``: the stretch is the whole file, so what an earlier run left is its beginning."""
        left_before = self._run.file.length if sole and len(self._run.chunks) == 1 else 0
        if left_before:
            writer.continue_with(min(left_before, self._run.chunks[0].size - 1))
        retries, order = self._by.retries(), self._order
        while not writer.done:
            at = writer.position
            if writer.between_chunks:
                order = self._of_any_version()
            try:
                self._pieces(writer, order, at, writer.end - at)
            except AssetCorrupt:
                if not left_before:
                    raise
                # Not this source's fault: what was left was wrong. Once, from the beginning.
                left_before = 0
                self._run.file.cut(0)
            except AssetUnavailable as error:
                if writer.position > at:
                    retries.progressed()
                self._wait(retries, error)

    def whole(self) -> None:
        """Have the whole file pass by, and take from it what is missing."""
        retries = self._by.retries()
        missing = sum(stretch.size for stretch in self._run.left)
        self._run.fetched.whole = missing < self._run.asset.size
        while True:
            with self._run.lock:
                wanted = {chunk.offset for each in self._run.left for chunk in each.chunks}
            if not wanted:
                return
            writer = ChunkWriter(self._run.file, self._run.chunks, wanted)
            try:
                self._pieces(writer, self._of_any_version(), 0, self._run.asset.size)
            except AssetUnavailable as error:
                if writer.right:
                    retries.progressed()
                self._wait(retries, error)
            finally:
                self._drop(wanted, writer.position)

    def _drop(self, wanted: set[int], position: int) -> None:
        """Before ``position`` all that was wanted is there."""
        rest = [
            chunk
            for chunk in self._run.chunks
            if chunk.offset in wanted and chunk.offset + chunk.size > position
        ]
        with self._run.lock:
            self._run.left = deque(Stretch((chunk,)) for chunk in rest)

    def _of_any_version(self) -> Order:
        """For bytes that begin with a chunk. Each has a hash, so chunks may come of any versions;
        and the servers of a farm often name the same one differently."""
        return replace(self._order, versions=Versions())

    def _pieces(self, writer: ChunkWriter, order: Order, offset: int, size: int) -> None:
        with closing(self._source.read(self._spec, offset, size, order)) as pieces:
            for piece in pieces:
                before = writer.right
                wanted = writer.take(piece)
                self._run.came(self._spec, len(piece), wanted, writer.right - before)
                self._by.bandwidth.take(len(piece), self._stopped)
                if self._stopped():
                    raise Cancelled(f"fetching {self._run.asset.name} was cancelled")
        if not writer.done:
            raise AssetUnavailable(f"{self._spec.where()} ended too early")

    def _wait(self, retries: Retries, error: AssetUnavailable) -> None:
        """Wait for the next try, or raise the error where there is none."""
        now = self._by.clock.now()
        until = None if self._source.retries_itself else retries.again_at(error, now)
        if until is None:
            raise error
        self._by.observe(
            SourceTriedAgain(self._run.asset.name, self._spec.where(), until - now, str(error))
        )
        self._by.pause_until(until, self._stopped)
        if self._stopped():
            raise Cancelled(f"fetching {self._run.asset.name} was cancelled")

    @property
    def _by(self) -> Fetcher:
        return self._run.by
