"""What is known of a stored file, and the name on disk that holds all of it. Pure.

::

    traces+2026-01-31.jsonl@1769817600000000.0.48211.blake3-<64 hexadecimal digits>
    └ name, / as + ───────┘ └ revision ────┘ │ └ bytes └ checksum
                                             └ expires at, 0: never

So the folder is the index, and one rename publishes a file and all that is known of it. The content
is as it was saved: ``cat`` shows it, and ``b3sum`` proves it. Of several revisions of a name the
highest counts; the others are what a crash left between the renaming of a new one and the removal
of the old.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from actors.storage.stored.names import check_name
from protocol.errors import InvalidRequest

_CHECKSUM = re.compile(r"blake3-[0-9a-f]{64}")
_ON_DISK = re.compile(r"([^@]+)@([0-9]{1,19})\.([0-9]{1,12})\.([0-9]{1,15})\.(blake3-[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One revision of a file."""

    owner: str
    name: str
    revision: int
    """When it was saved, in microseconds since the Unix epoch; more than any earlier one's of the
    name, also when the clock went back."""
    expires_at: int
    """Seconds since the Unix epoch; 0: never."""
    size: int
    """Bytes."""
    checksum: str
    """``blake3-HEX`` of the content."""

    @property
    def saved_at(self) -> float:
        """Seconds since the Unix epoch."""
        return self.revision / 1e6

    def expired(self, now: float) -> bool:
        """Whether it is not there any more at ``now``, seconds since the Unix epoch."""
        return 0 < self.expires_at <= now

    @property
    def disk_name(self) -> str:
        """The name of its file in the owner's folder, at most 241 characters of ASCII."""
        name = self.name.replace("/", "+")
        return f"{name}@{self.revision}.{self.expires_at}.{self.size}.{self.checksum}"


def from_disk_name(owner: str, text: str) -> StoredFile | None:
    """The file with this name on disk; None for a name that is none of ours."""
    found = _ON_DISK.fullmatch(text)
    if found is None:
        return None
    try:
        name = check_name(found[1].replace("+", "/"))
    except InvalidRequest:
        return None
    file = StoredFile(owner, name, int(found[2]), int(found[3]), int(found[4]), found[5])
    # Numbers with zeros before them would make two names of one file.
    return file if file.disk_name == text else None


def is_checksum(text: str) -> bool:
    """Whether it has the form of one."""
    return _CHECKSUM.fullmatch(text) is not None


def expiry(now: float, ttl_s: float | None) -> int:
    """When a file expires that is saved at ``now``: a whole second, and none too early."""
    return 0 if ttl_s is None else math.ceil(now + ttl_s)


def revision_after(now: float, before: StoredFile | None) -> int:
    """The revision of a file that is saved at ``now`` in place of ``before``."""
    return max(int(now * 1e6), 0 if before is None else before.revision + 1)
