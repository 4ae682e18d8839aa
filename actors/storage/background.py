"""What is done with files unasked, and when: read on the disk once a period, read ahead after a
boot. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

SHARE_OF_FREE: Final = 0.5
"""Of the memory that is free: the rest is for what the loaded model needs beside its file."""


def next_to_scrub(
    scrubbed_at: Mapping[str, float], here: Sequence[str], now: float, period_s: float
) -> str | None:
    """The hash of the file whose turn it is: the one that waits longest, if any was last read a
    period ago. A time that has yet to come counts as never."""
    due = {sha256: at if (at := scrubbed_at.get(sha256, 0.0)) <= now else 0.0 for sha256 in here}
    waits_longest = min(due, key=lambda each: due[each], default=None)
    if waits_longest is None or now - due[waits_longest] < period_s:
        return None
    return waits_longest


def times_from_json(text: bytes) -> dict[str, float]:
    """When which file was last read whole; of a text that is none, that none ever was."""
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    return {str(key): float(at) for key, at in data.items() if isinstance(at, int | float)}


def what_to_read_ahead(
    used_at: Mapping[str, float], sizes: Mapping[str, int], free_bytes: int
) -> list[str]:
    """Of the files that are here, those that were in use, the latest first, as many as fit.

    Args:
        used_at: when each was last used, by its hash.
        sizes: bytes of those that are here, by their hash.
        free_bytes: of memory.
    """
    left, chosen = free_bytes * SHARE_OF_FREE, []
    for sha256 in sorted(used_at, key=lambda each: used_at[each], reverse=True):
        if sha256 in sizes and sizes[sha256] <= left:
            chosen.append(sha256)
            left -= sizes[sha256]
    return chosen
