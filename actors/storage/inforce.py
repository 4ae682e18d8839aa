"""What is in force, as this process knows it: read anew where another process has changed it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from actors.storage.catalogue import Catalogue
from actors.storage.changes import left_behind
from actors.storage.outcomes import ListDamaged
from actors.storage.store import AssetStore


class InForce:
    """Keeps the manifest of ``store`` as the lists in the folder say. Safe for threads."""

    def __init__(self, store: AssetStore, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._seen = catalogue.stamp()
        self.on_change: list[Callable[[list[str]], None]] = []
        """Called with the sha256 of files that were in force and, by somebody else's doing, are no
        more: whoever has one loaded has an old one."""

    def refresh(self) -> None:
        """Read the lists anew where they were changed. Quick where they were not."""
        if self._catalogue.stamp() != self._seen:
            self.reload()

    def reload(self) -> list[str]:
        """Read the lists anew. Returns what is wrong with those that are damaged; what is right is
        in force."""
        with self._lock:
            # Before they are read: what changes meanwhile is seen the next time.
            self._seen = self._catalogue.stamp()
            before = self._store.manifest
            self._store.manifest, problems = self._catalogue.as_far_as_it_goes()
            gone = left_behind(before, self._store.manifest)
        for problem in problems:
            self._store.observe(ListDamaged(problem))
        if gone:
            for call in self.on_change:
                call(gone)
        return problems

    def change(self, enact: Callable[[], object]) -> None:
        """Change the lists by ``enact``. Nobody is told: what follows of it is for who does it."""
        with self._lock:
            enact()
            self._seen = self._catalogue.stamp()
            self._store.manifest = self._catalogue.manifest()
