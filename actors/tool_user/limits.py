"""What a tool's process may use, set by the kernel's limits. Standard library only."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

_OPEN_FILES = 256
"""Descriptors a tool may have open: a leak ends here and not at the system's limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process of a tool may use; each of its own children has the same again."""

    cpu_s: int = 30
    memory_mib: int = 256
    """To be mapped beyond what it has when this is set."""
    file_mib: int = 64
    """The largest file that it writes, and all that it prints."""
    output_bytes: int = 64 * 1024
    """The longest result: kept by who writes and reads it, not by the kernel."""

    def apply(self) -> None:
        """Bind this process and those it will start, for good."""
        memory = _mapped_bytes() + self.memory_mib * 2**20
        wanted = [
            (resource.RLIMIT_CORE, 0, 0),
            # One second more for a tool that catches the first signal.
            (resource.RLIMIT_CPU, self.cpu_s, self.cpu_s + 1),
            (resource.RLIMIT_AS, memory, memory),
            (resource.RLIMIT_FSIZE, self.file_mib * 2**20, self.file_mib * 2**20),
            (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        ]
        for what, soft, hard in wanted:
            _, most = resource.getrlimit(what)
            if most != resource.RLIM_INFINITY:
                # The user's own limit is lower: that one it stays.
                soft, hard = min(soft, most), min(hard, most)
            resource.setrlimit(what, (soft, hard))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
