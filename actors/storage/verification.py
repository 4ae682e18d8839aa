"""Is this file what the manifest promises? The decisions, and the cache that saves hashing twice.

Hashing a large model takes seconds, and an engine restarts in milliseconds. So a file that was
hashed since the machine booted, and that the kernel says is untouched since, is trusted:

    stat ──► judge ──► MISSING | WRONG | TRUSTED | DOUBTED | UNPROVEN ──hash──► verified.json

Everything here is pure. The cache is a shortcut and never the truth: a text that cannot be read
as a cache is an empty cache. A proof ends with the boot, with its time to live, and when too many
others were used after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

MOST_PROOFS: Final = 1024
"""Kept; those used longest ago go first."""
TIME_TO_LIVE_S: Final = 7 * 86400.0
"""After which a file is hashed again even where nothing seems to have touched it: a machine may
run for a year."""
USE_NOTED_S: Final = 3600.0
"""A use is written down when the last one that was is this old: not at each of them."""


class Fingerprint(BaseModel):
    """What the kernel says of a file. Any write, rename or replacement changes it.

    The change time is in it because it is the one time that no ordinary program can set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Fingerprint:
        """The fingerprint in a stat result."""
        return cls(
            device=stat.st_dev,
            inode=stat.st_ino,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            ctime_ns=stat.st_ctime_ns,
        )


class Proof(BaseModel):
    """A file with this fingerprint had this hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fingerprint: Fingerprint
    sha256: str
    proved_at: float
    """Seconds since the Unix epoch."""
    used_at: float
    doubted: bool = False
    """Something speaks against the file since: it is read before its next use."""


Proofs = Mapping[str, Proof]
"""By the asset's path."""


class Verdict(Enum):
    """What is known about a file before reading it."""

    MISSING = "there is no file"
    WRONG = "its size alone says it is not the asset"
    TRUSTED = "it was hashed since boot and is untouched"
    DOUBTED = "it was hashed since boot and is untouched, and something speaks against it"
    UNPROVEN = "only hashing can tell"


def judge(
    found: Fingerprint | None, proof: Proof | None, *, size: int, sha256: str, now: float
) -> Verdict:
    """What to make of a file, given what the kernel says and what was proved before.

    1. Nothing there is missing.
    2. Another size is another file, whatever was proved.
    3. A proof counts for exactly this fingerprint and exactly the hash now expected: a manifest
       that changes its mind makes old proofs worthless. One that is too old, or of a time that has
       yet to come, counts no more.
    """
    if found is None:
        return Verdict.MISSING
    if found.size != size:
        return Verdict.WRONG
    if proof is None or proof.fingerprint != found or proof.sha256 != sha256:
        return Verdict.UNPROVEN
    if not 0 <= now - proof.proved_at < TIME_TO_LIVE_S:
        return Verdict.UNPROVEN
    return Verdict.DOUBTED if proof.doubted else Verdict.TRUSTED


def with_proof(proofs: Proofs, path: str, proof: Proof) -> dict[str, Proof]:
    """The proofs with one more, without those that were used longest ago where there are too
    many."""
    every = {**proofs, path: proof}
    kept = sorted(every, key=lambda each: every[each].used_at)[-MOST_PROOFS:]
    return {each: every[each] for each in kept}


class _CacheFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    boot_id: str
    proofs: dict[str, Proof]


def proofs_from_json(text: str | bytes, boot_id: str) -> dict[str, Proof]:
    """The proofs of this boot. Another boot's, or a text that is no cache, give none.

    A proof dies with the boot because a disk can lose or mix up writes across a power cut while
    size and times look right.
    """
    try:
        cache = _CacheFile.model_validate_json(text)
    except ValidationError:
        return {}
    return cache.proofs if cache.boot_id == boot_id else {}


def uses_of_another_boot(text: str | bytes, boot_id: str) -> dict[str, float]:
    """When each file was last used, by its hash, in a text of another boot than ``boot_id``."""
    try:
        cache = _CacheFile.model_validate_json(text)
    except ValidationError:
        return {}
    if cache.boot_id == boot_id:
        return {}
    return {proof.sha256: proof.used_at for proof in cache.proofs.values()}


def proofs_to_json(proofs: Proofs, boot_id: str) -> str:
    """The text that `proofs_from_json` reads."""
    return _CacheFile(boot_id=boot_id, proofs=dict(proofs)).model_dump_json(indent=1)
