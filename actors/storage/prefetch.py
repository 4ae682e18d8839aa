"""After a boot the page cache is empty, and the first load waits for the disk. What was in use
before is read ahead, while nobody else wants the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

STEP_BYTES: Final = 8 << 20
"""Read ahead at once; between two steps it is asked whether to go on."""


def free_memory() -> int:
    """Bytes that could be had without swapping."""
    return int(psutil.virtual_memory().available)


def read_ahead(path: Path, go_on: Callable[[], bool]) -> int:
    """Have a file in the page cache; returns the bytes that were read before ``go_on`` said no.
    Raises ``OSError``."""
    descriptor, done = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0
    try:
        buffer = bytearray(STEP_BYTES)
        while go_on() and (size := os.preadv(descriptor, [buffer], done)):
            done += size
    finally:
        os.close(descriptor)
    return done
