"""Storage: the guardian of model files and other assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.storage.actor import Storage

__all__ = ["Storage"]


def __getattr__(name: str) -> object:
    # The command uses what is in here without the actor, and all that it takes to run one.
    if name == "Storage":
        from actors.storage.actor import Storage

        return Storage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
