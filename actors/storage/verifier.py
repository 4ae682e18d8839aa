"""Looks at the files that are there: trusts, hashes, or moves aside what is not the asset."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from actors.storage.digests import digest_of
from actors.storage.index import (
    PIECE_BYTES,
    chunks_are_known,
    chunks_for,
    whole_chunk,
    write_index,
)
from actors.storage.layout import Layout
from actors.storage.manifest import Asset
from actors.storage.outcomes import LocatedAsset, Observe, ProofNotKept, Quarantined
from actors.storage.publishing import (
    clear_way,
    fsync_folder,
    hold_lock,
    inside,
    make_folders,
    read_own,
    remove_tree,
)
from actors.storage.scrub import damaged
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.sources import Progress, Report
from actors.storage.verification import (
    USE_NOTED_S,
    Fingerprint,
    Proof,
    Verdict,
    judge,
    proofs_from_json,
    proofs_to_json,
    uses_of_another_boot,
    with_proof,
)
from protocol.errors import Cancelled

UNREADABLE: Final = "unreadable"
"""In place of the hash of a file with a bad spot."""
LOOKS: Final = 3
"""A file that changes every time while it is read is being written; after so many looks it counts
as not there yet."""


class Verifier:
    """Decides what the files in an asset folder are worth. Keeps no state but on disk.

    Any number of threads and processes can use one folder. Each method raises ``OSError`` where
    the disk fails and ``Cancelled`` when told so.
    """

    def __init__(
        self,
        layout: Layout,
        boot_id: str,
        observe: Observe,
        wall: Callable[[], float],
        earlier: Callable[[Asset], Mapping[str, int]],
    ) -> None:
        """``wall``: seconds since the Unix epoch. ``earlier``: sizes of the versions that an asset
        had, by their sha256."""
        self._earlier = earlier
        self._layout = layout
        self._boot_id = boot_id
        self._observe = observe
        self._wall = wall

    def locate(
        self, asset: Asset, trust_cache: bool, report: Report, cancelled: IsCancelled
    ) -> LocatedAsset | None:
        """The asset if a file with its hash lies at its path; any other file there is moved aside.

        ``trust_cache`` false hashes the file even if it was proved before.
        """
        path = self._layout.asset(asset)
        for _ in range(LOOKS):
            found = fingerprint_at(path)
            if found is None:
                return None
            proof = self._proofs().get(asset.path)
            verdict = judge(
                found, proof if trust_cache else None,
                size=asset.size, sha256=asset.sha256, now=self._wall(),
            )  # fmt: skip
            if verdict is Verdict.TRUSTED:
                self._note_use(asset, proof, cancelled)
                return located(asset, path)
            if verdict is Verdict.DOUBTED and self._right_by_pieces(asset, found, cancelled):
                self.remember(asset, found, cancelled)
                return located(asset, path)
            sha256 = self._what_it_is(asset, found, proof, verdict)
            pieces: list[str] = []
            if sha256 is None:
                learn = None if chunks_are_known(self._layout, asset) else pieces
                sha256, unchanged = hash_file(path, found, asset, report, cancelled, learn)
                if not unchanged:
                    continue
            if sha256 == asset.sha256:
                self.remember(asset, found, cancelled)
                self.learn(asset, pieces)
                return located(asset, path)
            if self._move_aside(asset, found, sha256, cancelled):
                return None
        return None

    def _what_it_is(
        self, asset: Asset, found: Fingerprint, proof: Proof | None, verdict: Verdict
    ) -> str | None:
        """The hash of a file that is not the asset, where that can be said without reading it:
        empty where it is nobody's. None where only hashing can tell."""
        if proof is not None and proof.fingerprint == found and proof.sha256 != asset.sha256:
            return proof.sha256
        if verdict is Verdict.WRONG and found.size not in self._earlier(asset).values():
            return ""
        return None

    def _move_aside(
        self, asset: Asset, found: Fingerprint, sha256: str, cancelled: IsCancelled
    ) -> bool:
        """Move aside the file that was ``found``; false if another one lies there by now.

        An earlier version is no damage, and somebody may want it back. Of other files one is kept
        for each asset, the latest: a disk that goes bad must not fill itself.
        """
        path, earlier = self._layout.asset(asset), sha256 in self._earlier(asset)
        inside(self._layout.folder, path)
        aside = self._layout.version(sha256) if earlier else self._layout.quarantined(asset)
        with hold_lock(self._layout.publish_lock, cancelled):
            # Another process may have put the right file there while this one was hashing.
            if fingerprint_at(path) != found:
                return False
            make_folders(aside.parent)
            remove_tree(aside)
            path.rename(aside)
            fsync_folder(aside.parent)
            fsync_folder(path.parent)
        if not earlier:
            size = "it is no file"
            if found.size >= 0:
                size = f"it has {found.size} bytes, not {asset.size}"
            reason = f"its sha256 is {sha256}, not {asset.sha256}" if sha256 else size
            self._observe(Quarantined(asset.name, aside, reason))
        return True

    def trusted(self, asset: Asset, cancelled: IsCancelled) -> LocatedAsset | None:
        """See `AssetStore.trusted`."""
        path = self._layout.asset(asset)
        found, proof = fingerprint_at(path), self._proofs().get(asset.path)
        verdict = judge(found, proof, size=asset.size, sha256=asset.sha256, now=self._wall())
        if verdict is not Verdict.TRUSTED:
            return None
        self._note_use(asset, proof, cancelled)
        return located(asset, path)

    def condemn(self, asset: Asset, found: Fingerprint, cancelled: IsCancelled) -> bool:
        """Move aside the file that was ``found``, of which somebody knows that it is damaged."""
        return self._move_aside(asset, found, UNREADABLE, cancelled)

    def remember(self, asset: Asset, proved: Fingerprint, cancelled: IsCancelled) -> None:
        """Write down that the file with this fingerprint has the asset's hash.

        The file is no worse for a proof that cannot be kept (a full or read-only disk), so that
        is an event and no error.
        """
        now = self._wall()
        self._write(
            asset,
            Proof(fingerprint=proved, sha256=asset.sha256, proved_at=now, used_at=now),
            cancelled,
        )

    def used_before_boot(self) -> dict[str, float]:
        """See `AssetStore.used_before_boot`."""
        return uses_of_another_boot(read_own(self._layout.verified) or b"", self._boot_id)

    def learn(self, asset: Asset, pieces: list[str]) -> None:
        """Keep the hashes of a proved file's pieces: when one is damaged, it is known which."""
        if pieces:
            try:
                write_index(self._layout, asset, pieces)
            except OSError as error:
                self._observe(ProofNotKept(asset.name, str(error)))

    def doubt(self, asset: Asset, cancelled: IsCancelled) -> None:
        """What was proved of the file is not enough any more: it is read before its next use."""
        with hold_lock(self._layout.publish_lock, cancelled):
            proofs = self._proofs()
            if proof := proofs.get(asset.path):
                doubted = proof.model_copy(update={"doubted": True})
                self._write_all(proofs | {asset.path: doubted})

    def _right_by_pieces(self, asset: Asset, found: Fingerprint, cancelled: IsCancelled) -> bool:
        """Whether every piece of a file that was proved whole is what it was then. That takes a
        fifth of the time of the whole hash, in which an engine is not back."""
        chunks = chunks_for(self._layout, asset)
        if chunks == whole_chunk(asset):
            return False
        path = self._layout.asset(asset)
        try:
            return not damaged(path, chunks, cancelled, direct=False) and (
                fingerprint_at(path) == found
            )
        except OSError:
            # Whatever it is, reading the whole finds it again and says so.
            return False

    def _note_use(self, asset: Asset, proof: Proof | None, cancelled: IsCancelled) -> None:
        now = self._wall()
        if proof is not None and not 0 <= now - proof.used_at < USE_NOTED_S:
            self._write(asset, proof.model_copy(update={"used_at": now}), cancelled)

    def _write(self, asset: Asset, proof: Proof, cancelled: IsCancelled) -> None:
        try:
            with hold_lock(self._layout.publish_lock, cancelled):
                self._write_all(with_proof(self._proofs(), asset.path, proof))
        except OSError as error:
            self._observe(ProofNotKept(asset.name, str(error)))

    def _write_all(self, proofs: dict[str, Proof]) -> None:
        cache = self._layout.verified
        clear_way(cache)
        new = cache.with_name(cache.name + ".tmp")
        new.write_text(proofs_to_json(proofs, self._boot_id), encoding="utf-8")
        # Not fsynced: a cache lost with the power is of another boot anyway.
        new.replace(cache)

    def _proofs(self) -> dict[str, Proof]:
        return proofs_from_json(read_own(self._layout.verified) or b"", self._boot_id)


