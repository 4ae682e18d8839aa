"""Looks at the files that are there: trusts, hashes, or moves aside what is not the asset."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from actors.storage.manifest import Asset
from actors.storage.outcomes import LocatedAsset, Observe, ProofNotKept, Quarantined
from actors.storage.publishing import fsync_folder, hold_lock, make_folders, remove_tree
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.sources import Progress, Report
from actors.storage.verification import (
    Fingerprint,
    Proof,
    Verdict,
    judge,
    proofs_from_json,
    proofs_to_json,
)
from protocol.errors import Cancelled

PIECE_BYTES: Final = 1 << 20
LOOKS: Final = 3
"""A file that changes every time while it is read is being written; after so many looks it counts
as not there yet."""


class Verifier:
    """Decides what the files below ``folder`` are worth. Keeps no state but on disk.

    Any number of threads and processes can use one folder. Each method raises ``OSError`` where
    the disk fails and ``Cancelled`` when told so.
    """

    def __init__(self, folder: Path, boot_id: str, observe: Observe) -> None:
        self._folder = folder
        self._boot_id = boot_id
        self._observe = observe
        self._cache = folder / "verified.json"
        self.publish_lock = folder / "publish.lock"
        """Held, for milliseconds, by whoever gives a file its final name or takes it away."""

    def locate(
        self, asset: Asset, trust_cache: bool, report: Report, cancelled: IsCancelled
    ) -> LocatedAsset | None:
        """The asset if a file with its hash lies at its path; any other file there is moved aside.

        ``trust_cache`` false hashes the file even if it was proved before.
        """
        path = self._folder / asset.path
        for _ in range(LOOKS):
            found = fingerprint_at(path)
            proof = self._proofs().get(asset.path) if trust_cache else None
            verdict = judge(found, proof, size=asset.size, sha256=asset.sha256)
            if found is None:
                return None
            if verdict is Verdict.WRONG:
                reason = f"it has {found.size} bytes, not {asset.size}"
            elif verdict is Verdict.UNPROVEN:
                sha256, unchanged = hash_file(path, found, asset, report, cancelled)
                if not unchanged:
                    continue
                if sha256 == asset.sha256:
                    self.remember(asset, found, cancelled)
                    return LocatedAsset(asset.name, path, asset.sha256, asset.size)
                reason = f"its sha256 is {sha256}, not {asset.sha256}"
            else:
                return LocatedAsset(asset.name, path, asset.sha256, asset.size)
            if self._quarantine(asset, found, reason, cancelled):
                return None
        return None

    def remember(self, asset: Asset, proved: Fingerprint, cancelled: IsCancelled) -> None:
        """Write down that the file with this fingerprint has the asset's hash.

        The file is no worse for a proof that cannot be kept (a full or read-only disk), so that
        is an event and no error.
        """
        try:
            with hold_lock(self.publish_lock, cancelled):
                proofs = self._proofs() | {
                    asset.path: Proof(fingerprint=proved, sha256=asset.sha256)
                }
                new = self._cache.with_name(self._cache.name + ".tmp")
                new.write_text(proofs_to_json(proofs, self._boot_id), encoding="utf-8")
                # Not fsynced: a cache lost with the power is of another boot anyway.
                new.replace(self._cache)
        except OSError as error:
            self._observe(ProofNotKept(asset.name, str(error)))

    def _proofs(self) -> dict[str, Proof]:
        try:
            return proofs_from_json(self._cache.read_bytes(), self._boot_id)
        except FileNotFoundError:
            return {}

    def _quarantine(
        self, asset: Asset, seen: Fingerprint, reason: str, cancelled: IsCancelled
    ) -> bool:
        """Move aside the file that was ``seen``; false if another one lies there by now.

        One file for each asset is kept, the latest: a disk that goes bad must not fill itself.
        """
        path, aside = self._folder / asset.path, self._folder / "quarantine" / asset.name
        with hold_lock(self.publish_lock, cancelled):
            # Another process may have put the right file there while this one was hashing.
            if fingerprint_at(path) != seen:
                return False
            make_folders(aside.parent)
            remove_tree(aside)
            path.rename(aside)
            fsync_folder(aside.parent)
            fsync_folder(path.parent)
        self._observe(Quarantined(asset.name, aside, reason))
        return True


def fingerprint_at(path: Path) -> Fingerprint | None:
    """What the kernel says of the file at ``path``, following links; None where there is none."""
    try:
        return Fingerprint.of(path.stat())
    except FileNotFoundError:
        return None


def hash_file(
    path: Path, seen: Fingerprint, asset: Asset, report: Report, cancelled: IsCancelled
) -> tuple[str, bool]:
    """The sha256 of the file, and whether it was the one ``seen`` from the first byte to the last.

    Raises ``Cancelled`` between two pieces once told so.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                if cancelled():
                    raise Cancelled(f"verifying {asset.name} was cancelled")
                digest.update(piece)
                done += len(piece)
                report(Progress(asset.name, "verifying", min(done, asset.size), asset.size))
            unchanged = Fingerprint.of(os.fstat(file.fileno())) == seen
    except FileNotFoundError:
        return "", False
    return digest.hexdigest(), unchanged
