"""Which engine answers, or goes on with an answer. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.messages.supervisor import DirectoryEntry


def choose(ready: Sequence[DirectoryEntry], lost: Collection[str]) -> DirectoryEntry | None:
    """The first engine that is READY and was not lost by this answer; None when there is none.

    ``ready`` stands in the order of preference; ``lost`` holds the epochs of incarnations that
    failed in the middle of this answer. When all that are READY did, the first of them gets another
    try: it may have been the moment and not the engine, and there is nobody else to ask.
    """
    unspoilt = [entry for entry in ready if entry.epoch not in lost]
    return next(iter(unspoilt or ready), None)