def located(asset: Asset, path: Path) -> LocatedAsset:
    """The asset, which lies there and was proved."""
    return LocatedAsset(asset.name, path, asset.sha256, asset.size, asset.version)


def fingerprint_at(path: Path) -> Fingerprint | None:
    """What the kernel says of the file at ``path``, following links; None where there is none.
    What is no file has a size that no file has: -1."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        try:
            # A circle of links: the one that lies there is no file.
            found = path.lstat()
        except OSError:
            # The circle is on the way, and behind it lies nothing.
            return None
    fingerprint = Fingerprint.of(found)
    if not stat.S_ISREG(found.st_mode):
        return fingerprint.model_copy(update={"size": -1})
    return fingerprint


def hash_file(
    path: Path,
    seen: Fingerprint,
    asset: Asset,
    report: Report,
    cancelled: IsCancelled,
    pieces: list[str] | None = None,
) -> tuple[str, bool]:
    """The sha256 of the file, and whether it was the one ``seen`` from the first byte to the last.

    ``pieces`` is given the hash of each `PIECE_BYTES` of it, see `actors.storage.index`. Raises
    ``Cancelled`` between two pieces once told so.
    """
    digest, done = hashlib.sha256(), 0
    # One buffer for all of it: a new one for each piece costs a tenth of the hashing.
    buffer = memoryview(bytearray(PIECE_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                if cancelled():
                    raise Cancelled(f"verifying {asset.name} was cancelled")
                digest.update(buffer[:size])
                if pieces is not None:
                    pieces.append(digest_of(buffer[:size], "blake3"))
                done += size
                report(Progress(asset.name, "verifying", min(done, asset.size), asset.size))
            unchanged = Fingerprint.of(os.fstat(file.fileno())) == seen
    except (FileNotFoundError, NotADirectoryError):
        return "", False
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # A bad spot on the disk: it is damaged, whatever can still be read of it.
        return UNREADABLE, True
    return digest.hexdigest(), unchanged
