"""A rolling restart: one after the other, and none before the last one is back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from supervision.child import Child, ChildState

_BACK = (ChildState.READY, ChildState.UNAVAILABLE)
_LOST = (ChildState.FAILED, ChildState.STOPPED)


class Rolling:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._present: tuple[str, str] | None = None
        """Name and the epoch that it had before."""

    def add(self, names: Iterable[str]) -> None:
        """These come last, each once."""
        self._waiting += [name for name in dict.fromkeys(names) if name not in self._waiting]

    @property
    def under_way(self) -> bool:
        """Whether anybody's turn is or comes."""
        return self._present is not None or bool(self._waiting)

    def next(self, children: Mapping[str, Child]) -> str | None:
        """Whose turn begins now; None while the present one is not back, or when all were."""
        if self._present is not None:
            name, before = self._present
            child = children[name]
            if child.state not in _BACK or child.epoch == before:
                return None
            self._present = None
        if not self._waiting:
            return None
        name = self._waiting.pop(0)
        self._present = (name, children[name].epoch)
        return name

    def lost(self, children: Mapping[str, Child]) -> tuple[str, list[str]] | None:
        """The one that did not come back, and those whose turn does not come now; None when there
        is no such. What breaks one would break the others too."""
        if self._present is None:
            return None
        name, before = self._present
        child = children[name]
        if child.state not in _LOST or child.epoch == before != "":
            return None
        left, self._waiting, self._present = self._waiting, [], None
        return name, left
