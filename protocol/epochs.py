"""What an incarnation is called, and who dies together. Pure.

An epoch is ``BOOT-SPAWNER-NUMBER``: the boot of the supervisor, which of its spawners made the
process, and which of all processes it is. A process dies with its spawner and its supervisor.
"""

from __future__ import annotations


def new_epoch(boot: str, spawner: int, number: int) -> str:
    """Of the process of this number, counted from 1 over the boot, as spawners are."""
    return f"{boot}-{spawner}-{number}"


def same_makers(one: str, other: str) -> bool:
    """Whether these epochs, each alone or after ``NAME.``, are of the same spawner: where they are
    not, the first process may have died of nothing but its spawner's or its supervisor's end."""
    return _makers(one) == _makers(other)


def _makers(epoch: str) -> str:
    return epoch.rpartition(".")[2].rpartition("-")[0]
